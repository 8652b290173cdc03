"""What is installed, judged against the driver and the GPUs of this host as the build judges it. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from mlship.cuda.fit.judge import Reason, ReasonKind, Stack, Verdict, judge_stack
from mlship.cuda.fit.needs import read_installed
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import architecture_of, first_driver, floor_of
from mlship.cuda.versions import Capability, Cuda, Driver, driver_in
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaDevice, NvmlDevice, Place
from mlship.doctor.facts.python import Jax, PythonEnvironment, Torch, Triton
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import kernel_driver, line_of, places
from mlship.doctor.versions import version_numbers

Environments: TypeAlias = tuple[tuple[Where, Place, PythonEnvironment], ...]
_CODE = re.compile(r"(sm|compute)_([0-9]+)([0-9])[a-z]?")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_MEASURED = "measured here"


@dataclass(frozen=True)
class Judged:
    """A framework in one place, judged.

    Attributes:
        package: the distribution, such as "torch"; empty for the CUDA of an image with unknown programs.
        version: of the distribution, with its local part ("+cu128").
        works: whether the framework itself uses the GPU; None if that was not tested.
        environment: where it is installed; None for the CUDA of an image.
        driver_is_exact: False if the host's driver is only known to be that version or newer.
    """

    where: Where
    place: Place
    package: str
    version: str
    host: HostProfile
    stack: Stack
    verdict: Verdict
    works: bool | None
    environment: PythonEnvironment | None = None
    driver_is_exact: bool = True

    def reason(self, *kinds: ReasonKind) -> Reason | None:
        """The first reason of one of these kinds."""
        return next((reason for reason in self.verdict.reasons if reason.kind in kinds), None)


def environments(facts: Facts) -> Environments:
    """Python environments of the host and the container, or of the image before it runs."""
    inside = each(facts.container.pythons) or each(facts.image.pythons)
    return (
        *(("host", facts.host, environment) for environment in each(facts.host.pythons)),
        *(("container", facts.container, environment) for environment in inside),
    )


def judged(facts: Facts, *, by_torch: bool = False) -> tuple[Judged, ...]:
    """Every framework with a known CUDA version, wherever the driver is known.

    Args:
        by_torch: also where torch uses the GPU, which shows that the driver is new enough for it.
    """
    found = [
        item
        for where, place, environment in environments(facts)
        for item in _of(facts, where, place, environment, by_torch=by_torch)
    ]
    taken = {item.where for item in found}
    bare = (_of_image(facts, where, place) for where, place in places(facts) if where not in taken)
    return (*found, *(item for item in bare if item))


def _of(
    facts: Facts, where: Where, place: Place, environment: PythonEnvironment, *, by_torch: bool
) -> Iterator[Judged]:
    host, exact = profile(facts, place), reported_driver(facts, place) is not None
    host = host or (_profile_by_torch(facts, place, environment) if by_torch else None)
    if host is None:
        return
    for package, version, stack in stacks(environment, host.platform):
        works = works_on_gpu(environment, package)
        verdict = judge_stack(stack, host, compat=_by_compat(place))
        yield Judged(where, place, package, version, host, stack, verdict, works, environment, exact)


def _of_image(facts: Facts, where: Where, place: Place) -> Judged | None:
    """The CUDA version of an image without a framework that says more."""
    reported = known(facts.image.cuda_version) or (known(place.env) or {}).get("CUDA_VERSION")
    cuda, host = as_cuda(reported), profile(facts, place)
    if where == "host" or cuda is None or host is None:
        return None
    stack = Stack(f"CUDA {cuda}", cuda, cuda, host.platform, "the image")
    return Judged(where, place, "", str(cuda), host, stack, judge_stack(stack, host, compat=_by_compat(place)), None)


def profile(facts: Facts, place: Place) -> HostProfile | None:
    """This host in the form that the build uses; None if its driver is unknown."""
    driver = driver_version(facts, place)
    if driver is None:
        return None
    return HostProfile(name="this host", driver=driver, gpus=_gpus(facts, place), platform=_platform(facts, place))


def _profile_by_torch(facts: Facts, place: Place, environment: PythonEnvironment) -> HostProfile | None:
    """If torch uses the GPU, the driver is at least what its CUDA version and these GPUs need."""
    torch, listed = known(environment.torch), _gpus(facts, place)
    cuda = as_cuda(known(torch.cuda)) if torch and known(torch.is_available) else None
    floor = floor_of(cuda.major) if cuda else None
    if floor is None:
        return None
    kinds = (architecture_of(Capability.parse(gpu.capability)) for gpu in listed if gpu.capability)
    branches = [kind.first_branch for kind in kinds if kind and kind.first_branch]
    driver = max((floor.driver, *(first for one in branches if (first := Driver.parse(f"{one}.0")))))
    return HostProfile(name="this host", driver=str(driver), gpus=listed, platform=_platform(facts, place))


def reported_driver(facts: Facts, place: Place) -> str | None:
    """The driver's version as reported by the module or NVML."""
    answers = (place.nvml, facts.host.nvml, facts.container.nvml)
    return kernel_driver(facts) or next((v for nvml in answers if (v := known(nvml.driver_version))), None)


