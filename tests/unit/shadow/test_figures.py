"""Figures from the records of a shadow: each is right, or unknown with a reason."""

import json
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.shadow.figures import FEWEST, FEWEST_FOR_P99, MEANINGS, Figure, shadow_figures
from mlship.shadow.records import read_records
from tests.helpers.shadow_records import shadow_line, shadow_lines


def found(*lines: bytes) -> dict[str, Figure]:
    return dict(shadow_figures(read_records(lines)))


def values(*lines: bytes) -> dict[str, float | None]:
    return {name: figure.value for name, figure in found(*lines).items()}


def test_a_day_of_a_good_candidate() -> None:
    lines = [*shadow_lines(1441)]
    lines[7] = shadow_line(7, outcome="differ", difference=0.5, primary_ms=4.0).encode()
    assert values(*lines) == {
        "agreement": 1440 / 1441,
        "error_rate": 0,
        "dropped_rate": 0,
        "difference": 0.5,
        "psi": 0,
        "p50_ratio": 1.1,
        "p99_ratio": 1.1,
        "memory_ratio": 1.5,
        "rows": 1441,
        "hours": 24,
    }


def test_errors_count_against_a_candidate() -> None:
    failed = {"outcome": "error", "error": "TimeoutError", "candidate_ms": None, "difference": None}
    lines = [*shadow_lines(980), *(shadow_line(number, **failed).encode() for number in range(980, 1000))]
    seen = found(*lines)
    assert (seen["agreement"].value, seen["error_rate"].value) == (0.98, 0.02)
    assert seen["p50_ratio"].value == 1.1
    assert seen["p99_ratio"] == Figure(None, "too many copies failed for the 99% percentile")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{", "line 1501 is not a record of a shadow"),
        (b"\xff\n", "line 1501 is not a record"),
        (b"null\n", "line 1501 is not a record"),
        (shadow_line(1, dropped=2).encode(), "of a shadow: this copy was sent, so fewer"),
        (shadow_line(1, offered=0).encode(), "fewer copies were dropped than offered"),
        (shadow_line(1, offered=10**400).encode(), "line 1501 is not a record"),
        (shadow_line(1)[:-9].encode(), "line 1501 is not a record"),
        *(
            (shadow_line(1, **{name: None}).encode(), f"{name}: Field required")
            for name in ("time", "run", "url", "primary_version", "outcome", "primary_ms", "offered", "dropped")
        ),
        *(
            (shadow_line(1, **{name: None}).encode(), "an answer lacks one of")
            for name in ("candidate_ms", "difference", "primary", "candidate")
        ),
        (shadow_line(1, primary_ms=math.nan).encode(), "primary_ms: Input should be a finite number"),
        (shadow_line(1, primary_ms="2").encode(), "primary_ms: Input should be a valid number"),
        (shadow_line(1, primary={"y": 10**400}).encode(), "is not a record of a shadow"),
        (shadow_line(1, outcome="fine").encode(), "outcome: Input should be 'agree', 'differ' or 'error'"),
        (shadow_line(1, new=1).encode(), "new: Extra inputs are not permitted"),
        (shadow_line(1, url="http://other").encode(), "records of several candidates"),
        (shadow_line(1, candidate_version="3").encode(), "records of several versions of the candidate: 2, 3"),
        (shadow_line(1, primary_version="0").encode(), "records of several versions of the primary: 0, 1"),
    ],
)
def test_a_line_that_is_wrong_makes_everything_unknown(bad: bytes, why: str) -> None:
    for seen in found(*shadow_lines(1500), bad).values():
        assert seen.value is None
        assert why in seen.basis


@pytest.mark.parametrize("lines", [[], [b"\n", b" \n"]])
def test_no_records_make_everything_unknown(lines: list[bytes]) -> None:
    assert found(*lines) == dict.fromkeys(MEANINGS, Figure(None, "no records"))


