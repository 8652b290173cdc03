"""What was seen of GPUs inside a container, from what `mlship.smoke.inside.gpu` reports. Sizes in bytes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BeforeValidator

from mlship.driver.answer import DEVICE_COUNT, DEVICE_HANDLE, LIBCUDA, NVML, NVML_INIT, DriverAnswer, read_answer
from mlship.versioned import adapter

_LISTINGS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
_GPU = re.compile(r"(?i)cuda|gpu|tensorrt")


@dataclass(frozen=True)
class CudaSeen:
    """The driver's library, called in a process of its own.

    Attributes:
        init: what cuInit returned; None if it was not called or did not return.
        version: the CUDA version that the library supports, such as 12040.
        count: devices; None if the library does not start.
        problem: why the library could not be called.
    """

    init: int | None = None
    version: int | None = None
    count: int | None = None
    simulated: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU, by its host PID; memory is None if NVML does not report it."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class GpuDevice:
    """One GPU; `codes` holds NVML's return codes for what it did not report."""

    name: str | None = None
    compute_capability: str | None = None
    memory_used: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NvmlSeen:
    """What NVML reports.

    Attributes:
        code: of its start, or of counting the devices; None if the library could not be called.
        driver: such as 550.54.15.
        problem: why the library could not be called.
    """

    code: int | None = None
    driver: str | None = None
    devices: tuple[GpuDevice, ...] = ()
    simulated: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class FrameworkUse:
    """Where a framework reports its objects to be.

    Attributes:
        cuda: the CUDA version that it was built for; None if it was built without, or does not report it.
        uses: number of objects by place: tensors by device, sessions by their providers.
        offers: places that it could use.
        memory: held on GPUs; None if it does not count.
        peak: most that it held on GPUs at any time; None if it does not count.
        problem: why it could not be read.
    """

    framework: str
    version: str
    cuda: str | None = None
    uses: Mapping[str, int] = field(default_factory=dict)
    offers: tuple[str, ...] = ()
    memory: int | None = None
    peak: int | None = None
    problem: str | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether any of its objects is on a GPU."""
        return any(is_gpu(place) for place in self.uses)

    @property
    def for_requests_only(self) -> bool:
        """Whether it has nothing on a GPU now, but had: work moves there for each request."""
        return not self.on_gpu and bool(self.peak)

    @property
    def offers_gpu(self) -> bool:
        """Whether it could use a GPU."""
        return any(is_gpu(place) for place in self.offers)


def is_gpu(place: str) -> bool:
    """Whether a device or a provider is on a GPU: cuda:0, GPU:0, CUDAExecutionProvider."""
    return bool(_GPU.search(place))


def cuda_seen(answer: DriverAnswer) -> CudaSeen:
    if problem := _problem(answer, LIBCUDA):
        return CudaSeen(problem=problem)
    return CudaSeen(
        answer.code("cuInit"),
        answer.number("cuDriverGetVersion"),
        answer.number("cuDeviceGetCount"),
        simulated=answer.simulated,
    )


def nvml_seen(answer: DriverAnswer) -> NvmlSeen:
    if problem := _problem(answer, NVML):
        return NvmlSeen(problem=problem)
    return NvmlSeen(
        answer.code(NVML_INIT) or answer.code(DEVICE_COUNT),
        answer.text("nvmlSystemGetDriverVersion"),
        tuple(_device(answer, index) for index in range(answer.number(DEVICE_COUNT) or 0)),
        simulated=answer.simulated,
    )


def _problem(answer: DriverAnswer, name: str) -> str:
    """Why a library could not be called; empty if it could."""
    call = answer.pending_call or name
    if answer.timed_out:
        return f"{call} does not return"
    if answer.crashed or answer.silent:
        return f"{call} crashed ({answer.crashed or 'no answer'})"
    library = answer.libraries.get(name)
    return library.error if library else f"{name} was not loaded"


def _device(answer: DriverAnswer, index: int) -> GpuDevice:
    listing = next((call.name for call in answer.calls if call.name in _LISTINGS and call.device == index), "")
    calls = {
        "handle": DEVICE_HANDLE,
        "compute_capability": "nvmlDeviceGetCudaComputeCapability",
        "memory_used": "nvmlDeviceGetMemoryInfo",
        "processes": listing,
    }
    listed = answer.numbers(listing, index)[1:]
    return GpuDevice(
        answer.text("nvmlDeviceGetName", index),
        ".".join(map(str, answer.numbers("nvmlDeviceGetCudaComputeCapability", index))) or None,
        answer.number("nvmlDeviceGetMemoryInfo", index, 2),
        tuple(
            GpuProcess(pid, None if memory < 0 else memory)
            for pid, memory in zip(listed[::2], listed[1::2], strict=True)
        ),
        {key: code for key, name in calls.items() if (code := answer.code(name, index))},
    )


@dataclass(frozen=True)
class _ChildLines:
    """What the driver program printed, and how it ended."""

    lines: tuple[str, ...]
    timed_out: bool = False
    signal: str | None = None


def _read_by(seen: Callable[[DriverAnswer], object]) -> BeforeValidator:
    """Reads the lines in an event; a report holds values already."""

    def read(value: object) -> object:
        if not isinstance(value, dict) or "lines" not in value:
            return value
        child = adapter(_ChildLines).validate_python(value)
        return seen(read_answer(child.lines, timed_out=child.timed_out, signal=child.signal))

    return BeforeValidator(read)


@dataclass(frozen=True)
class GpuBefore:
    """What the container can do with a GPU, before anything of the model is imported."""

    cuda: Annotated[CudaSeen, _read_by(cuda_seen)]
    nvml: Annotated[NvmlSeen, _read_by(nvml_seen)]
    event: Literal["gpu_before"] = "gpu_before"


@dataclass(frozen=True)
class GpuAfter:
    """What the model's process has of a GPU once the model is warm.

    Attributes:
        pid: of the process, in the container.
        libraries: files of CUDA's libraries that are mapped.
        cuda_version: that the mapped libcuda supports, such as 12040; None if none is mapped.
        silent: loaded modules that use GPUs and have no way to report it.
    """

    pid: int
    libraries: tuple[str, ...]
    cuda_version: int | None
    nvml: Annotated[NvmlSeen, _read_by(nvml_seen)]
    simulated: bool
    silent: tuple[str, ...]
    words: tuple[FrameworkUse, ...]
    event: Literal["gpu_after"] = "gpu_after"
