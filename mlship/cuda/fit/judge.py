"""Whether a stack of CUDA libraries and kernels runs on a host, with reasons; shared by build and doctor. Pure.

A stack runs on a host where the driver supports the GPU, is no older than the floor of the stack's CUDA major, and the
stack has code for each GPU: a cubin of the GPU's own major, or PTX that the driver can compile.
https://docs.nvidia.com/deploy/cuda-compatibility/
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import architecture_of, compat_of, first_driver, floor_of, gpu_class, newest_of, offer_of
from mlship.cuda.tables.rows import Architecture
from mlship.cuda.versions import Capability, Cuda, Driver

Outcome: TypeAlias = Literal["runs", "refused", "unknown"]
_Runs: TypeAlias = Literal["native", "minor-version", "compressed-fatbin", "unsupported-driver", "forward-compat"]
_Unknown: TypeAlias = Literal["jetson", "unknown-gpu", "unknown-driver", "unknown-release"]
_OfGpu: TypeAlias = Literal["ptx-jit", "arch-dropped", "arch-too-new", "driver-lacks-gpu"]
_Refused: TypeAlias = Literal[_OfGpu, "driver-floor", "forward-compat-possible", "platform"]
ReasonKind: TypeAlias = Literal[_Runs, _Unknown, _Refused]
_OUTCOMES: dict[ReasonKind, Outcome] = {
    **dict.fromkeys(get_args(_Runs), "runs"),
    **dict.fromkeys(get_args(_Unknown), "unknown"),
}
_WORST: tuple[Outcome, ...] = ("refused", "unknown", "runs")
_HOST_FILE = "the host file"
_MINOR = "NVIDIA CUDA Compatibility, minor version compatibility"
_FORWARD = "NVIDIA CUDA Compatibility, forward compatibility"
_COMPRESSED = (Cuda(12, 4), 550)
_MEASURED = "measured in its wheel"


@dataclass(frozen=True)
class Reason:
    """One thing that decides a verdict, or is worth knowing.

    Attributes:
        source: where the fact comes from.
        needs: the oldest driver that would fix it; None where no driver does.
    """

    kind: ReasonKind
    text: str
    source: str
    needs: Driver | None = None

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES.get(self.kind, "refused")

    @property
    def doubtful(self) -> bool:
        """It refuses nothing, but only a run on such a host can confirm it."""
        return self.outcome == "unknown" or self.kind in {"compressed-fatbin", "unsupported-driver"}


@dataclass(frozen=True)
class Kernels:
    """Device code that was measured in one or more libraries of a wheel; see `Stack`."""

    architectures: tuple[Capability, ...]
    specific: tuple[Capability, ...]
    ptx: tuple[Capability, ...]
    compressed: bool


@dataclass(frozen=True)
class Stack:
    """A package with its kernels, and the CUDA libraries that it runs with.

    Attributes:
        name: for messages, such as "torch 2.14.1 (cu130)".
        cuda: the version of its libraries.
        built: the CUDA that it was built with (`exact`), or the oldest that it may have been built with.
        platform: such as linux/amd64.
        least_cuda: only the major of its libraries is known, and `cuda` is the oldest of that major.
        architectures: the compute capabilities it has cubins for; None where unknown.
        specific: the compute capabilities it has code for that no other one runs (sm_90a).
        ptx: the capability of its PTX, which the driver can compile for newer GPUs; None for none.
        least: the oldest compute capability that its project supports; None where the project does not say.
        floor: the oldest driver that it starts on, where that is newer than its CUDA requires.
        supported: the oldest driver that its project supports, where it may run on older ones.
        unknown: why the tables do not know this release; empty where they do.
        measured: the code in its wheel, which decides instead of the tables; empty where it was not measured.
        optional: its code may never be called.
        at_run_time: most of its kernels are compiled there, by its libraries; `architectures` is what it brings.
        uncompressed: its kernels are known to be readable by drivers before R550.
    """

    name: str
    cuda: Cuda
    built: Cuda
    platform: str
    source: str
    exact: bool = True
    least_cuda: bool = False
    architectures: tuple[Capability, ...] | None = None
    specific: tuple[Capability, ...] = ()
    ptx: Capability | None = None
    least: Capability | None = None
    floor: Driver | None = None
    supported: Driver | None = None
    unknown: str = ""
    measured: tuple[Kernels, ...] = ()
    optional: bool = False
    at_run_time: bool = False
    uncompressed: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether one stack runs on one host; the deciding reason comes first."""

    host: str
    stack: str
    reasons: tuple[Reason, ...]

    @property
    def outcome(self) -> Outcome:
        return worst(reason.outcome for reason in self.reasons)

    @property
    def deciding(self) -> tuple[Reason, ...]:
        """The reasons of the verdict's outcome."""
        return tuple(reason for reason in self.reasons if reason.outcome == self.outcome)

    @property
    def driver(self) -> Driver | None:
        """The oldest driver that would change what decides; None where no driver does."""
        drivers = [reason.needs for reason in self.deciding if reason.kind != "forward-compat-possible"]
        return max((driver for driver in drivers if driver), default=None) if all(drivers) else None


