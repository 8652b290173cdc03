"""Questions to the tables in mlship/data/cuda/*.toml. What no source states is None or NotRecorded, never a guess."""

import re
from dataclasses import dataclass
from functools import cache

from packaging.version import Version

from mlship.cuda.tables.read import read_table
from mlship.cuda.tables.rows import (
    Architecture,
    Branch,
    Compat,
    CudaLibrary,
    CudaToolkit,
    DriversFile,
    Floor,
    GpuClass,
    GpusFile,
    ImagesFile,
    LibrariesFile,
    NvidiaImage,
    PackagesFile,
    Release,
    WheelIndex,
)
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.requirement_line import package_version

_SUFFIX = re.compile(r"-cu([0-9]{2})$", re.ASCII)
_NUMBERS = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(\.|$)", re.ASCII)


@dataclass(frozen=True)
class Tables:
    drivers: DriversFile
    gpus: GpusFile
    packages: PackagesFile
    libraries: tuple[CudaLibrary, ...]
    images: tuple[NvidiaImage, ...]


@dataclass(frozen=True)
class CudaOffer:
    """The CUDA that a driver offers.

    Attributes:
        cuda: None where the driver is older than every known branch.
        branch: the driver's own branch, or the next older one that is known.
        at_least: the driver's own branch is unknown; it offers this CUDA or a newer one.
        reason: why the offer is unknown or only a lower bound; None where neither is so.
    """

    cuda: Cuda | None
    branch: Branch | None
    at_least: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class LibraryPin:
    """What the pin of a CUDA library says about CUDA.

    Attributes:
        cuda: None where the version does not follow CUDA's.
        major: CUDA's major, from the suffix or the version; None where neither has it.
        sonames: such as ("libcudart.so.12",).
        version: of the distribution.
    """

    library: CudaLibrary
    cuda: Cuda | None
    major: int | None
    sonames: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class NotRecorded:
    """The tables have no row for it, and why."""

    reason: str


@cache
def tables() -> Tables:
    """All tables, read at the first call.

    Raises:
        ValueError: a file of mlship's own is wrong.
    """
    return Tables(
        read_table(DriversFile, "drivers.toml"),
        read_table(GpusFile, "gpus.toml"),
        read_table(PackagesFile, "packages.toml"),
        read_table(LibrariesFile, "libraries.toml").libraries,
        read_table(ImagesFile, "images.toml").by_distro,
    )


def offer_of(driver: Driver) -> CudaOffer:
    """The CUDA that a driver offers, by its branch."""
    branches = tables().drivers.branches
    older = [branch for branch in branches if branch.branch <= driver.branch]
    if not older:
        reason = f"driver {driver} is older than R{branches[0].branch}, the oldest known branch"
        return CudaOffer(None, None, reason=reason)
    nearest = older[-1]
    if nearest.branch == driver.branch:
        return CudaOffer(nearest.cuda, nearest)
    if nearest is branches[-1]:
        reason = f"R{driver.branch} is newer than R{nearest.branch}, the newest known branch: at least CUDA"
    else:
        reason = f"R{driver.branch} is unknown: like R{nearest.branch} before it, at least CUDA"
    return CudaOffer(nearest.cuda, nearest, at_least=True, reason=f"{reason} {nearest.cuda}")


def support_of(driver: Driver) -> tuple[str, bool] | None:
    """NVIDIA's support for a driver's branch in words, and whether it had ended when the tables were read."""
    drivers = tables().drivers
    found = next((row for row in drivers.branches if row.branch == driver.branch and row.ends), None)
    if found is None or found.ends is None:
        return None
    ended = found.ends < drivers.read_on[:7]
    verb = "ended in" if ended else "ends in"
    return f"NVIDIA's support for driver branch R{found.branch} {verb} {found.ends}", ended


def floor_of(major: int) -> Floor | None:
    """The oldest driver on which programs built with a CUDA major start."""
    return next((floor for floor in tables().drivers.floors if floor.major == major), None)


def toolkit_of(release: str) -> CudaToolkit | None:
    """A toolkit by its number, such as "12.6.3"; "12.6" means 12.6.0."""
    wanted = f"{release}.0" if release.count(".") == 1 else release
    return next((toolkit for toolkit in tables().drivers.toolkits if toolkit.release == wanted), None)


def newest_of(major: int) -> Cuda:
    """The newest CUDA of a major; a later one may follow while there is no newer major."""
    known = [toolkit.cuda for toolkit in tables().drivers.toolkits]
    fitting = (cuda for cuda in known if cuda.major == major and cuda.major < max(known).major)
    return max(fitting, default=Cuda(major, 99))


