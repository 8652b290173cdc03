"""The rows of mlship/data/cuda/*.toml as values: one model a kind of row, one a file.

None always means that no source states the fact.
"""

import re
from functools import cached_property
from itertools import groupby, pairwise
from typing import Annotated, Literal, TypeAlias

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version
from pydantic import AfterValidator, Field, StrictBool, StrictInt, model_validator

from mlship.cuda.tables.read import (
    Capabilities,
    CapabilityText,
    CudaText,
    DriverText,
    Row,
    TableFile,
    Text,
    ascending,
    once,
)
from mlship.cuda.versions import Cuda

Forward: TypeAlias = Literal["ok", "not-needed", "never", "unsupported"]
GpuClass: TypeAlias = Literal["data-center", "geforce", "professional", "jetson", "vgpu"]
OpenModules: TypeAlias = Literal["required", "possible", "impossible"]
VersionMeaning: TypeAlias = Literal["cuda", "major", "none"]
ImageFlavour: TypeAlias = Literal["runtime", "cudnn-runtime", "devel", "cudnn-devel"]
FLAVOURS: tuple[ImageFlavour, ...] = ("runtime", "cudnn-runtime", "devel", "cudnn-devel")


# drivers.toml


class Branch(Row):
    """A driver branch and the CUDA version that its drivers report.

    Attributes:
        ends: the month in which NVIDIA's support ends, such as "2028-06".
    """

    branch: StrictInt
    cuda: CudaText
    ends: Annotated[str, Field(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")] | None = None


class CudaToolkit(Row):
    """A release of the CUDA toolkit.

    Attributes:
        version: in NVIDIA's form, such as "12.6 U3".
        driver: the oldest Linux x86_64 driver of its own branch. Older branches run it too, down to the Floor of its
            CUDA major.
    """

    version: Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}( U\d+)?$")]
    driver: DriverText | None = None

    @cached_property
    def cuda(self) -> Cuda:
        return Cuda.parse(self.version.partition(" ")[0])

    @cached_property
    def release(self) -> str:
        """The version in numbers, such as "12.6.3"."""
        return f"{self.cuda}.{self.version.partition(' U')[2] or 0}"


class Floor(Row):
    """The oldest driver on which a program built with this CUDA major starts."""

    major: StrictInt
    driver: DriverText


class Compat(Row):
    """A cuda-compat package, and the host branches on which its libcuda runs; data-center GPUs and Jetson only."""

    package: Annotated[str, Field(pattern=r"^\d{1,4}-\d{1,4}$")]
    ok: tuple[StrictInt, ...] = ()
    not_needed: tuple[StrictInt, ...] = ()
    never: tuple[StrictInt, ...] = ()

    @cached_property
    def cuda(self) -> Cuda:
        return Cuda.parse(self.package.replace("-", "."))

    def on(self, branch: int) -> Forward:
        """The entry of NVIDIA's matrix for a host branch; branches it does not list are unsupported."""
        if branch in self.ok:
            return "ok"
        if branch in self.not_needed:
            return "not-needed"
        return "never" if branch in self.never else "unsupported"

    @model_validator(mode="after")
    def _disjoint(self) -> "Compat":
        listed = (*self.ok, *self.not_needed, *self.never)
        if len(listed) != len(set(listed)) or not listed:
            raise ValueError("each host branch belongs in one of ok, not_needed and never")
        return self


class DriversFile(TableFile):
    """drivers.toml, each kind in ascending order."""

    branches: Annotated[tuple[Branch, ...], once(lambda row: (row.branch,), lambda row: (row.branch,))]
    toolkits: Annotated[tuple[CudaToolkit, ...], once(lambda row: (row.release,), lambda row: (Version(row.release),))]
    floors: Annotated[tuple[Floor, ...], once(lambda row: (row.major,), lambda row: (row.major,))]
    compat: Annotated[tuple[Compat, ...], once(lambda row: (row.package,), lambda row: (row.cuda,))]


# gpus.toml


class Architecture(Row):
    """A generation of GPUs, or the part of it that toolkits and drivers treat alike.

    Attributes:
        first, last: the oldest and newest toolkits that build for it and whose libraries support it; no last: current.
        first_branch, last_branch: the oldest and newest driver branches that support it; no last: current.
        apart: no document says that code for an older minor of its major runs on it.
        tegra: the capabilities among them that are Jetson boards, which have drivers of their own.
        open_modules: whether NVIDIA's open kernel modules support it.
    """

    name: Text
    capabilities: Capabilities
    first: CudaText | None = None
    last: CudaText | None = None
    first_branch: StrictInt | None = None
    last_branch: StrictInt | None = None
    apart: StrictBool = False
    tegra: Annotated[tuple[CapabilityText, ...], AfterValidator(ascending)] = ()
    open_modules: OpenModules | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Architecture":
        if not set(self.tegra) <= set(self.capabilities):
            raise ValueError("tegra lists a capability that the row does not have")
        if self.first and self.last and self.first > self.last:
            raise ValueError(f"its first toolkit {self.first} is newer than its last {self.last}")
        return self


class ClassPattern(Row):
    """The product class of GPUs whose name matches the pattern, in any case."""

    pattern: re.Pattern[str]
    kind: GpuClass


class GpusFile(TableFile):
    """gpus.toml; architectures ascend by capability, patterns keep the file's order: the first match wins."""

    architectures: Annotated[tuple[Architecture, ...], once(lambda row: row.capabilities, lambda row: row.capabilities)]
    classes: Annotated[tuple[ClassPattern, ...], once(lambda row: (row.pattern.pattern,))]


# images.toml


class NvidiaImage(Row):
    """One point release of nvidia/cuda on one Ubuntu.

    Attributes:
        version: such as "12.6.3".
        distros: the Ubuntus of the row; the table holds an image for each.
        distro: one of them, such as "ubuntu22.04".
        cudnn: the version of cuDNN in the cudnn flavours, such as "9".
        token: cuDNN's name in the tags: "cudnn8", "cudnn9" or "cudnn".
        gone: a newer point release replaced it, and NVIDIA may have deleted the tag.
        confirmed: more than one independent place shows the tags.
    """

    version: Annotated[str, Field(pattern=r"^\d{1,4}\.\d{1,4}\.\d+$")]
    distros: tuple[Annotated[str, Field(pattern=r"^ubuntu\d\d\.\d\d$")], ...]
    distro: str = ""
    flavours: tuple[ImageFlavour, ...] = FLAVOURS
    cudnn: Text | None = None
    token: Text | None = None
    gone: StrictBool = False
    confirmed: StrictBool = False

    @cached_property
    def cuda(self) -> Cuda:
        return Cuda.parse(self.version.rpartition(".")[0])

    def tag(self, flavour: str) -> str:
        """The tag after "nvidia/cuda:", such as "12.3.2-cudnn9-runtime-ubuntu22.04"."""
        return f"{self.version}-{flavour.replace('cudnn', self.token or 'cudnn')}-{self.distro}"

    @model_validator(mode="after")
    def _consistent(self) -> "NvidiaImage":
        if not (any("cudnn" in flavour for flavour in self.flavours) == bool(self.cudnn) == bool(self.token)):
            raise ValueError("cudnn, token and the cudnn flavours belong together")
        return self


class ImagesFile(TableFile):
    """images.toml; point releases ascend."""

    images: Annotated[tuple[NvidiaImage, ...], once(lambda row: (row.version,), lambda row: (Version(row.version),))]

    @cached_property
    def by_distro(self) -> tuple[NvidiaImage, ...]:
        """An image for each Ubuntu of each row."""
        return tuple(row.model_copy(update={"distro": distro}) for row in self.images for distro in sorted(row.distros))


# libraries.toml


class CudaLibrary(Row):
    """A distribution on PyPI that brings some of CUDA's libraries.

    Attributes:
        name: without a suffix, such as "nvidia-cublas".
        suffixed: the meaning of the version where the name ends in -cu11, -cu12 or -cu13; None: no such name exists.
        plain: the meaning of the version where the name has no suffix; None: no such name exists.
        sonames: "{major}" stands for the first number of the distribution's version.
        cu11: the sonames of the -cu11 distribution, where they differ.
    """

    name: Text
    suffixed: VersionMeaning | None = None
    plain: VersionMeaning | None = None
    sonames: Annotated[tuple[Text, ...], Field(min_length=1)] = ()
    cu11: Annotated[tuple[Text, ...], Field(min_length=1)] = ()

    @model_validator(mode="after")
    def _has_meaning(self) -> "CudaLibrary":
        if not (self.suffixed or self.plain):
            raise ValueError("needs suffixed, plain or both")
        return self


class LibrariesFile(TableFile):
    libraries: Annotated[tuple[CudaLibrary, ...], once(lambda row: (row.name,))]


# packages.toml


class Variant(Row):
    """One build of a release.

    Attributes:
        name: such as "cu126", as in PyTorch's index and in local versions.
        cuda: the CUDA it was built with, or the oldest it works with.
        cuda_below: the first CUDA that it does not work with; None where it brings the one it was built with.
        cudnn: the oldest cuDNN it works with, such as "9.10".
        x86_64: the GPUs it has compiled kernels for, on linux/amd64.
        specific_x86_64: the GPUs it has architecture-specific kernels for (sm_90a), which no other GPU runs.
        ptx_x86_64: the capability of its PTX, which a driver can compile for newer GPUs.
        at_run_time: its kernels are compiled there, for whatever GPU its CUDA supports. unread: its GPUs are unknown.
        optional: its package works without its kernels. uncompressed: drivers before R550 read its kernels, too.
        libraries: "wheels": the wheel or its requirements bring CUDA's; "system": they are expected in the image.
        extras: the extras with which wheels bring the libraries.
        min_driver: where it needs a newer driver than its CUDA; supported_driver: where only support begins there.
    """

    name: Text
    cuda: CudaText | None = None
    cuda_below: CudaText | None = None
    cudnn: Text | None = None
    x86_64: Capabilities | None = None
    specific_x86_64: Annotated[tuple[CapabilityText, ...], AfterValidator(ascending)] = ()
    ptx_x86_64: CapabilityText | None = None
    aarch64: Capabilities | None = None
    ptx_aarch64: CapabilityText | None = None
    at_run_time: StrictBool = False
    unread: StrictBool = False
    optional: StrictBool = False
    uncompressed: StrictBool = False
    libraries: Literal["wheels", "system"] | None = None
    extras: tuple[Text, ...] = ()
    min_driver: DriverText | None = None
    supported_driver: DriverText | None = None
    min_capability: CapabilityText | None = None

    @model_validator(mode="after")
    def _has_limit(self) -> "Variant":
        if self.libraries == "system" and not (self.cuda and self.cuda_below):
            raise ValueError("a build without its own libraries needs cuda and cuda_below")
        return self


def _band(text: str) -> str:
    try:
        signs = [clause.operator for part in text.split(",") for clause in SpecifierSet(part)]
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} is not a version specifier") from error
    if signs != [">=", "<"]:
        raise ValueError(f'{text!r} is not a band such as ">=2.8,<2.9"')
    low, high = (Version(part.lstrip(">=<")) for part in text.split(","))
    if low >= high:
        raise ValueError(f"{text!r} contains no version")
    return text


