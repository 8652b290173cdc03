"""What to lock for: the CUDA that the hosts run, or PyTorch's builds for the CPU.

PyPI's x86 wheels of torch require gigabytes of CUDA; PyTorch's own index has builds without it.
"""

import os
from collections.abc import Iterable

from mlship.cuda.fit.choose import Choice, choose, limits_without_index, read_requests
from mlship.cuda.fit.explain import choice_error
from mlship.cuda.fit.match import match_lock
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.lookup import tables, wheel_index
from mlship.errors import MatchError
from mlship.frameworks import framework_table
from mlship.known_texts import phrase
from mlship.lock.gpu import FOR_CPU, LockTarget
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from mlship.project.config import Config, Gpu
from mlship.project.load import WHEEL_INDEX_VARIABLE

_CPU = "cpu"
_CPU_PACKAGES = ("torch", "torchvision", "torchaudio")


def lock_target(config: Config, files: tuple[InputFile, ...], fleet: Fleet) -> LockTarget:
    """Choose the CUDA to resolve for.

    Raises:
        MatchError: no release of a requested package runs on every host.
    """
    gpu = config.gpu or Gpu.model_validate({})
    requests = read_requests(files, config)
    choice = choose(requests, fleet, config.platform, compat=gpu.forward_compat)
    if choice.refused:
        raise choice_error(choice, requests, fleet, config.platform)

    def images(pins: tuple[Pin, ...]) -> tuple[str, ...]:
        _refuse_strays(choice, pins, gpu)
        match = match_lock(config, pins, fleet)
        return tuple(image for image in (match.runtime, match.devel, match.compat) if image)

    return LockTarget(
        key=choice.key,
        pages=wheel_pages(gpu.wheel_index, choice.variant, wheel_index().packages),
        limits=choice.limits,
        alone=limits_without_index(choice, requests, fleet, config.platform, compat=gpu.forward_compat),
        packages=frozenset(tables().packages.by_package),
        judge=images,
    )


def cpu_target(config: Config, files: Iterable[InputFile]) -> LockTarget:
    """The pages to lock from; none if the image is for GPUs or needs no torch."""
    if config.gpu or config.platform != "linux/amd64":
        return FOR_CPU
    names = {request.name for request in read_requests(files, config)}
    torch = {name for row in framework_table().frameworks if row.name == "torch" for name in row.required_by}
    return LockTarget(_cpu_pages(_CPU_PACKAGES) if names & {*_CPU_PACKAGES, *torch} else ())


def locked_cpu_pages(pins: Iterable[Pin]) -> tuple[str, ...]:
    """The pages to install from: those of the pins that are locked as CPU builds."""
    return _cpu_pages(pin.name for pin in pins if pin.name in _CPU_PACKAGES and pin.version.endswith(f"+{_CPU}"))


def _cpu_pages(packages: Iterable[str]) -> tuple[str, ...]:
    return wheel_pages(os.environ.get(WHEEL_INDEX_VARIABLE), _CPU, packages)


def wheel_pages(index: str | None, variant: str | None, packages: Iterable[str]) -> tuple[str, ...]:
    """The page of each package that lists a variant's wheels; an index could offer any other name too.

    Args:
        index: a mirror of PyTorch's.
    """
    base = (index or wheel_index().address).rstrip("/")
    return tuple(f"{base}/{variant}/{package}/" for package in packages) if variant else ()


def _refuse_strays(choice: Choice, pins: tuple[Pin, ...], gpu: Gpu) -> None:
    """Refuse a wheel that pip took from another index because it is newer there."""
    by_name = {pin.name: pin.version for pin in pins}
    for pick in choice.picks:
        version = by_name.get(pick.package, "")
        # +cpu is requested as such; the lock's needs report it
        if pick.indexed and version and not version.endswith((f"+{pick.variant}", "+cpu")):
            (page,) = wheel_pages(gpu.wheel_index, pick.variant, (pick.package,))
            named = {"package": pick.package, "version": version, "page": page, "variant": pick.variant}
            raise MatchError(phrase("other_build").format(**named), hint=phrase("own_build").format(**named))
