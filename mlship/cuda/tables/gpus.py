"""What GPUs can run: architectures by compute capability, and what a GPU is sold as, by its name."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.tables.rows import Row, once, read_rows
from mlship.cuda.versions import Capability, Cuda

FILE = "gpus.toml"
GpuClass: TypeAlias = Literal["data-center", "geforce", "professional", "jetson"]
OpenModules: TypeAlias = Literal["required", "possible", "impossible"]
_CLASSES: tuple[GpuClass, ...] = ("data-center", "geforce", "professional", "jetson")
_MODULES: tuple[OpenModules, ...] = ("required", "possible", "impossible")


@dataclass(frozen=True)
class Architecture:
    """A generation of GPUs, or the part of it that toolkits and drivers treat alike.

    Attributes:
        first: the oldest toolkit that can build for it; None where that is not known.
        last: the newest toolkit that can build for it and whose libraries know it; None for the current one.
        first_branch: the oldest driver branch that drives it; None where the tables do not say.
        last_branch: the newest driver branch that drives it; None for the current one.
        tegra: those of its capabilities that are Jetson boards, which have drivers of their own.
        open_modules: whether NVIDIA's open kernel modules can, or have to, drive it; None where that is not known.
    """

    name: str
    capabilities: tuple[Capability, ...]
    first: Cuda | None
    last: Cuda | None
    first_branch: int | None
    last_branch: int | None
    tegra: tuple[Capability, ...]
    open_modules: OpenModules | None
    note: str | None
    source: str


@dataclass(frozen=True)
class ClassPattern:
    """GPUs whose name holds the pattern are sold as this."""

    pattern: re.Pattern[str]
    kind: GpuClass
    source: str


@dataclass(frozen=True)
class GpuTable:
    """The whole file; architectures ascend by capability, patterns stand as in the file: the first one wins."""

    architectures: tuple[Architecture, ...]
    classes: tuple[ClassPattern, ...]


def read_gpus(text: str | None = None) -> GpuTable:
    """Read gpus.toml, or a text in its place.

    Raises:
        ValueError: see Row; or a capability that stands twice.
    """
    rows = read_rows(FILE, ("architectures", "classes"), text)
    architectures = once(rows["architectures"], _architecture, lambda item: item.capabilities)
    classes = once(rows["classes"], _class, lambda item: (item.pattern.pattern,))
    return GpuTable(tuple(sorted(architectures, key=lambda item: item.capabilities)), classes)


def _architecture(row: Row) -> Architecture:
    found = Architecture(
        name=row.text("name"),
        capabilities=row.capabilities("capabilities"),
        first=row.cuda_or_none("first"),
        last=row.cuda_or_none("last"),
        first_branch=row.number_or_none("first_branch"),
        last_branch=row.number_or_none("last_branch"),
        tegra=row.capabilities_or_none("tegra") or (),
        open_modules=row.choice_or_none("open_modules", _MODULES),
        note=row.text_or_none("note"),
        source=row.source(),
    )
    if not set(found.tegra) <= set(found.capabilities):
        raise row.wrong("tegra lists a capability that the row does not have")
    if found.first and found.last and found.first > found.last:
        raise row.wrong(f"its first toolkit {found.first} is newer than its last {found.last}")
    return found


def _class(row: Row) -> ClassPattern:
    return ClassPattern(row.pattern("pattern"), row.choice("kind", _CLASSES), row.source())
