"""Recorded hosts and random facts for the tests of doctor."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from hypothesis import strategies as st

from mlship.doctor.diagnose import findings
from mlship.doctor.facts.fact import UNKNOWN, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import read_facts
from mlship.doctor.finding import Finding

FOLDER = Path(__file__).parents[1] / "doctor"
T = TypeVar("T")


@dataclass(frozen=True)
class Expected:
    """The expected diagnosis of a host.

    Attributes:
        less: what may be named instead where a fact is not known: the same trouble by a wider name.
    """

    causes: tuple[str, ...]
    follows: tuple[str, ...] = ()
    unexplained: tuple[str, ...] = ()
    less: tuple[str, ...] = ()
    likely: bool = False


@cache
def hosts(kind: str = "hosts") -> dict[str, Facts]:
    """Facts by file name; those in "hosts" have an entry in expected.toml, those in "healthy" need none."""
    return {path.stem: read_facts(path) for path in sorted((FOLDER / kind).glob("*.json"))}


@cache
def found(name: str, kind: str = "hosts") -> tuple[Finding, ...]:
    """The findings of a recorded host."""
    return findings(hosts(kind)[name])[0]


def rule_of(name: str) -> str:
    """The rule that a faulty host was recorded for."""
    return name.partition("--")[0]


def family_of(name: str) -> str:
    """The kind of a healthy machine: the first words of its name."""
    return "-".join(name.removeprefix("judge-").split("-")[:1])


@cache
def expected() -> dict[str, Expected]:
    table = tomllib.loads((FOLDER / "expected.toml").read_text(encoding="utf-8"))
    return {name: _expected(entry) for name, entry in table.items()}


def _expected(entry: dict[str, list[str] | bool]) -> Expected:
    known = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
    return Expected(**known, likely=entry.get("likely") is True)


def without(facts: Facts, path: str) -> Facts:
    """The facts with one of them unknown; for a group, everything in it."""
    return put(facts, path, UNKNOWN)


def put(facts: Facts, path: str, value: object) -> Facts:
    """The facts with another value for one of them; UNKNOWN for a group makes everything in it unknown."""
    return _put(facts, path.split("."), value)


def _put(group: T, path: list[str], value: object) -> T:
    if not is_dataclass(group) or isinstance(group, type):
        return group
    inside: object = getattr(group, path[0])
    blank = _groups(type(group)).get(path[0], UNKNOWN) if value == UNKNOWN else value
    return replace(group, **{path[0]: _put(inside, path[1:], value) if path[1:] else blank})


def _groups(kind: type) -> dict[str, object]:
    """Fields that hold a group, never UNKNOWN, each with its empty group."""
    return {field.name: field.default for field in fields(kind) if is_dataclass(field.default)}


@st.composite
def mixed(draw: st.DrawFn) -> Facts:
    """A mixed host: each fact is that of a random recorded host, or absent, unreadable or unknown.

    Far more hosts than are recorded, of values that rules do react to.
    """
    pool = [*hosts().values(), *hosts("healthy").values()]
    chosen = tuple(draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3)))
    return _mix(draw, chosen, draw(st.sampled_from((0, 5, 30))))


def _mix(draw: st.DrawFn, choices: tuple[T, ...], lost: int) -> T:
    """One group mixed from several; `lost` percent of its facts are lost."""
    first = choices[0]
    assert is_dataclass(first)
    assert not isinstance(first, type)
    changes: dict[str, object] = {}
    for field in fields(first):
        values: list[object] = [getattr(choice, field.name) for choice in choices]
        if field.name in _groups(type(first)):
            changes[field.name] = _mix(draw, tuple(values), lost)
        elif field.name != "schema":
            changes[field.name] = _one(draw, values, lost)
    return replace(first, **changes)


def _one(draw: st.DrawFn, values: list[object], lost: int) -> object:
    value = values[0] if len(values) == 1 else draw(st.sampled_from(values))
    if lost and draw(st.integers(0, 99)) < lost:
        return draw(st.sampled_from((UNKNOWN, None, Unreadable("permission denied", root=True))))
    return value


def leaves(value: object, path: str = "") -> Iterator[str]:
    """Paths of the known facts in a group."""
    if not is_dataclass(value) or isinstance(value, type):
        return
    for field in fields(value):
        inside: object = getattr(value, field.name)
        here = f"{path}.{field.name}".lstrip(".")
        if field.name in _groups(type(value)):
            yield from leaves(inside, here)
        elif inside != UNKNOWN:
            yield here
