"""Conditions on figures: the grammar is closed, and what is unknown never decides."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.shadow.condition import parse_condition

NAMES = ("psi", "rows", "hours")
NUMBERS = st.floats(-5, 5).map(lambda number: round(number, 2)) | st.integers(-5, 5)
VALUES = st.fixed_dictionaries({name: st.none() | NUMBERS for name in NAMES})


def _side(value: object) -> str:
    return str(value)


@st.composite
def comparison(draw: st.DrawFn) -> str:
    name, other = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES) | NUMBERS.map(_side))
    sides = draw(st.permutations([name, other, *([draw(NUMBERS.map(_side))] if draw(st.booleans()) else [])]))
    operators = [draw(st.sampled_from(["<", "<=", ">", ">="])) for _ in sides[1:]]
    return " ".join((sides[0], *(f"{one} {side}" for one, side in zip(operators, sides[1:], strict=True))))


CONDITIONS = st.recursive(
    comparison(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=5,
)


def python(text: str, values: Mapping[str, float | None]) -> bool:
    return bool(eval(text, {"__builtins__": {}}, dict(values)))


@given(CONDITIONS, st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS)))
def test_known_figures_decide_as_in_python(text: str, values: dict[str, float]) -> None:
    assert parse_condition(text, NAMES).holds(values) is python(text, values)


@given(CONDITIONS, VALUES, st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, NUMBERS)), min_size=1, max_size=20))
def test_an_answer_holds_whatever_the_unknown_turns_out_to_be(
    text: str, values: dict[str, float | None], filled: list[dict[str, float]]
) -> None:
    found = parse_condition(text, NAMES).holds(values)
    for other in filled:
        whole = {name: other[name] if value is None else value for name, value in values.items()}
        assert found is None or found is python(text, whole)


@given(CONDITIONS)
def test_nothing_known_never_holds(text: str) -> None:
    for unknown in (None, math.nan):
        assert parse_condition(text, NAMES).holds(dict.fromkeys(NAMES, unknown)) is None


@given(st.text() | st.text("psirowhu <>=()-.0123456789ejx_andort#:,[]'", max_size=60))
def test_any_text_is_a_condition_or_the_users_mistake(text: str) -> None:
    try:
        parsed = parse_condition(text, NAMES)
    except UsageError:
        pass
    else:
        assert parsed.holds(dict.fromkeys(NAMES, 1.0)) is python(text.strip(), dict.fromkeys(NAMES, 1.0))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "invalid syntax"),
        ("psi", "`psi` is not a comparison"),
        ("True", "`True` is not a comparison"),
        ("1 < 2", "`1 < 2` names no figure"),
        ("drift < 1", "unknown figure `drift`"),
        ("psi == 0", "`Eq` is not one of"),
        ("psi < True", "`True` is not a finite number"),
        ("psi < 'x'", "`'x'` is not a finite number"),
        ("psi < 1e999", "is not a finite number"),
        (f"psi < {'9' * 400}", "is not a finite number"),
        ("psi < 1 + 1", "`1 + 1` is neither a figure nor a number"),
        ("psi < rows()", "`rows()` is neither"),
        ("psi.real < 1", "`psi.real` is neither"),
        ("(psi < 1) < rows", "is neither"),
        ("psi < 1 if rows > 1 else rows > 2", "is not a comparison"),
        ("psi < 1, rows > 1", "is not a comparison"),
        ("[psi < 1]", "is not a comparison"),
        ("psi < 1 # and rows > 5", "it has a comment"),
        ("psi < 1\0", "null bytes"),
        ("(" * 240 + "psi < 1" + ")" * 240, "too many nested"),
        ("psi < 1 and " * 50 + "psi < 1", "longer than 500 characters"),
        ("psi < 1and rows > 1", "invalid decimal literal"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_condition(text, NAMES)
    assert why in error.value.message


def test_comparisons_and_their_figures_are_listed_in_order() -> None:
    parsed = parse_condition("not (psi<0.1 or rows > 5) and 1 <= hours", NAMES)
    assert [(part.text, part.figures) for part in parsed.comparisons] == [
        ("psi < 0.1", ("psi",)),
        ("rows > 5", ("rows",)),
        ("1 <= hours", ("hours",)),
    ]
