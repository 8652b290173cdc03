"""The table of CUDA cases, and the match of each."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.pins import Pin

FILE = Path(__file__).parents[1] / "unit" / "cuda" / "cases.toml"


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
    """What a case is an example of: the package that is locked, and the verdict."""
    return case.lock.partition("-")[0], case.outcome, case.because


def matched(case: Case) -> Match:
    lock = TABLE.locks[case.lock]
    needs = read_needs(tuple(pin(text) for text in lock.pins), lock.platform, gpu=lock.gpu)
    return match_needs(needs, fleet(case.hosts), "bookworm")
