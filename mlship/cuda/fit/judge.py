"""Does a stack of CUDA libraries and kernels run on a host? One answer for build and doctor, with its reasons. Pure.

A stack runs on a host where the driver drives the GPU at all, is no older than the floor of the stack's CUDA major, and
the stack has code for each GPU: a cubin of the GPU's own major, or PTX that the driver is able to compile.
https://docs.nvidia.com/deploy/cuda-compatibility/
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.load import architecture_of, compat_of, cuda_of, floor_of, gpu_class, tables
from mlship.cuda.versions import Capability, Cuda, Driver

Outcome: TypeAlias = Literal["runs", "refused", "unknown"]
ReasonKind: TypeAlias = Literal[
    "native",
    "minor-version",
    "compressed-fatbin",
    "forward-compat",
    "driver-floor",
    "forward-compat-possible",
    "ptx-jit",
    "arch-dropped",
    "arch-too-new",
    "driver-lacks-gpu",
    "platform",
    "jetson",
    "unknown-gpu",
    "unknown-driver",
    "unknown-release",
]
_OUTCOMES: dict[ReasonKind, Outcome] = {
    **dict.fromkeys(("native", "minor-version", "compressed-fatbin", "forward-compat"), "runs"),
    **dict.fromkeys(("jetson", "unknown-gpu", "unknown-driver", "unknown-release"), "unknown"),
}
_WORST: tuple[Outcome, ...] = ("refused", "unknown", "runs")
_HOST_FILE = "the host file"
_MINOR = "NVIDIA CUDA Compatibility, minor version compatibility"
_FORWARD = "NVIDIA CUDA Compatibility, forward compatibility"
_COMPRESSED = (Cuda(12, 4), 550)


@dataclass(frozen=True)
class Reason:
    """One thing that decides, or that should be known.

    Attributes:
        source: where the fact is from.
        needs: the oldest driver that would mend it; None where no driver does.
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
        """It refuses nothing, and only a run on such a host tells."""
        return self.outcome == "unknown" or self.kind == "compressed-fatbin"


@dataclass(frozen=True)
class Stack:
    """What has to run: CUDA's libraries, and kernels that were built for some GPUs.

    Attributes:
        name: for people: "torch 2.14.1 (cu130)".
        cuda: of the libraries that it runs with.
        built: the CUDA that it was built with, or the oldest that it may have been built with; `exact` tells which.
        architectures: compute capabilities that it has cubins for; None where nobody has said.
        ptx: the capability of its PTX, which the driver can compile for newer GPUs; None for none.
        least: the oldest compute capability that its makers support; None where they do not say.
        floor: the oldest driver that its makers support, where they ask for more than its CUDA does.
        platform: such as linux/amd64.
        unknown: why the tables do not know this release; empty where they do.
    """

    name: str
    cuda: Cuda
    built: Cuda
    platform: str
    source: str
    exact: bool = True
    architectures: tuple[Capability, ...] | None = None
    ptx: Capability | None = None
    least: Capability | None = None
    floor: Driver | None = None
    unknown: str = ""


@dataclass(frozen=True)
class Verdict:
    """How one stack fares on one host; what decides comes first."""

    host: str
    stack: str
    reasons: tuple[Reason, ...]

    @property
    def outcome(self) -> Outcome:
        return worst(reason.outcome for reason in self.reasons)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """What all of them come to: one refusal refuses."""
    return min(outcomes, key=_WORST.index, default="runs")


def judge(stack: Stack, host: HostProfile, *, compat: bool = False) -> Verdict:
    """Judge a stack on a host.

    Args:
        compat: NVIDIA's forward-compatibility libraries are in the image.
    """
    reasons = sorted(_reasons(stack, host, compat=compat), key=lambda reason: _WORST.index(reason.outcome))
    return Verdict(host.name, stack.name, tuple(reasons))


def _reasons(stack: Stack, host: HostProfile, *, compat: bool) -> Iterator[Reason]:
    driver = Driver.parse(host.driver)
    if host.platform != stack.platform:
        yield Reason("platform", f"{host.name} is {host.platform}, and the image {stack.platform}", _HOST_FILE)
        return
    if driver is None:
        yield Reason("unknown-driver", f"{host.driver!r} is no driver version such as 550.54.15", _HOST_FILE)
        return
    boards = [gpu for gpu in host.gpus if _is_board(gpu)]
    for gpu in boards:
        text = f"{gpu.name} (compute capability {gpu.capability}) is a Jetson, which PyPI's wheels are not built for"
        yield Reason("jetson", text, _HOST_FILE)
    if boards:
        return  # a Jetson's driver has numbers of its own
    if stack.unknown:
        yield Reason("unknown-release", stack.unknown, stack.source)
    possible = _compat_possible(stack, host, driver)
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
            yield Reason(
                "forward-compat", f"driver {driver} runs CUDA {stack.cuda} by NVIDIA's compat libraries", source
            )
            return
        yield Reason(
            "driver-floor", f"{stack.name} needs driver >= {least}, and {host.name} has {driver}", source, least
        )
        if possible:
            text = f"NVIDIA's forward-compatibility libraries would run CUDA {stack.cuda} on {host.name}"
            yield Reason("forward-compat-possible", text, _FORWARD)
        return
    answer = cuda_of(driver)
    if answer.cuda is None:
        yield Reason("unknown-driver", answer.reason or f"driver {driver} is not known", _HOST_FILE)
    elif stack.cuda <= answer.cuda:
        text = answer.reason or f"driver {driver} runs CUDA {answer.cuda} and older"
        yield Reason("native", text, answer.branch.source if answer.branch else _HOST_FILE)
    else:
        yield from _newer_minor(stack, driver, answer.cuda)


