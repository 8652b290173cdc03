"""What mlship says of locks on hosts, against what NVIDIA's and the frameworks' documents say: cases.toml."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from packaging.requirements import Requirement
from pydantic import TypeAdapter

from mlship.cuda.fit.choose import PackageRequest, choose
from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.pins import Pin

FILE = Path(__file__).parent / "cases.toml"
WARNINGS = {"minor-version", "compressed-fatbin"}


@dataclass(frozen=True)
class CaseGpu:
    name: str
    cc: str | None = None


@dataclass(frozen=True)
class CaseHost:
    driver: str
    gpus: tuple[CaseGpu, ...]
    platform: str = "linux/amd64"


@dataclass(frozen=True)
class CaseLock:
    pins: tuple[str, ...]
    platform: str = "linux/amd64"
    extras: tuple[str, ...] = ()
    gpu: bool = True


@dataclass(frozen=True)
class Case:
    lock: str
    hosts: tuple[str, ...]
    outcome: Literal["runs", "refused", "unknown"]
    because: str
    doc: str
    also: tuple[str, ...] = ()
    source_way: str | None = None
    warn: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChoiceCase:
    asks: tuple[str, ...]
    hosts: tuple[str, ...]
    outcome: Literal["runs", "refused"]
    variant: str | None = None
    cuda: str | None = None
    also: tuple[str, ...] = ()
    limit: str | None = None
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    docs: dict[str, str]
    locks: dict[str, CaseLock]
    hosts: dict[str, CaseHost]
    case: tuple[Case, ...]
    choice: tuple[ChoiceCase, ...]


TABLE = TypeAdapter(Table).validate_python(tomllib.loads(FILE.read_text()))


def pin(text: str) -> Pin:
    name, _, version = text.partition("==")
    return Pin(name, version, (f"sha256:{'0' * 64}",))


def fleet(names: tuple[str, ...]) -> Fleet:
    hosts = {name: TABLE.hosts[name] for name in names}
    return Fleet(
        tuple(
            HostProfile(name, host.driver, tuple(HostGpu(g.name, g.cc) for g in host.gpus), host.platform)
            for name, host in hosts.items()
        ),
        "the case",
        committed=True,
    )


def kind(case: Case) -> tuple[str, str, str]:
    """What a case is an example of: what is locked, and what comes of it."""
    return case.lock, case.outcome, case.because


def matched(case: Case) -> Match:
    lock = TABLE.locks[case.lock]
    needs = read_needs(tuple(pin(text) for text in lock.pins), lock.platform, gpu=lock.gpu)
    return match_needs(needs, fleet(case.hosts), "bookworm")


def said(match: Match) -> Iterator[str]:
    """Keywords of everything that was said."""
    yield from (problem.kind for problem in (*match.needs.problems, *match.needs.warnings))
    yield from (reason.kind for verdict in match.verdicts for reason in verdict.reasons)


@pytest.mark.bank(kind=kind)
@pytest.mark.parametrize("case", TABLE.case, ids=lambda case: f"{case.lock} on {','.join(case.hosts)}")
def test_case(case: Case) -> None:
    match = matched(case)
    if not TABLE.locks[case.lock].gpu:
        assert not match.needs.problems  # nothing is matched for the CPU
        assert {problem.kind for problem in match.needs.warnings} == {case.because} - {"cpu-only"}
        return
    kinds = set(said(match))
    assert match.outcome == case.outcome, (kinds, match.verdicts)
    assert kinds & {case.because, *case.also}, kinds
    if case.source_way is not None:
        assert match.needs.way == case.source_way
    if case.warn is not None:
        assert kinds & WARNINGS == set(case.warn)
    if case.blocked:
        assert {verdict.host for verdict in match.verdicts if verdict.outcome == case.outcome} == set(case.blocked)


@pytest.mark.bank(kind=lambda case: (case.asks, case.outcome))
@pytest.mark.parametrize("case", TABLE.choice, ids=lambda case: f"{','.join(case.asks)} on {','.join(case.hosts)}")
def test_choice(case: ChoiceCase) -> None:
    asked = [Requirement(text) for text in case.asks]
    asks = tuple(PackageRequest(r.name, r.specifier, tuple(sorted(r.extras))) for r in asked)
    choice = choose(asks, fleet(case.hosts), TABLE.hosts[case.hosts[0]].platform)
    if case.outcome == "refused":
        assert not choice.picks
        assert {v.host for pick in choice.refused for v in pick.blocked} >= set(case.blocked)
        return
    torch = next((pick for pick in choice.picks if pick.package == "torch"), None)
    assert choice.picks, choice.refused
    if case.variant:
        assert torch is not None
        assert torch.variant in {case.variant, *case.also}
    if case.limit:
        assert case.limit in choice.limits