class Release(Row):
    """The releases of a package with the same CUDA requirements.

    Attributes:
        also: more packages of the row; the table holds a row for each.
        versions: a band such as ">=2.8,<2.9"; None for every version.
        default: the variant of a plain install from PyPI on Linux x86_64; None: without CUDA, or that of `follows`.
        follows: the package whose variant decides, such as torch for torchvision.
        torch: the version of torch that it requires; torch_from: the oldest. torch_offset: its minor minus torch 2's.
        min_capability: the oldest compute capability that its project supports, for one without variants of its own.
        compiled: PyPI has no wheel of it: nvcc builds it, `compiled_for` these GPUs if that is fixed.
    """

    package: Text
    also: tuple[Text, ...] = ()
    versions: Annotated[str, AfterValidator(_band)] | None = None
    variants: Annotated[tuple[Variant, ...], once(lambda row: (row.name,))] = ()
    default: Text | None = None
    follows: Text | None = None
    torch: Text | None = None
    torch_from: Annotated[str, Field(pattern=r"^>=\d+\.\d+$")] | None = None
    torch_offset: int | None = None
    min_capability: CapabilityText | None = None
    compiled: StrictBool = False
    compiled_for: Capabilities | None = None

    def variant(self, name: str | None = None) -> Variant | None:
        """The variant of that name, or the default one."""
        return next((item for item in self.variants if item.name == (name or self.default)), None)

    @cached_property
    def band(self) -> tuple[Version, Version]:
        """The first version, and the first version after the last; every version where the row has no band."""
        if self.versions is None:
            return Version("0.dev0"), Version("9999")
        low, high = self.versions.split(",")
        return Version(low.removeprefix(">=")), Version(high.removeprefix("<"))

    def contains(self, version: Version) -> bool:
        """Whether a version is in the band, whatever its local part (such as +cu128)."""
        return self.versions is None or SpecifierSet(self.versions).contains(version.public, prereleases=True)

    @model_validator(mode="after")
    def _consistent(self) -> "Release":
        if self.default and self.variant() is None:
            raise ValueError(f"its default {self.default!r} is not one of its variants")
        if not (self.variants or self.follows or self.compiled):
            raise ValueError("needs variants, follows or compiled")
        return self


