"""What is well: the other half of a report. A check says what it saw, or nothing where that is not so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Layer
from mlship.doctor.views import gpus, kernel_driver, passed_on, places


@dataclass(frozen=True)
class Check:
    """One thing that was looked at and is well."""

    layer: Layer
    seen: str


def checks(facts: Facts) -> tuple[Check, ...]:
    """Everything that is well, lowest layer first."""
    return tuple(check for look in _CHECKS for check in look(facts))


def _hardware(facts: Facts) -> Iterator[Check]:
    answering = [gpu for gpu in gpus(facts) if known(gpu.revision) != "ff"]
    if answering:
        names = sorted({known(gpu.name) or "NVIDIA GPU" for gpu in answering})
        yield Check("hardware", f"{len(answering)} on the PCI bus: {', '.join(names)}")
    for gpu in passed_on(facts):
        name, driver = known(gpu.name) or "an NVIDIA GPU", known(gpu.driver)
        yield Check("hardware", f"{name} is bound to {driver}: kept for virtual machines, not for this host")


def _module(facts: Facts) -> Iterator[Check]:
    version, flavour = kernel_driver(facts), known(facts.kernel.nvidia.flavour)
    if version:
        yield Check("kernel module", f"nvidia {version} is loaded{f' ({flavour} flavour)' if flavour else ''}")


def _user_space(facts: Facts) -> Iterator[Check]:
    for where, place in places(facts):
        nvml, cuda = place.nvml, place.cuda
        if known(nvml.init) == 0:
            count = known(nvml.device_count)
            yield Check("driver user space", f"{where}: NVML answers{'' if count is None else f', {count} GPUs'}")
        if known(cuda.init) == 0:
            count = known(cuda.device_count)
            yield Check("driver user space", f"{where}: CUDA starts{'' if count is None else f', {count} devices'}")


def _toolkit(facts: Facts) -> Iterator[Check]:
    if version := known(facts.host.toolkit.version):
        yield Check("toolkit", f"NVIDIA Container Toolkit {version} is installed")
    whole = [spec for spec in each(facts.host.cdi.specs) if spec.missing == () and known(spec.error) is None]
    if whole:
        yield Check("toolkit", f"all that {', '.join(spec.path for spec in whole)} names exists")


def _engine(facts: Facts) -> Iterator[Check]:
    if version := known(facts.host.docker.version):
        runtimes = known(facts.host.docker.runtimes) or ()
        has = "with" if "nvidia" in runtimes else "without"
        yield Check("engine", f"Docker Engine {version} answers, {has} the nvidia runtime")


def _framework(facts: Facts) -> Iterator[Check]:
    for where, place in places(facts):
        for environment in each(place.pythons):
            torch = known(environment.torch)
            if torch and known(torch.is_available):
                yield Check("framework", f"{where}: torch {known(torch.version) or ''} sees the GPU")


_CHECKS: tuple[Callable[[Facts], Iterator[Check]], ...] = (
    *(_hardware, _module, _user_space, _toolkit, _engine, _framework),
)