def first_driver(cuda: Cuda) -> Driver | None:
    """The oldest driver of the branch that came with a CUDA version; None where unknown."""
    return min((t.driver for t in tables().drivers.toolkits if t.cuda == cuda and t.driver), default=None)


def compat_of(cuda: Cuda) -> Compat | None:
    """The cuda-compat package of a CUDA version."""
    return next((compat for compat in tables().drivers.compat if compat.cuda == cuda), None)


def architecture_of(capability: Capability) -> Architecture | None:
    """The architecture of GPUs with this compute capability."""
    return next((known for known in tables().gpus.architectures if capability in known.capabilities), None)


def gpu_class(name: str) -> GpuClass | None:
    """A GPU's product class, by its name in NVML or in a node's label; None where the name does not say."""
    spaced = re.sub(r"[-_\s]+", " ", name).strip()
    fitting = (row for row in tables().gpus.classes if re.search(row.pattern.pattern, spaced, re.IGNORECASE))
    return next((row.kind for row in fitting), None)


def nvidia_image(cuda: Cuda, flavour: str, distro: str) -> NvidiaImage | None:
    """The newest available point release of nvidia/cuda with this CUDA.

    Args:
        flavour: among FLAVOURS.
        distro: such as "ubuntu22.04".
    """
    fitting = (
        image
        for image in reversed(tables().images)
        if image.cuda == cuda and image.distro == distro and flavour in image.flavours and not image.gone
    )
    return next(fitting, None)


def wheel_index() -> WheelIndex:
    """PyTorch's index of wheels."""
    return tables().packages.indexes[0]


def release_of(package: str, version: str) -> Release | NotRecorded:
    """The CUDA requirements of one version of a package.

    Args:
        package: canonical (PEP 503).
    """
    releases = tables().packages.by_package.get(package)
    if releases is None:
        return NotRecorded(f"the tables do not list {package}")
    wanted = package_version(version)
    if wanted is None:
        return NotRecorded(f"{version!r} is not a version of {package}")
    found = next((item for item in releases if item.contains(wanted)), None)
    return found or NotRecorded(_outside(releases, package, wanted))


def _outside(releases: tuple[Release, ...], package: str, version: Version) -> str:
    first, last = releases[0].band[0], releases[-1].band[1]
    if version < first:
        return f"{package} {version} is older than the oldest known release, {first}"
    if Version(version.base_version) >= last:  # a pre-release of `last` is unknown too
        return f"{package} {version} is newer than the known releases, which end before {last}"
    return f"{package} {version} lies in a gap between the known releases"


def is_far_newer(package: str, version: str) -> bool:
    """Whether a version is newer than the newest known one by more than one minor release."""
    releases = tables().packages.by_package.get(package, ())
    wanted = package_version(version)
    if wanted is None or not releases or releases[-1].versions is None:
        return False
    end = releases[-1].band[1]
    last = end.minor if end.micro else end.minor - 1
    return wanted.major > end.major or (wanted.major == end.major and wanted.minor - last > 1)


def cuda_library_of(file: str) -> CudaLibrary | None:
    """The distribution that brings a library of CUDA, such as libcudnn_ops.so.9; None for any other file."""
    stems = ((soname.partition(".so")[0], library) for library in tables().libraries for soname in library.sonames)
    found = [(len(stem), library) for stem, library in stems if file.startswith(stem)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def library_pin(name: str, version: str) -> LibraryPin | None:
    """What the pin of a CUDA library says about CUDA; None for any other distribution.

    Args:
        name: canonical (PEP 503).
    """
    suffix = _SUFFIX.search(name)
    base = name.removesuffix(suffix[0]) if suffix else name
    library = next((item for item in tables().libraries if item.name == base), None)
    meaning = library and (library.suffixed if suffix else library.plain)
    numbers = _NUMBERS.match(version)
    if library is None or meaning is None or numbers is None:
        return None
    major = int(suffix[1]) if suffix else int(numbers[1]) if meaning in {"cuda", "major"} else None
    if meaning in {"cuda", "major"} and major != int(numbers[1]):
        # a placeholder: nvidia-cuda-runtime-cu13 0.0.1 holds no files
        return LibraryPin(library, None, major, (), version)
    cuda = Cuda(int(numbers[1]), int(numbers[2])) if meaning == "cuda" else None
    texts = (library.cu11 if major == 11 else ()) or library.sonames
    return LibraryPin(library, cuda, major, tuple(text.replace("{major}", numbers[1]) for text in texts), version)
