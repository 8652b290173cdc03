"""What a lock is made for: pages of wheels, limits of versions, images to pin. `mlship.cuda` chooses it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from mlship.errors import TransientError
from mlship.frameworks import is_cuda_library
from mlship.lock.indexes import PipSettings
from mlship.lock.pins import Pin


@dataclass(frozen=True)
class LockTarget:
    """The CUDA that a lock is made for, or the CPU.

    Attributes:
        pages: addresses of pages that each list one package's wheels for this CUDA, for find-links. An index would also
            offer the project's other packages. For the CPU, pages of PyTorch's CPU builds; a lock without a connection
            to them has PyPI's, and says so.
        key: the whole choice on one line, such as "12.6 (cu126), torch<2.15"; an input of the lock. Empty for the CPU.
        limits: requirements that allow only versions built for this CUDA, such as "torch<2.15".
        alone: limits with which pip's own indexes suffice; empty where they do already, or where none are known.
        packages: names of the packages that are chosen by their CUDA.
        judge: returns NVIDIA's images that the build copies from, such as
            nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04; raises MatchError if the pins do not run on the hosts.
    """

    pages: tuple[str, ...] = ()
    key: str = ""
    limits: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    packages: frozenset[str] = frozenset()
    judge: Callable[[tuple[Pin, ...]], tuple[str, ...]] = lambda _pins: ()


FOR_CPU = LockTarget()


def with_pages(settings: PipSettings, pages: tuple[str, ...]) -> PipSettings:
    """Pip's settings with the chosen CUDA's wheels added to the project's own indexes."""
    return replace(settings, find_links=(*settings.find_links, *pages)) if pages else settings


def without_cuda(pins: tuple[Pin, ...], target: LockTarget) -> str:
    """The pins to keep from a lock for another CUDA: all but CUDA's libraries and packages built for one CUDA."""
    kept = (pin for pin in pins if pin.name not in target.packages and not is_cuda_library(pin.name))
    return "".join(f"{pin.name}=={pin.version}\n" for pin in kept if pin.url is None)


def can_reach(settings: PipSettings, pages: tuple[str, ...]) -> bool:
    """Whether the index of these pages answers; they share one host."""
    from mlship.lock.index import check_pages  # imported here: most builds ask no index

    try:
        check_pages(settings, pages[:1])
    except TransientError:
        return False
    return True
