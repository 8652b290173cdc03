"""What was seen of GPUs from within a container: values, as `mlship.smoke.inside.gpu` tells them. Sizes in bytes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_GPU = re.compile(r"(?i)cuda|gpu|tensorrt")


@dataclass(frozen=True)
class CudaSeen:
    """The driver's library, as a process of its own found it.

    Attributes:
        init: what cuInit returned; None where there is no library.
        version: what it calls its CUDA version, such as 12040.
        count: devices; None where it does not start.
        problem: why it could not be asked.
    """

    init: int | None = None
    version: int | None = None
    count: int | None = None
    simulated: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU, by the ID that the host knows; its memory is None where NVML does not tell."""

    pid: int
    memory: int | None


@dataclass(frozen=True)
class GpuDevice:
    """One GPU; `codes` holds NVML's answers where it refused one."""

    name: str | None = None
    compute_capability: str | None = None
    memory_used: int | None = None
    processes: tuple[GpuProcess, ...] = ()
    codes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NvmlSeen:
    """What NVML says.

    Attributes:
        code: of its start, or of listing the devices; None where there is no library.
        driver: such as 550.54.15.
        problem: why it could not be asked.
    """

    code: int | None = None
    driver: str | None = None
    devices: tuple[GpuDevice, ...] = ()
    simulated: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Word:
    """What a framework says of where its things are.

    Attributes:
        cuda: the CUDA version it was built for; None where it has none, or does not say.
        uses: how many things are where: tensors by device, sessions by their providers.
        offers: what it could use.
        memory: what it holds on GPUs; None where it does not count.
        problem: why it could not be read.
    """

    framework: str
    version: str
    cuda: str | None = None
    uses: Mapping[str, int] = field(default_factory=dict)
    offers: tuple[str, ...] = ()
    memory: int | None = None
    problem: str | None = None

    @property
    def on_gpu(self) -> bool:
        """Something of it is on a GPU."""
        return any(is_gpu(place) for place in self.uses)

    @property
    def offers_gpu(self) -> bool:
        """It could use one."""
        return any(is_gpu(place) for place in self.offers)


def is_gpu(place: str) -> bool:
    """A device or a provider that is a GPU's: cuda:0, GPU:0, CUDAExecutionProvider."""
    return bool(_GPU.search(place))


@dataclass(frozen=True)
class GpuBefore:
    """What the container can do with a GPU, before anything of the model is imported."""

    cuda: CudaSeen
    nvml: NvmlSeen
    event: Literal["gpu_before"] = "gpu_before"


@dataclass(frozen=True)
class GpuAfter:
    """What the model's process has of a GPU once the model is warm.

    Attributes:
        pid: its own, as the container counts.
        libraries: CUDA's libraries that are mapped, by file.
        cuda_version: what the mapped libcuda says, such as 12040; None where it is not mapped.
        silent: modules that are loaded and use GPUs, and cannot be asked whether they do.
    """

    pid: int
    libraries: tuple[str, ...]
    cuda_version: int | None
    nvml: NvmlSeen
    simulated: bool
    silent: tuple[str, ...]
    words: tuple[Word, ...]
    event: Literal["gpu_after"] = "gpu_after"
