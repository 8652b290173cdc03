"""What is well: the other half of a report. A check says what it saw, or nothing where that is not so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import StackLayer
from mlship.doctor.views import gpus, kernel_driver, passed_on, places


@dataclass(frozen=True)
class WorkingPart:
    """One thing that was looked at and is well."""

    layer: StackLayer
    seen: str


def checks(facts: Facts) -> tuple[WorkingPart, ...]:
    """Everything that is well, lowest layer first."""
    return tuple(check for look in _CHECKS for check in look(facts))


def _hardware(facts: Facts) -> Iterator[WorkingPart]:
    answering = [gpu for gpu in gpus(facts) if known(gpu.revision) != "ff"]
    if answering:
        names = sorted({known(gpu.name) or "NVIDIA GPU" for gpu in answering})
        yield WorkingPart("hardware", f"{_many(len(answering), 'NVIDIA GPU')} on the PCI bus: {', '.join(names)}")
    for gpu in passed_on(facts):
        name, driver = known(gpu.name) or "an NVIDIA GPU", known(gpu.driver)
        yield WorkingPart("hardware", f"{name} is bound to {driver}: kept for virtual machines, not for this host")


def _module(facts: Facts) -> Iterator[WorkingPart]:
    version, flavour = kernel_driver(facts), known(facts.kernel.nvidia.flavour)
    if version:
        yield WorkingPart("kernel module", f"nvidia {version} is loaded{f' ({flavour} flavour)' if flavour else ''}")


def _user_space(facts: Facts) -> Iterator[WorkingPart]:
    for where, place in places(facts):
        nvml, cuda = place.nvml, place.cuda
        if known(nvml.init) == 0 and known(nvml.device_count) != 0:
            count = known(nvml.device_count)
            sees = "" if count is None else f", and sees {_many(count, 'GPU')}"
            yield WorkingPart("driver user space", f"{where}: NVML answers{sees}")
        if known(cuda.init) == 0 and known(cuda.device_count) != 0:
            count = known(cuda.device_count)
            sees = "" if count is None else f", and sees {_many(count, 'device')}"
            yield WorkingPart("driver user space", f"{where}: CUDA starts{sees}")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _toolkit(facts: Facts) -> Iterator[WorkingPart]:
    if version := known(facts.host.toolkit.version):
        yield WorkingPart("toolkit", f"NVIDIA Container Toolkit {version} is installed")
    whole = [spec for spec in each(facts.host.cdi.specs) if spec.missing == () and known(spec.error) is None]
    if whole:
        yield WorkingPart("toolkit", f"all that {', '.join(spec.path for spec in whole)} names exists")


def _engine(facts: Facts) -> Iterator[WorkingPart]:
    if version := known(facts.host.docker.version):
        runtimes = known(facts.host.docker.runtimes) or ()
        has = "with" if "nvidia" in runtimes else "without"
        yield WorkingPart("engine", f"Docker Engine {version} answers, {has} the nvidia runtime")


def _framework(facts: Facts) -> Iterator[WorkingPart]:
    for where, place in places(facts):
        for environment in each(place.pythons):
            torch = known(environment.torch)
            if torch and known(torch.is_available):
                yield WorkingPart("framework", f"{where}: torch {known(torch.version) or ''} sees the GPU")


_CHECKS: tuple[Callable[[Facts], Iterator[WorkingPart]], ...] = (
    *(_hardware, _module, _user_space, _toolkit, _engine, _framework),
)
