"""What the chosen CUDA asks of a lock: pages of wheels, limits of versions, images to pin.

How it was chosen is `mlship.cuda`'s business.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlship.frameworks import is_cuda_library
from mlship.lock.indexes import PipSettings
from mlship.lock.pins import Pin

_RETRIES = "2"  # pip's own 5 take minutes where nothing answers


@dataclass(frozen=True)
class GpuTarget:
    """The CUDA that a lock is made for.

    Attributes:
        key: all of the choice in a line, such as "12.6 (cu126), torch<2.15": an input of the lock.
        pages: addresses of the pages that list one package's wheels for this CUDA, each for find-links. Not an index:
            the project's other packages must not come from there.
        limits: requirements that keep to the versions with this CUDA, such as "torch<2.15".
        packages: names of what is chosen by its CUDA.
        judge: raises MatchError where the pins that came out do not run on the hosts; returns the images of NVIDIA's
            that the build takes from, such as nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04.
    """

    key: str
    pages: tuple[str, ...]
    limits: tuple[str, ...]
    packages: frozenset[str]
    judge: Callable[[tuple[Pin, ...]], tuple[str, ...]]


def with_pages(settings: PipSettings, pages: tuple[str, ...]) -> PipSettings:
    """Pip's settings, with the wheels of the chosen CUDA beside the project's own indexes."""
    return replace(settings, find_links=(*settings.find_links, *pages)) if pages else settings


def impatient(settings: PipSettings) -> PipSettings:
    """Pip's settings for pages that may not answer: fewer tries, where the user's settings do not say how many."""
    return replace(settings, retries=settings.retries or _RETRIES)


def without_cuda(pins: tuple[Pin, ...], target: GpuTarget) -> str:
    """A lock of another CUDA, as pins to keep: all but CUDA's libraries and what is built for one CUDA."""
    kept = (pin for pin in pins if pin.name not in target.packages and not is_cuda_library(pin.name))
    return "".join(f"{pin.name}=={pin.version}\n" for pin in kept if pin.url is None)