class WheelIndex(Row):
    """PyTorch's index of wheels, with a folder for each variant."""

    address: Text
    packages: Annotated[tuple[Text, ...], Field(min_length=1)]

    def of(self, variant: str) -> str:
        """A variant's address, such as https://download.pytorch.org/whl/cu126."""
        return f"{self.address}/{variant}"


def _each(releases: tuple[Release, ...]) -> tuple[Release, ...]:
    named = ((row, name) for row in releases for name in (row.package, *row.also))
    return tuple(row.model_copy(update={"package": name, "also": ()}) for row, name in named)


def _apart(releases: tuple[Release, ...]) -> tuple[Release, ...]:
    for before, after in pairwise(releases):
        if before.package == after.package and before.band[1] > after.band[0]:
            raise ValueError(f"{before.package} {before.versions} and {after.versions} overlap")
    return releases


class PackagesFile(TableFile):
    """packages.toml; releases ascend by package and band."""

    indexes: tuple[WheelIndex]
    releases: Annotated[
        tuple[Release, ...],
        AfterValidator(_each),
        once(lambda row: ((row.package, row.versions),), lambda row: (row.package, row.band)),
        AfterValidator(_apart),
    ]

    @cached_property
    def by_package(self) -> dict[str, tuple[Release, ...]]:
        by = groupby(self.releases, lambda release: release.package)
        return {package: tuple(releases) for package, releases in by}
