"""Rules about frameworks that do not fit the driver or the GPUs, judged as the build judges a lock."""

from collections.abc import Iterator
from shlex import quote
from typing import ClassVar

from mlship.cuda.fit.judge import Reason, ReasonKind, offered_by
from mlship.cuda.tables.lookup import first_driver
from mlship.cuda.versions import Cuda
from mlship.doctor import advice
from mlship.doctor.facts.fact import Fact, each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaDevice, Place
from mlship.doctor.finding import Decider, Evidence, Finding, Step, Where
from mlship.doctor.frameworks import Judged, as_cuda, driver_version, installed, judged, profile
from mlship.doctor.queries import places
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_OLD, _NO_KERNEL, _BAD_PTX = 35, 209, 222
_PTX = "unsupported toolchain"


def _starts(place: Place) -> bool:
    """No layer below the framework is known to fail."""
    return known(place.cuda.init) in {0, None}


def _fix(facts: Facts, item: Judged, needs: Reason | None, *more: Step | None) -> tuple[Step, ...]:
    """What runs here, then a driver update if that helps."""
    here = installed(item.environment) if item.environment else {}
    image = advice.base_image(item.host)
    first = advice.install_step(item.package, item.version, item.host, item.where, here) if item.package else None
    if first is None and not item.package and image:
        first = Step(f"Use a base image whose CUDA this driver and this GPU support, such as {image}.")
    update = advice.driver(facts, item.host, needs.needs if needs else None)
    steps = tuple(step for step in (first, update, *more) if step)
    if steps and first is None:
        steps = (advice.without_or(steps[0]), *steps[1:])
    return steps or (Step("Install a build that contains code for this GPU, or build it from source."),)


def _evidence(item: Judged) -> tuple[Evidence, ...]:
    offered = offered_by(item.host)
    supports = f" (CUDA {offered})" if offered else ""
    where = f"{item.where}.pythons" if item.environment else "image.cuda_version"
    torch = known(item.environment.torch) if item.environment and item.package == "torch" else None
    code = each(torch.arch_list) if torch else ()
    return (
        Evidence(where, f"{item.package} {item.version}".strip()),
        *((Evidence(f"{where}.torch.arch_list", " ".join(code)),) if code else ()),
        Evidence("kernel.nvidia.version", f"{item.host.driver}{supports}")
        if item.driver_is_exact
        else Evidence("kernel.nvidia.version", f"unknown; {item.host.driver} or newer{supports}"),
        *(Evidence("nvml.devices", f"{gpu.name}, compute capability {gpu.capability}") for gpu in item.host.gpus),
    )


class DriverTooOld(Rule, id="runtime-35-driver-too-old"):
    def look(self, facts: Facts) -> Finding | None:
        for item in judged(facts):
            reason = item.reason("driver-floor")
            if reason and self._fits(item):
                return self.found(
                    facts,
                    where=item.where,
                    cause=f"{item.stack.name} needs driver {reason.needs} or newer; this host has {item.host.driver}.",
                    fix=_fix(facts, item, reason, advice.forward(item.host, item.stack.cuda)),
                    evidence=(*_evidence(item), *self._codes(item.where, item.place)),
                )
        return self._unnamed(facts)

    @staticmethod
    def _fits(item: Judged) -> bool:
        code = known(item.place.cuda.runtime_code)
        if item.works or not _starts(item.place):
            return False
        return code == _OLD or (bool(item.package) and (item.works is False or code is None))

    def _unnamed(self, facts: Facts) -> Finding | None:
        """The CUDA version is unknown, but its runtime reports that it is newer than the driver's."""
        for where, place in places(facts):
            host, version = profile(facts, place), known(place.cuda.driver_version)
            if known(place.cuda.runtime_code) != _OLD or known(place.cuda.init) != 0 or not version or host is None:
                continue
            image = advice.base_image(host)
            return self.found(
                facts,
                where=where,
                cause=f"The CUDA runtime has a newer major version than this host's driver {host.driver} supports.",
                fix=(
                    Step(
                        "Use libraries or an image whose CUDA is not newer than the driver's"
                        + (f", such as {image}." if image else ".")
                    ),
                    Step("Or update the host's driver to one that supports that CUDA version.", instead=True),
                ),
                evidence=(
                    *self._codes(where, place),
                    Evidence(f"{where}.cuda.init", codes.cuda(0)),
                    Evidence(f"{where}.cuda.driver_version", str(version)),
                ),
            )
        return None

    @staticmethod
    def _codes(where: Where, place: Place) -> tuple[Evidence, ...]:
        code = known(place.cuda.runtime_code)
        return (Evidence(f"{where}.cuda.runtime_code", codes.cuda(code)),) if code else ()


class _NoKernels(Rule):
    """What is installed contains no code for a GPU."""

    kind: ClassVar[ReasonKind]

    def look(self, facts: Facts) -> Finding | None:
        for item in judged(facts, by_torch=True):
            reason = item.reason(self.kind)
            if reason and _starts(item.place) and (item.package or _no_kernel_was_seen(facts, item.place)):
                return self.found(
                    facts,
                    where=item.where,
                    cause=f"{reason.text}.",
                    fix=_fix(facts, item, None),
                    evidence=(*_evidence(item), *_kernel_codes(item.where, item.place, _NO_KERNEL)),
                )
        return None