@given(st.lists(st.integers(0, 299), min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_a_record_that_is_repeated_makes_everything_unknown(numbers: list[int], order: random.Random) -> None:
    """As of a file that was rotated by copying; the order of records does not matter."""
    lines = [*shadow_lines(300), *(f"{shadow_line(number)}".encode() for number in numbers)]
    order.shuffle(lines)
    word = "repeated record" if len(numbers) == 1 else "repeated records"
    assert {figure.basis for figure in found(*lines).values()} == {f"{len(numbers)} {word}: pass each file once"}


def test_the_order_of_records_does_not_matter() -> None:
    lines = [*shadow_lines(300)]
    assert found(*lines) == found(*lines[::-1])


def test_too_few_records_are_unknown() -> None:
    few = values(*shadow_lines(FEWEST - 1))
    assert {name for name, value in few.items() if value is not None} == {"rows", "hours"}
    enough = values(*shadow_lines(FEWEST))
    assert {name for name, value in enough.items() if value is None} == {"p99_ratio"}
    assert None not in values(*shadow_lines(FEWEST_FOR_P99)).values()
    assert values(*shadow_lines(1))["hours"] is None


def test_what_the_records_lack_is_unknown() -> None:
    seen = found(*shadow_lines(FEWEST, candidate_bytes=None))
    assert seen["memory_ratio"].value is None
    text = {"primary": {"": "free text"}, "candidate": {"": "other"}}
    lines = []
    for number in range(FEWEST):
        record = json.loads(shadow_line(number, outcome="differ", primary={"": f"text {number}"}, candidate=text))
        lines.append(json.dumps({**record, "candidate": {"": "x"}, "difference": None}).encode())
    seen = found(*lines)
    assert seen["difference"] == Figure(None, "200 answers have other places or kinds of values")
    assert seen["psi"] == Figure(None, "no value of the outputs is a number or a class")


def test_gaps_are_no_hours() -> None:
    day = [shadow_line(number).encode() for number in (*range(61), *range(1381, 1441))]
    assert values(*day)["hours"] == pytest.approx(1 + 59 / 60)
    assert "1 gap of more" in found(*day)["hours"].basis


def test_dropped_copies_are_counted_over_restarts() -> None:
    first = [shadow_line(n, run="a", offered=2 * n + 2, dropped=n + 1).encode() for n in range(100)]
    second = [shadow_line(n, run="b", offered=n + 1).encode() for n in range(100, 200)]
    assert found(*first, *second)["dropped_rate"] == Figure(100 / 400, "100 of 400 copies")


def _answers(ours: list[object], other: list[object]) -> Iterator[bytes]:
    for number, (one, two) in enumerate(zip(ours, other, strict=True)):
        yield shadow_line(number, primary={"y": one}, candidate={"y": two}).encode()


@given(st.integers(0, 1 << 30), st.floats(-1, 1), st.floats(0.5, 2))
def test_psi_equals_numpys(seed: int, shift: float, scale: float) -> None:
    chance = np.random.default_rng(seed)
    ours, other = chance.normal(size=400), chance.normal(size=400) * scale + shift
    edges = np.quantile(ours, np.arange(1, 10) / 10, method="inverted_cdf")
    one, two = (
        np.maximum(np.bincount(np.searchsorted(edges, side), minlength=10) / 400, 0.0001) for side in (ours, other)
    )
    expected = float(np.sum((two - one) * np.log(two / one)))
    seen = values(*_answers([*map(float, ours)], [*map(float, other)]))["psi"]
    assert seen == pytest.approx(expected, abs=0.01)  # a value may lie within a millionth of an edge


@pytest.mark.parametrize(
    ("candidate", "drifts"),
    [
        (lambda value: value, False),
        (lambda value: value + 1e-9, False),  # clusters of equal values lie on the edges
        (lambda value: 0.9, True),
        (lambda value: None, True),
        (lambda value: None if random.random() < 0.2 else value, True),
        (lambda value: "text", True),
        (lambda value: True, True),
    ],
)
def test_psi_sees_a_drift_of_any_kind(candidate: object, drifts: bool) -> None:
    assert callable(candidate)
    ours: list[object] = [0.1, 0.5, 0.9, 0.9] * 100
    psi = values(*_answers(ours, [candidate(value) for value in ours]))["psi"]
    assert psi is not None
    assert (psi > 0.1) is drifts


def test_psi_of_classes() -> None:
    ours: list[object] = ["cat", "dog"] * 200
    other: list[object] = ["cat", "cat", "cat", "dog"] * 100
    assert values(*_answers(ours, ours))["psi"] == 0
    assert values(*_answers(ours, other))["psi"] == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5))
