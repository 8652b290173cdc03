"""The table of CUDA cases, and the match of each."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.lock.pins import Pin

FILE = Path(__file__).parents[1] / "unit" / "cuda" / "cases.toml"


Platform: TypeAlias = Literal["linux/amd64", "linux/arm64"]
Keyword: TypeAlias = Literal[
    "native",
    "minor-version",
    "driver-floor",
    "ptx-jit",
    "arch-dropped",
    "arch-too-new",
    "driver-lacks-gpu",
    "cpu-only",
    "two-majors",
    "two-distributions",
    "cuda-in-cpu-project",
    "nothing-known",
    "unknown-release",
    "unknown-gpu",
    "jetson",
    "forward-compat-possible",
    "platform",
]
Warn: TypeAlias = Literal["minor-version", "compressed-fatbin"]
Capability: TypeAlias = Annotated[str, Field(pattern=r"^\d+\.\d$")]
Variant: TypeAlias = Annotated[str, Field(pattern=r"^cu\d{3}$")]


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CaseLock(Entry):
    pins: tuple[Annotated[str, Field(pattern=r"^[a-z0-9-]+==[^=\s]+$")], ...] = Field(min_length=1)
    platform: Platform = "linux/amd64"
    extras: tuple[str, ...] = ()
    gpu: bool = True


class CaseGpu(Entry):
    name: str
    cc: Capability | None = None


class CaseHost(Entry):
    driver: Annotated[str, Field(pattern=r"^\d{3}(\.\d+){1,2}$")]
    gpus: tuple[CaseGpu, ...] = Field(min_length=1)
    platform: Platform = "linux/amd64"


class Case(Entry):
    lock: str
    hosts: tuple[str, ...] = Field(min_length=1)
    outcome: Literal["runs", "refused", "unknown"]
    because: Keyword
    also: tuple[Keyword, ...] = ()
    source_way: Literal["wheels", "image"] | None = None
    warn: tuple[Warn, ...] | None = None
    blocked: tuple[str, ...] = ()
    doc: str


class ChoiceCase(Entry):
    asks: tuple[str, ...] = Field(min_length=1)
    hosts: tuple[str, ...] = Field(min_length=1)
    outcome: Literal["runs", "refused"]
    variant: Variant | None = None
    cuda: Capability | None = None
    also: tuple[Variant, ...] = ()
    limit: str | None = None
    blocked: tuple[str, ...] = ()


class Table(Entry):
    docs: dict[str, str]
    locks: dict[str, CaseLock]
    hosts: dict[str, CaseHost]
    case: tuple[Case, ...]
    choice: tuple[ChoiceCase, ...]


TABLE = Table.model_validate(tomllib.loads(FILE.read_text(encoding="utf-8")))


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
    """The locked package and the verdict, so that a sample has a case of each."""
    return case.lock.partition("-")[0], case.outcome, case.because


def matched(case: Case) -> Match:
    lock = TABLE.locks[case.lock]
    needs = read_needs(tuple(pin(text) for text in lock.pins), lock.platform, gpu=lock.gpu)
    return match_needs(needs, fleet(case.hosts), "bookworm")
