"""Shapes, finiteness and distances of a model's answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from mlship.smoke.output import arrays, deviation_from, fits, not_finite, numbers, shape

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.5, ()),
        ("label", ()),
        ([], (0,)),
        ([1, 2, 3], (3,)),
        ([[1, 2], [3, 4], [5, 6]], (3, 2)),
        ([[[]]], (1, 1, 0)),
        ([[1, 2], [3]], None),
        ([1, [2]], None),
        ([["a", "b"]], (1, 2)),
    ],
)
def test_shape(value: JsonValue, expected: tuple[int, ...] | None) -> None:
    assert shape(value) == expected


def test_arrays_are_found_where_dicts_hold_them() -> None:
    value: JsonValue = {"label": [1, 2], "deep": {"scores": [[1.0, 2.0]]}}
    assert {(array.path, array.shape) for array in arrays(value)} == {("label", (2,)), ("deep.scores", (1, 2))}
    assert [array.path for array in arrays([{"score": 1}, {"score": 2}])] == ["[0].score", "[1].score"]


@pytest.mark.parametrize(
    ("found", "declared", "expected"),
    [
        ((2, 10), (None, 10), True),
        ((2, 10), (2, 10), True),
        ((2, 10), (None, 9), False),
        ((2, 10), (10,), False),
        ((), (), True),
        (None, (None,), False),
        ((0,), (None,), True),
    ],
)
def test_fits(found: tuple[int, ...] | None, declared: tuple[int | None, ...], expected: bool) -> None:
    assert fits(found, declared) is expected


def test_booleans_are_no_numbers_and_huge_integers_are_not_finite() -> None:
    assert list(numbers([True, None, "1"])) == []
    assert not_finite({"a": [1, 10**400]}) == [("a[1]", math.inf)]


def test_every_bad_number_is_found_with_its_path() -> None:
    found = not_finite({"scores": [[1.0, math.nan], [-math.inf, 2.0]]})
    assert [path for path, _ in found] == ["scores[0][1]", "scores[1][0]"]


@given(VALUES)
def test_everything_equals_itself(value: JsonValue) -> None:
    assert deviation_from(value, value, 0, 0).equal


@given(VALUES, VALUES)
def test_comparison_never_fails_and_is_false_for_values_that_json_distinguishes(
    value: JsonValue, golden: JsonValue
) -> None:
    found = deviation_from(value, golden, 0, 0)
    if found.equal:
        assert [path for path, _ in numbers(value)] == [path for path, _ in numbers(golden)]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1), st.floats(0, 10))
def test_tolerance_is_relative_to_the_recorded_number(golden: float, rtol: float, atol: float) -> None:
    allowed = atol + rtol * abs(golden)
    assert deviation_from(golden + allowed / 2, golden, rtol, atol).equal or not math.isfinite(golden + allowed)
    far = golden + 2 * allowed + 1 + abs(golden)
    assert not deviation_from(far, golden, rtol, atol).equal or not math.isfinite(allowed) or far - golden <= allowed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_tolerance_hides_what_is_not_finite(bad: float) -> None:
    assert not deviation_from([bad], [1.0], 1, 1e9).equal
    assert not deviation_from([1.0], [bad], 1, 1e9).equal


def test_the_worst_deviation_is_named() -> None:
    found = deviation_from({"s": [1.0, 2.0, 3.0]}, {"s": [1.0, 2.5, 3.1]}, 1e-3, 1e-5)
    assert (found.numbers, found.off, found.path) == (3, 2, "s[1]")
    assert found.difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("value", "golden", "words"),
    [
        ({"a": 1}, {"b": 1}, "the output has the keys a, recorded were b"),
        ({"a": [1]}, {"a": [1, 2]}, "a has 1 entries, recorded were 2"),
        ({"a": ["cat"]}, {"a": ["dog"]}, "a[0] is cat, recorded was dog"),
        ([1], {"a": 1}, "the output is [1], recorded was {'a': 1}"),
        ([True], [1], "[0] is True, recorded was 1"),
        ([1], ["1"], "[0] is 1, recorded was 1"),
    ],
)
def test_where_two_answers_are_not_alike_is_said(value: JsonValue, golden: JsonValue, words: str) -> None:
    assert deviation_from(value, golden, 1, 1).mismatch == words
