"""Whether the model ran on a GPU, and why not. Pure: observations in, checks out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import PurePosixPath

from mlship.engine.base import ImageInfo
from mlship.smoke.events import Output
from mlship.smoke.gpu_causes import NVML_CODES, REBUILD, RELOCK, GpuCause, cuda_name, of_code, of_text
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore, GpuDevice, GpuProcess, NvmlSeen, Word, is_gpu
from mlship.smoke.judge.checks import failed, passed, skipped, warned
from mlship.smoke.observed import Observed, first_of
from mlship.smoke.result import Check
from mlship.smoke.spec import SmokeSpec
from mlship.units import size

GREW = 1 << 20  # below this, another process may have asked for it; a CUDA context alone takes many times that
_NOT_ASKED = "this is a test on the CPU, which proves nothing about a GPU"


def gpu_visible(observed: Observed) -> tuple[Check, ...]:
    """What the container can do with a GPU; nothing for an image that is neither made for one nor given one."""
    if observed.device == "cpu":
        return (skipped("gpu.visible", _NOT_ASKED),) if observed.spec.gpu else ()
    before = first_of(GpuBefore, observed.model.events)
    return (skipped("gpu.visible", "not reached") if before is None else _marked(_visible(before, observed), observed),)


def gpu_used(observed: Observed) -> tuple[Check, ...]:
    """Whether the model ran there. What the model's own process shows; the server's cannot be looked into."""
    if observed.device == "cpu":
        return (skipped("gpu.used", _NOT_ASKED),) if observed.spec.gpu else ()
    before, after = first_of(GpuBefore, observed.model.events), first_of(GpuAfter, observed.model.events)
    if before is None or after is None:
        return (_unheard(observed),)
    if _visible(before, observed).status == "fail":
        return (skipped("gpu.used", "there is none that can be used"),)
    return (_marked(_used(before, after, observed), observed),)


def is_simulated(observed: Observed) -> bool:
    """What was taken for a GPU says itself that it is none."""
    before, after = first_of(GpuBefore, observed.model.events), first_of(GpuAfter, observed.model.events)
    seen = (before.cuda.simulated or before.nvml.simulated) if before else False
    return seen or (after is not None and (after.simulated or after.nvml.simulated))


def _marked(check: Check, observed: Observed) -> Check:
    """What was seen of a simulated GPU is called so in every line."""
    return replace(check, seen=f"simulated: {check.seen}") if is_simulated(observed) else check


def _unheard(observed: Observed) -> Check:
    """A model that answers and of which nothing is known of a GPU must not pass for one that ran there."""
    if first_of(Output, observed.model.events) is None:
        return skipped("gpu.used", "not reached")
    return failed(
        "gpu.used",
        "the model answered, and nothing was heard of a GPU",
        "add --verbose: what its process prints says more; where nothing does, it is mlship's fault",
    )


def gpu_names(nvml: NvmlSeen) -> tuple[str, ...]:
    """The GPUs by name, those without one included."""
    return tuple(device.name or "a GPU without a name" for device in nvml.devices)


# What the container can do


def _visible(before: GpuBefore, observed: Observed) -> Check:
    cuda, nvml = before.cuda, before.nvml
    if cuda.init != 0 or not cuda.count:
        cause = _hidden(observed.image) or _no_gpu(before)
        return failed("gpu.visible", f"{cause.why}{_nvml_trouble(nvml)}", cause.remedy)
    version = f", CUDA {cuda_name(cuda.version)}" if cuda.version else ""
    if nvml.code != 0:
        return warned(
            "gpu.visible",
            f"{cuda.count} device(s){version}{_nvml_trouble(nvml)}",
            f"write NVIDIA_DRIVER_CAPABILITIES: compute,utility under `env` in mlship.yaml, {REBUILD}; "
            "without NVML nothing tells the GPU's name, its driver and its processes",
        )
    return passed("gpu.visible", f"{_devices(nvml.devices)}, driver {nvml.driver or 'unknown'}{version}")


def _hidden(image: ImageInfo) -> GpuCause | None:
    """The image's own settings keep the GPU from it."""
    visible = image.env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible in ("", "-1", "NoDevFiles"):
        return GpuCause(
            f"the image sets CUDA_VISIBLE_DEVICES={visible!r}, which hides every GPU",
            f"take CUDA_VISIBLE_DEVICES out of `env` in mlship.yaml, {REBUILD}",
        )
    capabilities = image.env.get("NVIDIA_DRIVER_CAPABILITIES")
    if capabilities is not None and not {"compute", "all"} & set(capabilities.split(",")):
        return GpuCause(
            f"the image sets NVIDIA_DRIVER_CAPABILITIES={capabilities}, without compute",
            f"write NVIDIA_DRIVER_CAPABILITIES: compute,utility under `env` in mlship.yaml, {REBUILD}",
        )
    return None


def _no_gpu(before: GpuBefore) -> GpuCause:
    cuda = before.cuda
    if cuda.init is None:
        problem = cuda.problem or "libcuda.so.1 was not asked"
        known = of_text(problem)
        remedy = (
            "the engine gave the container no driver library that works: "
            "`docker run --rm --gpus all IMAGE nvidia-smi` must work"
        )
        return GpuCause(problem, known.remedy if known else remedy)
    return of_code(cuda.init or 100)


def _nvml_trouble(nvml: NvmlSeen) -> str:
    if nvml.code:
        return f"; NVML: {NVML_CODES.get(nvml.code, 'error')} ({nvml.code})"
    return f"; NVML: {nvml.problem}" if nvml.problem else ""