def _no_kernel_was_seen(facts: Facts, place: Place) -> bool:
    reported = any("no kernel image" in line for line in each(facts.messages))
    return reported or any(known(device.kernel_code) == _NO_KERNEL for device in each(place.cuda.devices))


def _kernel_codes(where: Where, place: Place, code: int) -> tuple[Evidence, ...]:
    devices: Fact[tuple[CudaDevice, ...]] = place.cuda.devices
    seen = any(known(device.kernel_code) == code for device in each(devices))
    return (Evidence(f"{where}.cuda.devices", f"the first kernel returns {codes.cuda(code)}"),) if seen else ()


class TooNewGpu(_NoKernels, id="blackwell-sm120-old-torch"):
    kind = "arch-too-new"


class DroppedGpu(_NoKernels, id="pascal-volta-cuda13-wheel"):
    kind = "arch-dropped"


def _newest(item: Judged) -> Cuda:
    """The newest CUDA among what it was built with and the libraries that compile for it at run time."""
    return max(item.stack.built, item.stack.cuda)


def _build_for(item: Judged) -> str:
    """The settings that make compilers generate machine code for the GPUs here."""
    capabilities = sorted({gpu.capability for gpu in item.host.gpus if gpu.capability})
    if not capabilities:
        return "nvcc -arch=sm_XX, TORCH_CUDA_ARCH_LIST"
    return f"nvcc -arch=sm_{capabilities[0].replace('.', '')}, TORCH_CUDA_ARCH_LIST='{' '.join(capabilities)}'"


class UnsupportedPtx(Rule, id="unsupported-ptx-version-222"):
    def look(self, facts: Facts) -> Finding | None:
        return next(self._looks(facts), None)

    def _looks(self, facts: Facts) -> Iterator[Finding]:
        everything = judged(facts)
        for item in everything:
            if (reason := item.reason("ptx-jit")) and _starts(item.place):
                yield self._finding(facts, item, f"{reason.text}.", measured=True)
        for where, place in places(facts):
            seen = bool(_kernel_codes(where, place, _BAD_PTX))
            reported = any(_PTX in line for line in each(facts.messages))
            newer = [item for item in everything if item.where == where and self._is_newer(item)]
            if newer and (seen or reported):
                item = newer[0]
                named = f"PTX of CUDA {_newest(item)}{f' ({item.stack.name})' if item.package else ' (the image)'}"
                cause = f"{named} is newer than driver {item.host.driver}, which supports CUDA {offered_by(item.host)}."
                yield self._finding(facts, item, cause, measured=seen)
            elif seen and driver_version(facts, place):
                yield self._unnamed(facts, where, place)

    @staticmethod
    def _is_newer(item: Judged) -> bool:
        offered = offered_by(item.host)
        return offered is not None and _newest(item) > offered

    def _finding(self, facts: Facts, item: Judged, cause: str, *, measured: bool) -> Finding:
        needs = first_driver(_newest(item))
        update = advice.driver(facts, item.host, needs)
        here = installed(item.environment) if item.environment else {}
        other = self._other(item, here)
        build = Step(f"Or build it with machine code for this GPU: {_build_for(item)}.", instead=True)
        steps = (other, build if other else advice.without_or(build), update, advice.forward(item.host, _newest(item)))
        return self.found(
            facts,
            where=item.where,
            certain=measured,
            cause=cause,
            fix=tuple(step for step in steps if step),
            evidence=(*_evidence(item), *_kernel_codes(item.where, item.place, _BAD_PTX)),
            decides=(Decider("cuda.devices", "run the failing program with CUDA_LAUNCH_BLOCKING=1"),),
        )

    @staticmethod
    def _other(item: Judged, here: dict[str, str]) -> Step | None:
        """The compiler of the driver's CUDA if a wheel installs a newer one; else another build of the package."""
        offered = offered_by(item.host)
        for name, version in sorted(here.items()):
            cuda = as_cuda(version) if name.startswith("nvidia-cuda-nvrtc") else None
            if cuda and offered and cuda > offered and cuda.major == offered.major:
                say = "Install the run-time compiler of the driver's CUDA version:"
                return Step(say, (f"pip install {quote(f'{name}=={offered}.*')}",))
        step = advice.install_step(item.package, item.version, item.host, item.where, here) if item.package else None
        return None if step and f"CUDA {item.stack.built}," in step.say else step

    def _unnamed(self, facts: Facts, where: Where, place: Place) -> Finding:
        return self.found(
            facts,
            where=where,
            cause=f"A kernel is PTX of a newer CUDA than driver {driver_version(facts, place)} can compile.",
            fix=(
                Step("Build it with machine code for this GPU: nvcc -arch=sm_XX, TORCH_CUDA_ARCH_LIST."),
                Step("Or update the host's driver to one that supports the CUDA it was built with.", instead=True),
            ),
            evidence=_kernel_codes(where, place, _BAD_PTX),
        )
