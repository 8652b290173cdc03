"""What packages need of CUDA: their releases, the variants of each, and the index of PyTorch's variants."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from mlship.cuda.tables.rows import Row, once, read_rows
from mlship.cuda.versions import Capability, Cuda, Driver

FILE = "packages.toml"
Libraries: TypeAlias = Literal["wheels", "system"]
_LIBRARIES: tuple[Libraries, ...] = ("wheels", "system")


@dataclass(frozen=True)
class Variant:
    """One build of a release.

    Attributes:
        name: such as "cu126", as PyTorch's index and local versions have it.
        cuda: what it was built with, or the least that it works with; None where that is not known.
        cuda_below: the first CUDA that it does not work with; None where it brings the one it was built with.
        cudnn: such as "9.10": the least that it works with; None where that is not known.
        x86_64: GPUs that it holds code for, on linux/amd64; None where that is not known.
        ptx_x86_64: what the driver can translate for newer GPUs; None where there is no such code, or nobody knows.
        libraries: "wheels" where the wheel or its requirements bring CUDA's libraries; "system" where a bare install
            looks for them in the image; None where that is not known.
        extras: what to ask for so that wheels bring the libraries.
        min_driver: where the project asks for more than its CUDA does.
    """

    name: str
    cuda: Cuda | None
    cuda_below: Cuda | None
    cudnn: str | None
    x86_64: tuple[Capability, ...] | None
    ptx_x86_64: Capability | None
    aarch64: tuple[Capability, ...] | None
    ptx_aarch64: Capability | None
    libraries: Libraries | None
    extras: tuple[str, ...]
    min_driver: Driver | None
    min_capability: Capability | None
    source: str


@dataclass(frozen=True)
class Release:
    """The releases of a package that need the same of CUDA.

    Attributes:
        versions: a band such as ">=2.8,<2.9"; None for every version.
        default: the variant that a plain install from PyPI gets on Linux x86_64; None for one without CUDA, and where
            another package decides.
        follows: the package whose variant decides, as torch's does for torchvision.
        torch: the version of torch that it asks for; None where it does not ask for one.
        compiled: PyPI has no wheel of it: nvcc builds it.
        needs_torch: that build imports torch.
    """

    package: str
    versions: str | None
    variants: tuple[Variant, ...]
    default: str | None
    follows: str | None
    torch: str | None
    compiled: bool
    needs_torch: bool
    note: str | None
    source: str

    def variant(self, name: str | None = None) -> Variant | None:
        """The variant of that name, or the default one."""
        wanted = name or self.default
        return next((item for item in self.variants if item.name == wanted), None)

    def holds(self, version: Version) -> bool:
        """Whether a version is of this band; a local part such as +cu128 says nothing about that."""
        return self.versions is None or SpecifierSet(self.versions).contains(version.public, prereleases=True)


@dataclass(frozen=True)
class NotRecorded:
    """Nobody wrote down what was asked, and this is why."""

    reason: str


@dataclass(frozen=True)
class WheelIndex:
    """Where PyTorch's variants lie: the address of one is that of the index, "/" and the variant's name."""

    address: str
    packages: tuple[str, ...]
    source: str

    def of(self, variant: str) -> str:
        """The address to give pip, such as https://download.pytorch.org/whl/cu126."""
        return f"{self.address}/{variant}"


@dataclass(frozen=True)
class PackageTable:
    """The whole file; the releases of a package stand by name, bands ascending."""

    releases: dict[str, tuple[Release, ...]]
    index: WheelIndex


def read_packages(text: str | None = None) -> PackageTable:
    """Read packages.toml, or a text in its place.

    Raises:
        ValueError: see Row; or bands that overlap.
    """
    rows = read_rows(FILE, ("indexes", "releases"), text)
    indexes = [_index(row) for row in rows["indexes"]]
    if len(indexes) != 1:
        raise ValueError(f"{FILE}: must hold one index, and holds {len(indexes)}")
    found = once(rows["releases"], _release, lambda item: ((item.package, item.versions),))
    names = sorted({release.package for release in found})
    bands = {name: tuple(sorted((item for item in found if item.package == name), key=_band)) for name in names}
    for several in bands.values():
        _refuse_overlap(several)
    return PackageTable(bands, indexes[0])


