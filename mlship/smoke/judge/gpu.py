"""Whether the model ran on a GPU, and why not. Pure: observations in, checks out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from mlship.driver import codes
from mlship.engine.base import ImageInfo
from mlship.smoke.gpu_causes import GpuCause, of_code, of_text
from mlship.smoke.gpu_seen import FrameworkUse, GpuAfter, GpuBefore, GpuDevice, GpuProcess, NvmlSeen, is_gpu
from mlship.smoke.result import Check, failed, fix, passed, skipped, warned
from mlship.smoke.seen import Observed
from mlship.smoke.spec import SmokeSpec
from mlship.units import size

GREW = 1 << 20  # bytes; below this another process may have allocated it, and a CUDA context alone takes much more
_NOT_ASKED = "tested on the CPU, which proves nothing about a GPU"


def gpu_visible(observed: Observed) -> tuple[Check, ...]:
    """What the container can do with a GPU; no check if the image neither needs nor has one."""
    if observed.device == "cpu":
        return (skipped("gpu.visible", _NOT_ASKED),) if observed.spec.gpu else ()
    before = observed.model.gpu_before
    return (skipped("gpu.visible", "not reached") if before is None else _marked(_visible(before, observed), observed),)


def gpu_used(observed: Observed) -> tuple[Check, ...]:
    """Whether the model ran on a GPU, as its own process shows; the server's process cannot be examined."""
    if observed.device == "cpu":
        return (skipped("gpu.used", _NOT_ASKED),) if observed.spec.gpu else ()
    before, after = observed.model.gpu_before, observed.model.gpu_after
    if before is None or after is None:
        return (_unreported(observed),)
    if _visible(before, observed).status == "fail":
        return (skipped("gpu.used", "there is no usable GPU"),)
    return (_marked(_used(before, after, observed), observed),)


def is_simulated(observed: Observed) -> bool:
    """Whether the GPU itself says that it is simulated."""
    before, after = observed.model.gpu_before, observed.model.gpu_after
    seen = (before.cuda.simulated or before.nvml.simulated) if before else False
    return seen or (after is not None and (after.simulated or after.nvml.simulated))


def _marked(check: Check, observed: Observed) -> Check:
    """Marks everything that was seen of a simulated GPU."""
    return replace(check, seen=f"simulated: {check.seen}") if is_simulated(observed) else check


def _unreported(observed: Observed) -> Check:
    """A model that answers without any report about a GPU must not count as one that ran on it."""
    if observed.model.output is None:
        return skipped("gpu.used", "not reached")
    seen = "the model answered, but nothing was reported about a GPU"
    return failed("gpu.used", seen, fix("gpu.used", "unreported"))


def gpu_names(nvml: NvmlSeen) -> tuple[str, ...]:
    return tuple(device.name or "a GPU without a name" for device in nvml.devices)


# What the container can do


def _visible(before: GpuBefore, observed: Observed) -> Check:
    cuda, nvml = before.cuda, before.nvml
    if cuda.init != 0 or not cuda.count:
        cause = _hidden(observed.image) or _no_gpu(before)
        return failed("gpu.visible", f"{cause.why}{_nvml_trouble(nvml)}", cause.remedy)
    version = f", CUDA {codes.cuda_version(cuda.version)}" if cuda.version else ""
    if nvml.code != 0:
        seen = f"{cuda.count} device(s){version}{_nvml_trouble(nvml)}"
        return warned("gpu.visible", seen, fix("gpu.visible", "no_nvml"))
    return passed("gpu.visible", f"{_devices(nvml.devices)}, driver {nvml.driver or 'unknown'}{version}")


def _hidden(image: ImageInfo) -> GpuCause | None:
    """Settings of the image that hide the GPU from it."""
    visible = image.env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible in ("", "-1", "NoDevFiles"):
        why = f"the image sets CUDA_VISIBLE_DEVICES={visible!r}, which hides every GPU"
        return GpuCause(why, fix("gpu.visible", "hidden"))
    capabilities = image.env.get("NVIDIA_DRIVER_CAPABILITIES")
    if capabilities is not None and not {"compute", "all"} & set(capabilities.split(",")):
        why = f"the image sets NVIDIA_DRIVER_CAPABILITIES={capabilities}, without compute"
        return GpuCause(why, fix("gpu.visible", "no_compute"))
    return None


def _no_gpu(before: GpuBefore) -> GpuCause:
    cuda = before.cuda
    if cuda.init is None:
        problem = cuda.problem or "libcuda.so.1 was not called"
        known = of_text(problem)
        return GpuCause(problem, known.remedy if known else fix("gpu.visible", "no_driver"))
    return of_code(cuda.init or 100)


def _nvml_trouble(nvml: NvmlSeen) -> str:
    if nvml.code:
        return f"; NVML: {codes.nvml(nvml.code)}"
    return f"; NVML: {nvml.problem}" if nvml.problem else ""


def _devices(devices: Iterable[GpuDevice]) -> str:
    """Such as "2 x NVIDIA A100-SXM4-80GB (8.0)"."""
    names = Counter(
        f"{device.name or 'a GPU without a name'} ({device.compute_capability or 'compute capability unknown'})"
        for device in devices
    )
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())


# Whether the model used it


