"""The GPU part of a plan: how CUDA's user-space libraries reach a Debian-slim image that NVIDIA publishes none for."""

from dataclasses import dataclass

from mlship.cuda.fit.needs import CudaSource


@dataclass(frozen=True)
class CudaImage:
    """One of NVIDIA's own images, that something is taken from; nothing is built on it.

    Attributes:
        reference: name and tag as the engine pulls it, such as nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04.
    """

    reference: str
    digest: str

    @property
    def pinned(self) -> str:
        """Name, tag and digest: what FROM says."""
        return f"{self.reference}@{self.digest}"


@dataclass(frozen=True)
class GpuPlan:
    """What an image for NVIDIA GPUs has beside.

    Attributes:
        cuda: version of CUDA's libraries in the image, such as "12.6"; None where nothing is known to need any.
        way: `wheels`: the lock brings them; `image`: they are copied from `runtime`.
        runtime: NVIDIA's image that the libraries are copied from; None for `wheels`.
        devel: NVIDIA's image that the builder mounts for nvcc, and that is not shipped; None where nothing is compiled.
        compiled: locked distributions that are compiled with it.
        compat: NVIDIA's image whose forward-compatibility libraries are shipped, for hosts whose driver is older than
            the image's CUDA; None where there are none.
        require: NVIDIA_REQUIRE_CUDA, such as "cuda>=12.4": what the oldest of the matched hosts offers; or empty.
        index: wheel index of the chosen CUDA; None where the project's own indexes have it.
        hosts: names of the hosts that the image is matched to.
        devices: what these have, for people: "T4 (7.5)".
    """

    cuda: str | None
    way: CudaSource
    require: str
    runtime: CudaImage | None = None
    devel: CudaImage | None = None
    compiled: tuple[str, ...] = ()
    compat: CudaImage | None = None
    index: str | None = None
    hosts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """What Debian's images lack and NVIDIA's container toolkit reads."""
        return {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            **({"NVIDIA_REQUIRE_CUDA": self.require} if self.require else {}),
        }


@dataclass(frozen=True)
class PlanReason:
    """One choice that mlship made, and why.

    Attributes:
        why: one line, or a line for each host.
        sources: where the facts are from, where mlship's tables say.
    """

    topic: str
    choice: str
    why: str
    sources: tuple[str, ...] = ()