def newer_drivers(blocked: Iterable[Verdict]) -> dict[str, Driver]:
    """The oldest driver that runs what each host refuses; empty where a driver is not enough on every host."""
    found: dict[str, Driver] = {}
    for verdict in blocked:
        if verdict.driver is None:
            return {}
        found[verdict.host] = max(found.get(verdict.host, verdict.driver), verdict.driver)
    return found


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The outcome of all together: one refusal refuses."""
    return min(outcomes, key=_WORST.index, default="runs")


def judge_stack(stack: Stack, host: HostProfile, *, compat: bool = False) -> Verdict:
    """Decide whether a stack runs on a host.

    Args:
        compat: the image contains NVIDIA's forward-compatibility libraries.
    """
    reasons = sorted(_reasons(stack, host, compat=compat), key=lambda reason: _WORST.index(reason.outcome))
    return Verdict(host.name, stack.name, tuple(reasons))


def _reasons(stack: Stack, host: HostProfile, *, compat: bool) -> Iterator[Reason]:
    driver = Driver.parse(host.driver)
    if host.platform != stack.platform:
        yield Reason("platform", f"{host.name} is {host.platform}, but the image is {stack.platform}", _HOST_FILE)
        return
    if driver is None:
        yield Reason("unknown-driver", f"{host.driver!r} is not a driver version such as 550.54.15", _HOST_FILE)
        return
    boards = [gpu for gpu in host.gpus if _is_board(gpu)]
    for gpu in boards:
        text = f"{gpu.name} (compute capability {gpu.capability}) is a Jetson; PyPI's wheels are not built for it"
        yield Reason("jetson", text, _HOST_FILE)
    if boards:
        return  # Jetson drivers have their own version numbers
    if stack.unknown:
        yield Reason("unknown-release", stack.unknown, stack.source)
    possible = _compat_possible(stack, host, driver)
    compressed = any(kernels.compressed for kernels in stack.measured)
    if compressed and driver.branch < _COMPRESSED[1] and not (possible and compat):
        text = f"{stack.name} is compressed in a form that drivers before R{_COMPRESSED[1]} may be unable to read"
        yield Reason("unknown-driver", text, _MEASURED, first_driver(_COMPRESSED[0]))
    yield from _driver_reasons(stack, host, driver, possible=possible, compat=compat)
    for gpu in host.gpus:
        yield from _gpu_reasons(stack, gpu, driver, translates=possible and compat)


def _driver_reasons(
    stack: Stack, host: HostProfile, driver: Driver, *, possible: bool, compat: bool
) -> Iterator[Reason]:
    """The driver against the CUDA of the stack: the floor of its major, then its minor."""
    floor = floor_of(stack.cuda.major)
    least = max((d for d in (stack.floor, floor.driver if floor else None) if d), default=None)
    source = floor.source if floor else stack.source
    if least and driver < least:
        if possible and compat:
            text = f"driver {driver} runs CUDA {stack.cuda} through NVIDIA's forward-compatibility libraries"
            yield Reason("forward-compat", text, source)
            return
        yield Reason("driver-floor", f"{stack.name} needs driver >= {least}; {host.name} has {driver}", source, least)
        if possible:
            text = f"NVIDIA's forward-compatibility libraries would run CUDA {stack.cuda} on {host.name}"
            yield Reason("forward-compat-possible", text, _FORWARD)
        return
    if stack.supported and driver < stack.supported:
        text = f"{stack.name} is supported with driver >= {stack.supported.branch}; {driver} is older, but may run it"
        yield Reason("unsupported-driver", text, stack.source, stack.supported)
    offer = offer_of(driver)
    if offer.cuda is None:
        yield Reason("unknown-driver", offer.reason or f"driver {driver} is unknown", _HOST_FILE)
    elif stack.cuda.major > offer.cuda.major and offer.at_least:
        yield Reason("unknown-driver", f"{offer.reason}; {stack.name} needs CUDA {stack.cuda}", _HOST_FILE)
    elif floor is None and stack.cuda.major > offer.cuda.major:
        text = f"{stack.name} needs CUDA {stack.cuda}; driver {driver} supports CUDA {offer.cuda} and older"
        yield Reason("driver-floor", text, source, first_driver(stack.cuda))
    elif stack.cuda <= offer.cuda:
        text = offer.reason or f"driver {driver} supports CUDA {offer.cuda} and older"
        yield Reason("native", text, offer.branch.source if offer.branch else _HOST_FILE)
    else:
        yield from _newer_minor(stack, driver, offer.cuda)


def _newer_minor(stack: Stack, driver: Driver, offered: Cuda) -> Iterator[Reason]:
    text = f"driver {driver} supports CUDA {offered}; CUDA {stack.cuda} runs through minor-version compatibility"
    yield Reason("minor-version", text, _MINOR)
    since, branch = _COMPRESSED
    if not (stack.measured or stack.uncompressed) and stack.cuda >= since and driver.branch < branch:
        text = f"drivers before R{branch} cannot read the compressed kernels that CUDA {since} and newer can produce"
        yield Reason("compressed-fatbin", text, "ollama/ollama, discover/cuda_compat.go")


def _gpu_reasons(stack: Stack, gpu: HostGpu, driver: Driver, *, translates: bool) -> Iterator[Reason]:
    """Whether the driver supports the GPU, and whether the stack has code for it."""
    capability, architecture = architecture_in(gpu)
    if capability is None or architecture is None:
        what = f"compute capability {gpu.capability} is unknown" if gpu.capability else "unknown compute capability"
        yield Reason("unknown-gpu", f"{gpu.name}: {what}", _HOST_FILE)
        return
    named = f"{gpu.name} (compute capability {capability})"
    if architecture.last_branch and driver.branch > architecture.last_branch:
        text = f"R{architecture.last_branch} is the last driver branch for {named}; {driver} is newer"
        yield Reason("driver-lacks-gpu", text, architecture.source)
    elif architecture.first_branch and driver.branch < architecture.first_branch:
        text = f"{named} needs driver R{architecture.first_branch} or newer; {driver} is older"
        yield Reason("driver-lacks-gpu", text, architecture.source, Driver(architecture.first_branch, 0))
    elif stack.least and capability < stack.least:
        text = f"{stack.name} needs compute capability {stack.least} or newer; {named} is older"
        yield Reason("arch-dropped", text, stack.source)
    elif stack.measured:
        yield from _measured_reasons(stack, architecture, named, (capability, driver), translates=translates)
    elif stack.architectures is None or stack.at_run_time:
        runs = capability.runs(stack.architectures or (), apart=architecture.apart)
        built = replace(stack, built=stack.cuda) if runs and stack.at_run_time and not stack.least_cuda else stack
        yield from _toolkit_reasons(built, named, architecture)
    else:
        found = _code_reasons(stack, architecture, named, (capability, driver), translates=translates)
        yield from map(_unless_called, found) if stack.optional else found


def _unless_called(reason: Reason) -> Reason:
    return replace(reason, kind="unknown-gpu", needs=None)


def _measured_reasons(
    stack: Stack, architecture: Architecture, named: str, on: tuple[Capability, Driver], *, translates: bool
) -> Iterator[Reason]:
    """All libraries with code for the GPU are enough, none is too little, and with some the tables decide.

    A library with code for single GPUs only (sm_90a) is an addition: others have no need of it.
    """
    found = []
    for kernels in stack.measured:
        ptx = max((one for one in kernels.ptx if one <= on[0]), default=None)
        part = replace(stack, architectures=kernels.architectures, specific=kernels.specific, ptx=ptx, source=_MEASURED)
        found.append((kernels, [*_code_reasons(part, architecture, named, on, translates=translates)]))
    lacking = [reasons[0] for _, reasons in found if reasons]
    needed = [kernels for kernels, reasons in found if reasons and (kernels.architectures or kernels.ptx)]
    if lacking and len(lacking) == len(found):
        has = {one for kernels in stack.measured for one in (*kernels.architectures, *kernels.specific)}
        by_driver = [reason for reason in lacking if reason.kind == "ptx-jit" or reason.outcome == "unknown"]
        reason = by_driver[0] if by_driver else _no_kernels(stack, named, on[0], has, _MEASURED)
        yield _unless_called(reason) if stack.optional else reason
    elif needed and stack.architectures is not None:
        yield from _code_reasons(stack, architecture, named, on, translates=translates)
    elif needed:
        yield Reason("unknown-gpu", f"only some libraries of {stack.name} have code for {named}", _MEASURED)


def _no_kernels(stack: Stack, named: str, capability: Capability, has: Iterable[Capability], source: str) -> Reason:
    known = sorted(has)
    kind: ReasonKind = "arch-dropped" if capability < min(known, default=capability) else "arch-too-new"
    return Reason(kind, f"{stack.name} has no kernels for {named}, only for {', '.join(map(str, known))}", source)


def _code_reasons(
    stack: Stack, architecture: Architecture, named: str, on: tuple[Capability, Driver], *, translates: bool
) -> Iterator[Reason]:
    """A cubin runs on GPUs of its own major with the same or a newer minor; PTX on the same and all newer GPUs."""
    capability, driver = on
    built_for = stack.architectures or ()
    if capability in stack.specific:
        return
    runs = capability.runs(built_for, apart=architecture.apart)
    if runs is None:
        text = f"{stack.name} has code for {capability.major}.x, but no document says that {named} runs it"
        yield Reason("unknown-gpu", text, architecture.source)
    if runs is not False:
        return
    if stack.ptx is None or stack.ptx > capability:
        yield _no_kernels(stack, named, capability, {*built_for, *stack.specific}, stack.source)
        return
    if architecture.first and stack.cuda < architecture.first and not stack.least_cuda:
        text = f"{stack.name} has only PTX for {named}, and the libraries of CUDA {stack.cuda} do not support it"
        yield Reason("arch-too-new", text, architecture.source)
        return
    offered = offer_of(driver).cuda
    if not translates and (offered is None or stack.built > offered):
        text = (
            f"{stack.name} has only PTX of CUDA {stack.built} for {named}; driver {driver} supports CUDA {offered} "
            "and cannot compile it (minor-version compatibility does not cover PTX)"
        )
        yield Reason("ptx-jit", text, _MINOR, first_driver(stack.built))
    elif not stack.exact and offered and offered.major == stack.built.major and offered < newest_of(offered.major):
        text = f"{stack.name} has only PTX for {named}, of an unknown CUDA {stack.built.major}: it may be newer than"
        yield Reason("unknown-gpu", f"{text} CUDA {offered}, and driver {driver} could not compile it", stack.source)


def _toolkit_reasons(stack: Stack, named: str, architecture: Architecture) -> Iterator[Reason]:
    """Where a release's kernels are unknown, only its toolkit's own limits apply."""
    first, last, source = architecture.first, architecture.last, architecture.source
    if last and stack.built > last:
        text = f"CUDA {stack.built} no longer supports {named}; CUDA {last} is the last that does"
        yield Reason("arch-dropped", text, source)
    elif first and stack.built < first and (stack.exact or stack.cuda < first) and not stack.least_cuda:
        text = f"CUDA {stack.cuda} does not support {named}; CUDA {first} is the first that does"
        yield Reason("arch-too-new", text, source)
    elif first and stack.built < first:
        text = f"{stack.name} may lack kernels for {named}; only builds with CUDA {first} or newer can have them"
        yield Reason("unknown-gpu", text, source)


def offered_by(host: HostProfile) -> Cuda | None:
    """The CUDA that a host's driver offers, by its branch; None where unknown."""
    driver = Driver.parse(host.driver)
    return offer_of(driver).cuda if driver else None


def _compat_possible(stack: Stack, host: HostProfile, driver: Driver) -> bool:
    """Forward compatibility covers data-center GPUs only, on the branches that NVIDIA lists."""
    package = compat_of(stack.cuda)
    served = all(gpu_class(gpu.name) == "data-center" for gpu in host.gpus)
    return package is not None and served and package.on(driver.branch) == "ok"


def _is_board(gpu: HostGpu) -> bool:
    capability, architecture = architecture_in(gpu)
    return architecture is not None and capability in architecture.tegra


def architecture_in(gpu: HostGpu) -> tuple[Capability | None, Architecture | None]:
    """A GPU's compute capability and architecture; None where unknown."""
    try:
        capability = Capability.parse(gpu.capability or "")
    except ValueError:
        return None, None
    return capability, architecture_of(capability)
