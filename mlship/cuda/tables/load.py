"""The facts about CUDA that mlship decides by, from mlship/data/cuda/*.toml, and the questions asked of them.

Every fact carries its source. What nobody wrote down is answered with None or Unknown, never with a guess.
"""

import re
from dataclasses import dataclass
from functools import cache

from mlship.cuda.tables.drivers import (
    Branch,
    BranchAnswer,
    Compat,
    CudaToolkit,
    Drivers,
    Floor,
    Forward,
    read_drivers,
)
from mlship.cuda.tables.gpus import Architecture, GpuClass, GpuTable, read_gpus
from mlship.cuda.tables.images import FLAVOURS, NvidiaImage, read_images
from mlship.cuda.tables.libraries import CudaLibrary, LibraryPin, library_pin, read_libraries
from mlship.cuda.tables.packages import (
    NotRecorded,
    PackageTable,
    Release,
    Variant,
    WheelIndex,
    read_packages,
    release_in,
)
from mlship.cuda.versions import Capability, Cuda, Driver

__all__ = [
    "FLAVOURS",
    "Architecture",
    "Branch",
    "BranchAnswer",
    "Compat",
    "CudaLibrary",
    "CudaToolkit",
    "Floor",
    "Forward",
    "GpuClass",
    "LibraryPin",
    "NotRecorded",
    "NvidiaImage",
    "Release",
    "Tables",
    "Variant",
    "WheelIndex",
    "architecture_of",
    "compat_of",
    "cuda_of",
    "floor_of",
    "gpu_class",
    "image_tag",
    "pin_of",
    "release_of",
    "tables",
    "toolkit_of",
    "wheel_index",
]


@dataclass(frozen=True)
class Tables:
    """Every table; see the module of each."""

    drivers: Drivers
    gpus: GpuTable
    packages: PackageTable
    libraries: tuple[CudaLibrary, ...]
    images: tuple[NvidiaImage, ...]


@cache
def tables() -> Tables:
    """All tables, read once, when they are first asked for.

    Raises:
        ValueError: a file of mlship's own is wrong.
    """
    return Tables(read_drivers(), read_gpus(), read_packages(), read_libraries(), read_images())


def cuda_of(driver: Driver) -> BranchAnswer:
    """The CUDA version that a driver offers."""
    branches = tables().drivers.branches
    older = [branch for branch in branches if branch.branch <= driver.branch]
    if not older:
        return BranchAnswer(None, None, reason=f"driver {driver} is older than R{branches[0].branch}, the oldest known")
    nearest = older[-1]
    if nearest.branch == driver.branch:
        return BranchAnswer(nearest.cuda, nearest)
    if nearest is branches[-1]:
        reason = f"R{driver.branch} is newer than R{nearest.branch}, the newest known: CUDA {nearest.cuda} at least"
    else:
        reason = f"R{driver.branch} is not known: CUDA {nearest.cuda} at least, as R{nearest.branch} before it"
    return BranchAnswer(nearest.cuda, nearest, at_least=True, reason=reason)


def floor_of(major: int) -> Floor | None:
    """The oldest driver on which programs built with a CUDA major start."""
    return next((floor for floor in tables().drivers.floors if floor.major == major), None)


def toolkit_of(release: str) -> CudaToolkit | None:
    """A toolkit by its number, such as "12.6.3"; "12.6" is the first of its kind."""
    wanted = f"{release}.0" if release.count(".") == 1 else release
    return next((toolkit for toolkit in tables().drivers.toolkits if toolkit.release == wanted), None)


def compat_of(cuda: Cuda) -> Compat | None:
    """The cuda-compat package of a CUDA version."""
    return next((compat for compat in tables().drivers.compat if compat.cuda == cuda), None)


def architecture_of(capability: Capability) -> Architecture | None:
    """What is known of GPUs with this compute capability."""
    return next((known for known in tables().gpus.architectures if capability in known.capabilities), None)


def gpu_class(name: str) -> GpuClass | None:
    """What a GPU is sold as, by the name that NVML or a node's label has for it; None where the name tells nothing."""
    plain = re.sub(r"[-_\s]+", " ", name).strip()
    return next((row.kind for row in tables().gpus.classes if row.pattern.search(plain)), None)


def release_of(package: str, version: str) -> Release | NotRecorded:
    """What one version of a package needs of CUDA.

    Args:
        package: canonical, as PEP 503 has it.
    """
    return release_in(tables().packages, package, version)


def wheel_index() -> WheelIndex:
    """Where PyTorch's variants lie."""
    return tables().packages.index


def pin_of(name: str, version: str) -> LibraryPin | None:
    """What a pin of one of CUDA's libraries says of CUDA; None for any other distribution.

    Args:
        name: canonical, as PEP 503 has it.
    """
    return library_pin(tables().libraries, name, version)


def image_tag(cuda: Cuda, flavour: str, distro: str) -> NvidiaImage | None:
    """The newest point release of nvidia/cuda that is kept, of that kind.

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