def _used(before: GpuBefore, after: GpuAfter, observed: Observed) -> Check:
    libcuda = next((path for path in after.libraries if "/libcuda.so" in path), None)
    grown, listed = _grown(before.nvml, after.nvml), _processes(after.nvml)
    joined = {one.pid for one in listed} - {one.pid for one in _processes(before.nvml)}
    on_gpu = [use for use in after.words if use.on_gpu or use.for_requests_only]
    reporting = [use for use in after.words if use.uses and use.problem is None]
    alone = not reporting or bool(after.silent)  # no framework can report it: NVML has to
    reports = (*map(_framework, after.words), _nvml_says(listed, grown, after.nvml), _mapped(after, libcuda))
    if libcuda is None or not (on_gpu or (alone and (joined or grown >= GREW))):
        cause = _why_not_used(before, after, observed, libcuda)
        held = libcuda is not None and (listed or grown >= GREW)
        verdict = "nothing shows work on the GPU, although GPU memory is in use" if held else "ran on the CPU"
        return failed("gpu.used", f"{verdict}: {cause.why}", cause.remedy, reports)
    evidence = "; ".join(reports)
    halves = [use for use in on_gpu if use.framework == "onnxruntime" and not all(map(is_gpu, use.uses))]
    if halves:
        return warned("gpu.used", evidence, _provider_remedy(observed.spec, "for every session"))
    moved = [use for use in on_gpu if use.for_requests_only]
    if moved and len(moved) == len(on_gpu):
        seen = f"used for each request, while the weights are on the CPU: {evidence}"
        return warned("gpu.used", seen, fix("gpu.used", "moved", load=str(observed.spec.load)))
    if not listed and grown < GREW:
        return warned("gpu.used", evidence, fix("gpu.used", "framework_only"))
    return passed("gpu.used", evidence)


def _why_not_used(before: GpuBefore, after: GpuAfter, observed: Observed, libcuda: str | None) -> GpuCause:
    if known := of_text("\n".join(observed.model.log), before.cuda.version):
        return known
    mapped = "libcuda is mapped, but nothing shows that it was used"
    why = mapped if libcuda else "libcuda is not mapped: nothing in its process asked for a GPU"
    remedy = fix("gpu.used", "not_moved", load=str(observed.spec.load))
    return _by_framework(after.words, observed.spec) or GpuCause(why, remedy)


def _by_framework(uses: tuple[FrameworkUse, ...], spec: SmokeSpec) -> GpuCause | None:
    """The cause, from what the frameworks report."""
    causes = {"torch": _torch, "onnxruntime": _onnxruntime}
    for use in uses:
        known = causes.get(use.framework)
        if use.problem is None and known and use.uses:
            return known(use, spec)
    return None


def _torch(use: FrameworkUse, spec: SmokeSpec) -> GpuCause:
    if use.cuda is None:
        return GpuCause(f"torch {use.version} is a CPU build", fix("gpu.used", "torch_cpu_build"))
    if not use.offers_gpu:
        why = f"torch {use.version} is built for CUDA {use.cuda} and finds no usable GPU"
        return GpuCause(why, fix("gpu.used", "torch_no_gpu"))
    why = "torch could use the GPU, but all its tensors are on the CPU"
    return GpuCause(why, fix("gpu.used", "torch_on_cpu", load=str(spec.load)))


def _onnxruntime(use: FrameworkUse, spec: SmokeSpec) -> GpuCause:
    if not use.offers_gpu:
        why = f"onnxruntime {use.version} is the CPU package: it offers {', '.join(use.offers)}"
        return GpuCause(why, fix("gpu.used", "onnxruntime_cpu"))
    why = "onnxruntime could use CUDA, but its sessions are created without it"
    return GpuCause(why, _provider_remedy(spec, "followed by CPUExecutionProvider at most"))


def _provider_remedy(spec: SmokeSpec, more: str) -> str:
    return fix("gpu.used", "provider", load=str(spec.load), more=more)


# Descriptions


def _framework(use: FrameworkUse) -> str:
    name = f"{use.framework} {use.version}"
    if use.problem:
        return f"{name} cannot be read: {use.problem}"
    uses = ", ".join(f"{count} on {place}" for place, count in sorted(use.uses.items()))
    memory = f", {size(use.memory)} on GPUs" if use.memory else ""
    if use.for_requests_only:
        memory = f", at most {size(use.peak or 0)} on GPUs at a time"
    return f"{name}: {uses or 'nothing in use'}{memory}"


def _nvml_says(listed: list[GpuProcess], grown: int, nvml: NvmlSeen) -> str:
    codes = sorted({f"{name} {code}" for device in nvml.devices for name, code in device.codes.items()})
    refused = f" (NVML codes: {', '.join(codes)})" if codes else ""
    if nvml.code != 0:
        return _nvml_trouble(nvml).removeprefix("; ") or "NVML: no answer"
    if not listed:
        return f"NVML lists no process, memory in use grew by {size(grown)}{refused}"
    known = [one.memory for one in listed if one.memory is not None]
    memory = f" with {size(sum(known))}" if known else ", their memory unknown"
    return f"NVML lists {len(listed)} process{'es' if len(listed) > 1 else ''}{memory}{refused}"


def _mapped(after: GpuAfter, libcuda: str | None) -> str:
    if libcuda is None:
        return "libcuda is not mapped"
    version = f" (CUDA {codes.cuda_version(after.cuda_version)})" if after.cuda_version else ""
    return f"{PurePosixPath(libcuda).name} is mapped{version}"


def _processes(nvml: NvmlSeen) -> list[GpuProcess]:
    return [one for device in nvml.devices for one in device.processes]


def _grown(before: NvmlSeen, after: NvmlSeen) -> int:
    """Memory in use on all GPUs, after loading minus before."""
    pairs = zip(before.devices, after.devices, strict=False)
    return sum(
        max(0, new.memory_used - old.memory_used)
        for old, new in pairs
        if new.memory_used is not None and old.memory_used is not None
    )
