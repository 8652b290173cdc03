"""JSON paths: every value of a JSON document has one, and what is no path is refused."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from mlship.json_path import parse_path, values_at

JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def paths(value: JsonValue, path: str = "$") -> Iterator[tuple[str, JsonValue]]:
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            quoted = key.replace("\\", "\\\\").replace("'", "\\'")
            yield from paths(inner, f"{path}['{quoted}']")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, f"{path}[{index}]")
            yield from paths(inner, f"{path}[{index - len(value)}]")


@given(JSON)
def test_every_value_is_found_at_its_path(document: JsonValue) -> None:
    for path, value in paths(document):
        assert values_at(document, path) == (value,)


@given(JSON, st.text(max_size=8))
def test_any_text_is_a_path_or_refused(document: JsonValue, text: str) -> None:
    try:
        parse_path(f"${text}")
    except ValueError:
        return
    assert len(values_at(document, f"${text}")) <= 1


@pytest.mark.parametrize(
    ("path", "steps"),
    [
        ("$", ()),
        ("$.boxes[0].label", ("boxes", 0, "label")),
        ('$["two words"][-1]', ("two words", -1)),
        ("$.größe", ("größe",)),
    ],
)
def test_steps(path: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(path) == steps


@pytest.mark.parametrize("path", ["", "label", "$.", "$..label", "$[*]", "$.a b", "$[0", "$['a]", "$[1:2]", "$.0"])
def test_what_names_no_single_value_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a JSON path"):
        parse_path(path)


@pytest.mark.parametrize("path", ["$.b", "$.a.b", "$.a[1]", "$.a[-2]", "$[0]"])
def test_a_path_to_nothing_finds_nothing(path: str) -> None:
    assert values_at({"a": [1]}, path) == ()
