"""What NVIDIA's drivers offer: the CUDA of a branch, the drivers of a toolkit, and forward compatibility."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.tables.rows import Row, once, read_rows
from mlship.cuda.versions import Cuda, Driver

FILE = "drivers.toml"
Forward: TypeAlias = Literal["ok", "not-needed", "never", "unsupported"]


@dataclass(frozen=True)
class Branch:
    """A driver branch and the CUDA version that its drivers report.

    Attributes:
        lifecycle: what NVIDIA calls the branch, and until when; None where the tables do not say.
    """

    branch: int
    cuda: Cuda
    lifecycle: str | None
    source: str


@dataclass(frozen=True)
class BranchAnswer:
    """What a driver offers.

    Attributes:
        cuda: None where the driver is older than every known branch.
        branch: the row that answers: the driver's own, or the next older one that is known.
        at_least: the branch itself is unknown; it offers this CUDA or a newer one.
        reason: why there is no plain answer; None where there is one.
    """

    cuda: Cuda | None
    branch: Branch | None
    at_least: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class CudaToolkit:
    """A release of the CUDA toolkit.

    Attributes:
        version: as NVIDIA writes it, such as "12.6 U3".
        release: the same in numbers, such as "12.6.3".
        driver: the oldest Linux x86_64 driver of its own branch; None where nobody could confirm one. Older branches of
            the same CUDA major run it too, down to that major's Floor.
    """

    version: str
    release: str
    cuda: Cuda
    driver: Driver | None
    note: str | None
    source: str


@dataclass(frozen=True)
class Floor:
    """The oldest driver on which a program that was built with this CUDA major starts."""

    major: int
    driver: Driver
    note: str | None
    source: str


@dataclass(frozen=True)
class Compat:
    """A cuda-compat package, and the host branches that its libcuda runs on; for data-center GPUs and Jetson only."""

    package: str
    cuda: Cuda
    ok: tuple[int, ...]
    not_needed: tuple[int, ...]
    never: tuple[int, ...]
    source: str

    def on(self, branch: int) -> Forward:
        """What NVIDIA's matrix says of a host branch; one that it does not list is not supported."""
        if branch in self.ok:
            return "ok"
        if branch in self.not_needed:
            return "not-needed"
        return "never" if branch in self.never else "unsupported"


@dataclass(frozen=True)
class Drivers:
    """The whole file, each kind in ascending order."""

    branches: tuple[Branch, ...]
    toolkits: tuple[CudaToolkit, ...]
    floors: tuple[Floor, ...]
    compat: tuple[Compat, ...]


def read_drivers(text: str | None = None) -> Drivers:
    """Read drivers.toml, or a text in its place.

    Raises:
        ValueError: see Row; or a row that stands twice.
    """
    rows = read_rows(FILE, ("branches", "toolkits", "floors", "compat"), text)
    branches = once(rows["branches"], _branch, lambda item: (item.branch,))
    toolkits = once(rows["toolkits"], _toolkit, lambda item: (item.release,))
    floors = once(rows["floors"], _floor, lambda item: (item.major,))
    compat = once(rows["compat"], _compat, lambda item: (item.package,))
    return Drivers(
        tuple(sorted(branches, key=lambda item: item.branch)),
        tuple(sorted(toolkits, key=lambda item: tuple(int(part) for part in item.release.split(".")))),
        tuple(sorted(floors, key=lambda item: item.major)),
        tuple(sorted(compat, key=lambda item: item.cuda)),
    )


def _branch(row: Row) -> Branch:
    return Branch(row.number("branch"), row.cuda("cuda"), row.text_or_none("lifecycle"), row.source())


def _toolkit(row: Row) -> CudaToolkit:
    version = row.text("version")
    name, _, update = version.partition(" U")
    if update and not update.isdecimal():
        raise row.wrong(f"version: {version!r} is not written as NVIDIA does, such as 12.6 or 12.6 U3")
    try:
        cuda = Cuda.parse(name)
    except ValueError as error:
        raise row.wrong(f"version: {error}") from error
    release = f"{cuda}.{update or 0}"
    return CudaToolkit(version, release, cuda, row.driver_or_none("driver"), row.text_or_none("note"), row.source())


def _floor(row: Row) -> Floor:
    return Floor(row.number("major"), row.driver("driver"), row.text_or_none("note"), row.source())


def _compat(row: Row) -> Compat:
    package = row.text("package")
    try:
        cuda = Cuda.parse(package.replace("-", "."))
    except ValueError as error:
        raise row.wrong(f"package: {error}") from error
    lists = row.numbers("ok"), row.numbers("not_needed"), row.numbers("never")
    listed = [branch for branches in lists for branch in branches]
    if len(listed) != len(set(listed)) or not listed:
        raise row.wrong("each host branch belongs in one of ok, not_needed and never")
    return Compat(package, cuda, *lists, row.source())