def driver_version(facts: Facts, place: Place) -> str | None:
    """The reported driver, or the oldest one with the CUDA version that libcuda reports."""
    reported = reported_driver(facts, place)
    if reported:
        driver, _ = driver_in(reported)
        return str(driver) if driver else None
    offered = None if _by_compat(place) else known(place.cuda.driver_version)
    oldest = first_driver(Cuda(offered // 1000, offered % 1000 // 10)) if offered else None
    return str(oldest) if oldest else None


def _gpus(facts: Facts, place: Place) -> tuple[HostGpu, ...]:
    """The GPUs here; those that CUDA sees come first, since others do not matter to a container."""
    for devices in (place.cuda.devices, place.nvml.devices, facts.host.cuda.devices, facts.host.nvml.devices):
        listed: tuple[CudaDevice | NvmlDevice, ...] = each(devices)
        found = {
            HostGpu(known(device.name) or "the GPU", capability): None
            for device in listed
            if (capability := known(device.compute_capability)) and _CAPABILITY.fullmatch(capability)
        }
        if found:
            return tuple(found)
    return ()


def _platform(facts: Facts, place: Place) -> str:
    machine = known(place.os.arch) or known(facts.host.os.arch) or ""
    return "linux/arm64" if machine in {"aarch64", "arm64"} else "linux/amd64"


def _by_compat(place: Place) -> bool:
    """CUDA starts here through NVIDIA's forward-compatibility libraries."""
    library = known(place.cuda.library)
    return library is not None and "/compat/" in library.path and known(place.cuda.init) == 0


def stacks(environment: PythonEnvironment, platform: str) -> Iterator[tuple[str, str, Stack]]:
    """Package, version and stack of what is installed; its own report takes precedence over the tables."""
    here = installed(environment)
    found = {stack.name.split()[0]: stack for stack in read_installed(here, platform).stacks}
    for package, reported in _reported_cuda(environment, here).items():
        if reported and package in here:
            found.setdefault(package, Stack(f"{package} {here[package]}", reported, reported, platform, _MEASURED))
    torch = known(environment.torch)
    for package, stack in found.items():
        measured = _measured(stack, torch) if package == "torch" and torch else stack
        # The runtime's names end in -cu12 or not.
        yield package, here.get(package) or stack.name.partition(" ")[2], measured


def installed(environment: PythonEnvironment) -> dict[str, str]:
    """Distributions by name, as read from disk or, if that is unknown, as the frameworks report them."""
    here = dict(known(environment.distributions) or {})
    torch, onnx = known(environment.torch), known(environment.onnxruntime)
    flow, cupy = known(environment.tensorflow), known(environment.cupy)
    if torch and (version := known(torch.version)):
        here["torch"] = _with_variant(version, torch)
    if known(environment.distributions) is not None:
        return here
    if onnx and (version := known(onnx.version)):
        cuda = "CUDAExecutionProvider" in each(onnx.available_providers) or each(onnx.missing_libraries)
        here["onnxruntime-gpu" if cuda else "onnxruntime"] = version
    if flow and (version := known(flow.version)):
        here["tensorflow-cpu" if is_absent(flow.cuda_version) else "tensorflow"] = version
    if cupy and (version := known(cupy.version)) and (built := as_cuda(known(cupy.cuda))):
        here[f"cupy-cuda{built.major}x"] = version
    return here


def _with_variant(version: str, torch: Torch) -> str:
    """A PyPI wheel's version does not name its CUDA version; torch.version.cuda does."""
    if "+" in version:
        return version
    cuda = as_cuda(known(torch.cuda))
    if cuda:
        return f"{version}+cu{cuda.major}{cuda.minor}"
    return f"{version}+cpu" if is_absent(torch.cuda) else version


def _reported_cuda(environment: PythonEnvironment, here: dict[str, str]) -> dict[str, Cuda | None]:
    """The CUDA versions that frameworks report they were built with."""
    torch, flow, cupy = known(environment.torch), known(environment.tensorflow), known(environment.cupy)
    return {
        "torch": as_cuda(known(torch.cuda)) if torch else None,
        "tensorflow": as_cuda(known(flow.cuda_version)) if flow else None,
        **{name: as_cuda(known(cupy.cuda)) for name in here if name.startswith("cupy") and cupy},
    }


def _measured(stack: Stack, torch: Torch) -> Stack:
    """The stack with torch's own report of its kernels, which takes precedence over the tables."""
    built = as_cuda(known(torch.cuda)) or stack.built
    code = [match.groups() for item in each(torch.arch_list) if (match := _CODE.fullmatch(item))]
    cubins = sorted({Capability(int(major), int(minor)) for kind, major, minor in code if kind == "sm"})
    ptx = [Capability(int(major), int(minor)) for kind, major, minor in code if kind == "compute"]
    stack = replace(stack, built=built, exact=True, unknown="")
    if not cubins:
        return stack
    return replace(stack, architectures=tuple(cubins), ptx=max(ptx, default=None), source=_MEASURED)


def works_on_gpu(environment: PythonEnvironment, package: str) -> bool | None:
    """What the framework itself reports; None if it was not tested."""
    torch, onnx = known(environment.torch), known(environment.onnxruntime)
    flow, jax, cupy = known(environment.tensorflow), known(environment.jax), known(environment.cupy)
    if package == "torch" and torch:
        return False if known(torch.error) else known(torch.is_available)
    if package.startswith("onnxruntime") and onnx and (used := known(onnx.session_providers)) is not None:
        return set(used) != {"CPUExecutionProvider"}
    if package.startswith("tensorflow") and flow and (count := known(flow.gpus)) is not None:
        return count > 0
    if package.startswith("jax") and jax and (backend := known(jax.backend)):
        return backend != "cpu"
    if package.startswith("cupy") and cupy and (known(cupy.error) or is_absent(cupy.error)):
        return is_absent(cupy.error)
    return None


def as_cuda(text: str | None) -> Cuda | None:
    """The first two numbers of a version such as "12.8.1"."""
    parts = version_numbers(text or "")
    return Cuda(*parts[:2]) if len(parts) > 1 else None


def errors(environment: PythonEnvironment) -> Iterator[tuple[str, str]]:
    """What frameworks raise, each with its name."""
    for name in ("torch", "onnxruntime", "tensorflow", "jax", "cupy", "triton"):
        framework: Torch | Jax | Triton | None = known(getattr(environment, name))
        if framework is not None and (error := known(framework.error)):
            yield name, error


def error_line(facts: Facts, pattern: str) -> Evidence | None:
    """A framework's own error, or a line that a user saw."""
    raised = ((where, line) for where, _, one in environments(facts) for _, line in errors(one))
    found = (Evidence(f"{where}.pythons.error", line.strip()) for where, line in raised if re.search(pattern, line))
    return next(found, None) or line_of(facts, pattern)


def mismatched_plugin(environment: PythonEnvironment) -> str | None:
    """The jax plugin whose release differs from jaxlib's."""
    here, jax = installed(environment), known(environment.jax)
    jaxlib = here.get("jaxlib") or (known(jax.jaxlib_version) if jax else None)
    for name in ("jax-cuda12-plugin", "jax-cuda13-plugin"):
        if name in here and jaxlib and here[name].split(".")[:3] != jaxlib.split(".")[:3]:
            return f"{name} {here[name]} with jaxlib {jaxlib}"
    return None