def _devices(devices: Iterable[GpuDevice]) -> str:
    """By name and compute capability: 2 x NVIDIA A100-SXM4-80GB (8.0)."""
    names = Counter(
        f"{device.name or 'a GPU without a name'} ({device.compute_capability or 'compute capability unknown'})"
        for device in devices
    )
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items())


# Whether the model did it


def _used(before: GpuBefore, after: GpuAfter, observed: Observed) -> Check:
    libcuda = next((path for path in after.libraries if "/libcuda.so" in path), None)
    grown, listed = _grown(before.nvml, after.nvml), _processes(after.nvml)
    joined = {one.pid for one in listed} - {one.pid for one in _processes(before.nvml)}
    says = [word for word in after.words if word.on_gpu]
    asked = [word for word in after.words if word.uses and word.problem is None]
    alone = not asked or bool(after.silent)  # no framework that could say it: NVML has to
    if libcuda is None or not (says or (alone and (joined or grown >= GREW))):
        return _not_used(before, after, observed, libcuda)
    words = "; ".join((*map(_said, after.words), _nvml_says(listed, grown, after.nvml), _mapped(after, libcuda)))
    halves = [word for word in says if word.framework == "onnxruntime" and not all(map(is_gpu, word.uses))]
    if halves:
        return warned("gpu.used", words, _provider_remedy(observed.spec, "for every session"))
    if not listed and grown < GREW:
        return warned(
            "gpu.used",
            words,
            "only the framework says so: NVML shows a container no processes of other PID namespaces, and no memory "
            "grew. On the host, `nvidia-smi --query-compute-apps=pid,used_memory --format=csv` shows it while it runs",
        )
    return passed("gpu.used", words)


def _not_used(before: GpuBefore, after: GpuAfter, observed: Observed, libcuda: str | None) -> Check:
    grown, listed = _grown(before.nvml, after.nvml), _processes(after.nvml)
    seen = (*map(_said, after.words), _nvml_says(listed, grown, after.nvml), _mapped(after, libcuda))
    cause = (
        of_text("\n".join(observed.model.log), before.cuda.version)
        or _by_word(after.words, observed.spec)
        or GpuCause(
            "libcuda is not mapped: nothing in its process asked for a GPU"
            if libcuda is None
            else "libcuda is mapped, and nothing shows that it was used",
            f"let {observed.spec.load} put the model on the GPU; where a framework does it that cannot be asked, "
            "memory that it takes on the GPU is the proof",
        )
    )
    return failed("gpu.used", f"it ran on the CPU: {cause.why}", cause.remedy, seen)


def _by_word(words: tuple[Word, ...], spec: SmokeSpec) -> GpuCause | None:
    """What the frameworks' own words tell of the cause."""
    causes = {"torch": _torch, "onnxruntime": _onnxruntime}
    for word in words:
        known = causes.get(word.framework)
        if word.problem is None and known and word.uses:
            return known(word, spec)
    return None


def _torch(word: Word, spec: SmokeSpec) -> GpuCause:
    if word.cuda is None:
        return GpuCause(
            f"torch {word.version} is a CPU build", f"lock a CUDA build of torch (see `gpu` in mlship.yaml), {RELOCK}"
        )
    if not word.offers_gpu:
        return GpuCause(
            f"torch {word.version} is built for CUDA {word.cuda} and finds no GPU that it can use",
            "`python -c 'import torch; torch.cuda.init()'` in the image, started with a GPU, says why; "
            f"where the driver is older than its CUDA, lock a torch for an older one, {RELOCK}",
        )
    return GpuCause(
        "torch could use the GPU, and all its tensors are on the CPU",
        f"move the model and its inputs there: `.to('cuda')` in {spec.load}, {REBUILD}",
    )


def _onnxruntime(word: Word, spec: SmokeSpec) -> GpuCause:
    if not word.offers_gpu:
        return GpuCause(
            f"onnxruntime {word.version} is the CPU package: it offers {', '.join(word.offers)}",
            f"write onnxruntime-gpu[cuda,cudnn] instead of onnxruntime in requirements.in, {RELOCK}",
        )
    return GpuCause(
        "onnxruntime could use CUDA, and its sessions are made without it",
        _provider_remedy(spec, "and CPUExecutionProvider after it at most"),
    )


def _provider_remedy(spec: SmokeSpec, more: str) -> str:
    return f"name providers=['CUDAExecutionProvider'] in {spec.load}, {more}, {REBUILD}"


# What was seen, in words


def _said(word: Word) -> str:
    name = f"{word.framework} {word.version}"
    if word.problem:
        return f"{name} cannot be read: {word.problem}"
    uses = ", ".join(f"{count} on {place}" for place, count in sorted(word.uses.items()))
    memory = f", {size(word.memory)} on GPUs" if word.memory else ""
    return f"{name}: {uses or 'nothing in use'}{memory}"


def _nvml_says(listed: list[GpuProcess], grown: int, nvml: NvmlSeen) -> str:
    codes = sorted({f"{name} {code}" for device in nvml.devices for name, code in device.codes.items()})
    refused = f" (NVML codes: {', '.join(codes)})" if codes else ""
    if nvml.code != 0:
        return _nvml_trouble(nvml).removeprefix("; ") or "NVML: nothing"
    if not listed:
        return f"NVML lists no process, memory in use grew by {size(grown)}{refused}"
    known = [one.memory for one in listed if one.memory is not None]
    memory = f" with {size(sum(known))}" if known else ", their memory unknown"
    return f"NVML lists {len(listed)} process{'es' if len(listed) > 1 else ''}{memory}{refused}"


def _mapped(after: GpuAfter, libcuda: str | None) -> str:
    if libcuda is None:
        return "libcuda is not mapped"
    version = f" (CUDA {cuda_name(after.cuda_version)})" if after.cuda_version else ""
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
