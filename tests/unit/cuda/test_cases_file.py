"""cases.toml is well formed and consistent; test_match.py checks that mlship agrees with it."""

import re
import tomllib
from collections import Counter

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from pydantic import ValidationError

from tests.helpers.cuda_cases import FILE, TABLE, Case, ChoiceCase, Keyword, Table

RUNS: set[Keyword] = {"native", "minor-version", "ptx-jit", "cpu-only", "cuda-in-cpu-project"}
UNKNOWN: set[Keyword] = {"unknown-release", "unknown-gpu", "jetson", "nothing-known"}


@pytest.mark.parametrize("part", ["locks", "hosts", "case", "choice"])
def test_an_unknown_key_fails(part: str) -> None:
    data = tomllib.loads(FILE.read_text(encoding="utf-8"))
    entries = data[part]
    (next(iter(entries.values())) if isinstance(entries, dict) else entries[0])["becuase"] = "native"
    with pytest.raises(ValidationError, match="becuase"):
        Table.model_validate(data)


def test_enough_of_each() -> None:
    assert len(TABLE.case) >= 150
    assert len(TABLE.choice) >= 25
    assert {case.outcome for case in TABLE.case} == {"runs", "refused", "unknown"}


def test_no_case_stands_twice() -> None:
    cases = Counter((case.lock, frozenset(case.hosts)) for case in TABLE.case)
    choices = Counter((frozenset(choice.asks), frozenset(choice.hosts)) for choice in TABLE.choice)
    assert [key for key, times in (*cases.items(), *choices.items()) if times > 1] == []


def test_names_exist_and_all_are_used() -> None:
    assert {case.lock for case in TABLE.case} == set(TABLE.locks)
    assert {case.doc for case in TABLE.case} == set(TABLE.docs)
    fleets = [case.hosts for case in TABLE.case] + [choice.hosts for choice in TABLE.choice]
    assert {name for fleet in fleets for name in fleet} == set(TABLE.hosts)


def test_pins_are_versions_and_stand_once() -> None:
    for lock in TABLE.locks:
        pins = [pin.split("==") for pin in TABLE.locks[lock].pins]
        assert len({name for name, _ in pins}) == len(pins)
        assert all(str(Version(version)) for _, version in pins)
        requirements = [Requirement(extra) for extra in TABLE.locks[lock].extras]
        assert all(ask.extras and ask.name in {name for name, _ in pins} for ask in requirements)


@pytest.mark.bank(kind=lambda case: (case.outcome, case.because))
@pytest.mark.parametrize("case", TABLE.case, ids=lambda case: f"{case.lock}-on-{'+'.join(case.hosts)}")
def test_a_case_does_not_contradict_itself(case: Case) -> None:
    why = {case.because, *case.also}
    assert case.because not in case.also
    if case.outcome == "runs":
        assert why <= RUNS
        assert not case.blocked
        assert case.warn is None or ("minor-version" in case.warn) == (case.because == "minor-version")
    else:
        assert not why & (RUNS - {"cpu-only", "ptx-jit"})
        assert (case.outcome == "unknown") == (case.because in UNKNOWN)
        assert case.warn is None
        assert case.source_way is None
        assert bool(case.blocked) == (len(case.hosts) > 1)
    assert set(case.blocked) <= set(case.hosts)


@pytest.mark.bank(kind=lambda choice: (choice.outcome, choice.variant))
@pytest.mark.parametrize(
    "choice", TABLE.choice, ids=lambda choice: f"{'+'.join(choice.asks)}-on-{'+'.join(choice.hosts)}"
)
def test_a_choice_does_not_contradict_itself(choice: ChoiceCase) -> None:
    torch = any(Requirement(ask).name == "torch" for ask in choice.asks)
    assert bool(choice.variant) == bool(choice.cuda) == (torch and choice.outcome == "runs")
    assert not choice.variant or choice.variant == "cu" + re.sub(r"\D", "", choice.cuda or "")
    assert choice.variant not in choice.also
    assert choice.outcome == "refused" or not choice.blocked
    assert choice.outcome == "runs" or not (choice.limit or choice.also)
    assert set(choice.blocked) <= set(choice.hosts)
    if choice.limit:
        assert Requirement(choice.limit).name in {Requirement(ask).name for ask in choice.asks}