def _newer_minor(stack: Stack, driver: Driver, offered: Cuda) -> Iterator[Reason]:
    text = f"driver {driver} is of CUDA {offered}; CUDA {stack.cuda} runs there by minor-version compatibility"
    yield Reason("minor-version", text, _MINOR)
    since, branch = _COMPRESSED
    if stack.cuda >= since and stack.cuda.major == since.major and driver.branch < branch:
        text = f"drivers before R{branch} cannot read the compressed kernels that CUDA {since} and newer can make"
        yield Reason("compressed-fatbin", text, "ollama/ollama, discover/cuda_compat.go")


def _gpu_reasons(stack: Stack, gpu: HostGpu, driver: Driver, *, translates: bool) -> Iterator[Reason]:
    """Whether the driver drives the GPU, and whether the stack has code for it."""
    capability = _capability(gpu)
    architecture = architecture_of(capability) if capability else None
    if capability is None or architecture is None:
        said = f"compute capability {gpu.capability}" if gpu.capability else "its compute capability"
        yield Reason("unknown-gpu", f"{gpu.name}: {said} is not known to mlship", _HOST_FILE)
        return
    named = f"{gpu.name} (compute capability {capability})"
    if architecture.last_branch and driver.branch > architecture.last_branch:
        text = f"R{architecture.last_branch} is the last driver for {named}: {driver} does not drive it"
        yield Reason("driver-lacks-gpu", text, architecture.source)
    elif architecture.first_branch and driver.branch < architecture.first_branch:
        text = f"{named} needs driver R{architecture.first_branch} or newer, and {driver} is older"
        yield Reason("driver-lacks-gpu", text, architecture.source, Driver(architecture.first_branch, 0))
    elif stack.architectures is None:
        yield from _toolkit_reasons(stack, named, capability)
    else:
        yield from _code_reasons(stack, stack.architectures, named, (capability, driver), translates=translates)


def _code_reasons(
    stack: Stack, has: tuple[Capability, ...], named: str, on: tuple[Capability, Driver], *, translates: bool
) -> Iterator[Reason]:
    """A cubin runs on GPUs of its own major with the same minor or a newer one; PTX on all that are no older."""
    capability, driver = on
    if any(built.major == capability.major and built.minor <= capability.minor for built in has):
        return
    if stack.ptx is None or stack.ptx > capability:
        kind: ReasonKind = "arch-dropped" if capability < has[0] else "arch-too-new"
        yield Reason(kind, f"{stack.name} has no kernels for {named}: only for {_listed(has)}", stack.source)
        return
    offered = cuda_of(driver).cuda
    if not translates and (offered is None or stack.built > offered):
        text = (
            f"{stack.name} has only PTX of CUDA {stack.built} for {named}; driver {driver} is of CUDA {offered} "
            "and cannot compile it (minor-version compatibility leaves PTX out)"
        )
        yield Reason("ptx-jit", text, _MINOR, first_driver(stack.built))


def _toolkit_reasons(stack: Stack, named: str, capability: Capability) -> Iterator[Reason]:
    """Where nobody has said which GPUs a release holds code for, its toolkit's own limits are all there is."""
    architecture = architecture_of(capability)
    if architecture is None:
        return
    first, last = architecture.first, architecture.last
    if last and stack.built > last:
        yield Reason(
            "arch-dropped", f"CUDA {stack.built} has dropped {named}; CUDA {last} was the last", architecture.source
        )
    elif stack.least and capability < stack.least:
        yield Reason("arch-dropped", f"{stack.name} needs compute capability {stack.least}: {named}", stack.source)
    elif first and stack.built < first and (stack.exact or stack.cuda < first):
        yield Reason(
            "arch-too-new", f"CUDA {stack.cuda} does not know {named}; CUDA {first} is the first", architecture.source
        )
    elif first and stack.built < first:
        text = f"whether {stack.name} has kernels for {named} is not known; only a build with CUDA {first} or newer can"
        yield Reason("unknown-gpu", text, architecture.source)


def first_driver(cuda: Cuda) -> Driver | None:
    """The oldest driver of the branch that came with a CUDA version; None where that is not known."""
    return min((t.driver for t in tables().drivers.toolkits if t.cuda == cuda and t.driver), default=None)


def offered_by(host: HostProfile) -> Cuda | None:
    """The CUDA that a host's driver offers, by its branch; None where that is not known."""
    driver = Driver.parse(host.driver)
    return cuda_of(driver).cuda if driver else None


def _compat_possible(stack: Stack, host: HostProfile, driver: Driver) -> bool:
    """Forward compatibility: data-center GPUs only, from the branches that NVIDIA lists."""
    package = compat_of(stack.cuda)
    served = all(gpu_class(gpu.name) == "data-center" for gpu in host.gpus)
    return package is not None and served and package.on(driver.branch) == "ok"


def _is_board(gpu: HostGpu) -> bool:
    capability = _capability(gpu)
    architecture = architecture_of(capability) if capability else None
    return architecture is not None and capability in architecture.tegra


def _capability(gpu: HostGpu) -> Capability | None:
    try:
        return Capability.parse(gpu.capability) if gpu.capability else None
    except ValueError:
        return None


def _listed(capabilities: tuple[Capability, ...]) -> str:
    return ", ".join(str(capability) for capability in capabilities)