def release_in(packages: PackageTable, package: str, version: str) -> Release | NotRecorded:
    """The row that tells about one version of a package."""
    bands = packages.releases.get(package)
    if bands is None:
        return NotRecorded(f"the tables do not know {package}")
    try:
        wanted = Version(version)
    except InvalidVersion:
        return NotRecorded(f"{version!r} is not a version of {package}")
    found = next((item for item in bands if item.holds(wanted)), None)
    return found or NotRecorded(_outside(bands, package, wanted))


def _outside(bands: tuple[Release, ...], package: str, version: Version) -> str:
    first, last = _band(bands[0])[0], _band(bands[-1])[1]
    if version < first:
        return f"{package} {version} is older than what the tables know, which begins with {first}"
    if Version(version.base_version) >= last:  # a pre-release of it is as little known
        return f"{package} {version} is newer than what the tables know, which ends before {last}"
    return f"the tables know older and newer releases than {package} {version}, but not this one"


def _band(release: Release) -> tuple[Version, Version]:
    """First version, and first version after it; every version where the row has no band."""
    if release.versions is None:
        return Version("0.dev0"), Version("9999")
    low, high = release.versions.split(",")
    return Version(low.removeprefix(">=")), Version(high.removeprefix("<"))


def _refuse_overlap(bands: tuple[Release, ...]) -> None:
    for before, after in pairwise(bands):
        if _band(before)[1] > _band(after)[0]:
            raise ValueError(f"{FILE}: {before.package} {before.versions} and {after.versions} overlap")


def _index(row: Row) -> WheelIndex:
    found = WheelIndex(row.text("address"), row.texts("packages"), row.source())
    row.done()
    return found


def _release(row: Row) -> Release:
    found = Release(
        package=row.text("package"),
        versions=_versions(row),
        variants=once(row.rows("variants"), _variant, lambda item: (item.name,)),
        default=row.text_or_none("default"),
        follows=row.text_or_none("follows"),
        torch=row.text_or_none("torch"),
        compiled=row.flag("compiled"),
        needs_torch=row.flag("needs_torch"),
        note=row.text_or_none("note"),
        source=row.source(),
    )
    if found.default and found.variant() is None:
        raise row.wrong(f"its default {found.default!r} is none of its variants")
    if not (found.variants or found.follows or found.compiled):
        raise row.wrong("has neither variants, nor a package that it follows, nor is it compiled")
    return found


def _versions(row: Row) -> str | None:
    text = row.text_or_none("versions")
    if text is None:
        return None
    parts = text.split(",")
    try:
        signs = [clause.operator for part in parts for clause in SpecifierSet(part)]
    except InvalidSpecifier as error:
        raise row.wrong(f"versions: {text!r} is not a band of versions") from error
    if signs != [">=", "<"]:
        raise row.wrong(f'versions: {text!r} is not a band such as ">=2.8,<2.9"')
    if Version(parts[0].removeprefix(">=")) >= Version(parts[1].removeprefix("<")):
        raise row.wrong(f"versions: {text!r} holds no version")
    return text


def _variant(row: Row) -> Variant:
    return Variant(
        name=row.text("name"),
        cuda=row.cuda_or_none("cuda"),
        cuda_below=row.cuda_or_none("cuda_below"),
        cudnn=row.text_or_none("cudnn"),
        x86_64=row.capabilities_or_none("x86_64"),
        ptx_x86_64=row.capability_or_none("ptx_x86_64"),
        aarch64=row.capabilities_or_none("aarch64"),
        ptx_aarch64=row.capability_or_none("ptx_aarch64"),
        libraries=row.choice_or_none("libraries", _LIBRARIES),
        extras=row.texts_or_none("extras") or (),
        min_driver=row.driver_or_none("min_driver"),
        min_capability=row.capability_or_none("min_capability"),
        source=row.source(),
    )
