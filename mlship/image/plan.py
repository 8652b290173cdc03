"""The plan: everything that is built and why, as one frozen value. Pure; no engine, no network."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.versions import CudaSource
from mlship.lock.groups import PackageLayer
from mlship.project.paths import WORKDIR
from mlship.versioned import dump

Bytecode: TypeAlias = Literal["traced", "everything"]

SCHEMA = 2
USER = "1001:1001"


@dataclass(frozen=True)
class PlanReason:
    """One choice that mlship made, and why.

    Attributes:
        why: one line, or one line per host.
        sources: where the facts come from, if mlship's tables say.
    """

    topic: str
    choice: str
    why: str
    sources: tuple[str, ...] = ()


class _Pinned:
    """An image by its digest."""

    reference: str
    digest: str

    @property
    def pinned(self) -> str:
        return f"{self.reference}@{self.digest}"


@dataclass(frozen=True)
class PlanBase(_Pinned):
    """The base image; `name` is its name without a mirror."""

    name: str
    reference: str
    digest: str


@dataclass(frozen=True)
class CudaImage(_Pinned):
    """One of NVIDIA's images, which files are taken from; nothing is built on it.

    Attributes:
        reference: name and tag as the engine pulls them, such as nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04.
    """

    reference: str
    digest: str


@dataclass(frozen=True)
class GpuPlan:
    """The GPU part of a plan: how CUDA's user-space libraries reach a Debian image.

    Attributes:
        cuda: version of CUDA's libraries in the image, such as "12.6"; None if no package is known to need them.
        way: `wheels`: locked wheels bring them; `image`: they are copied from `runtime`.
        runtime: NVIDIA's image that the libraries are copied from; None for `wheels`.
        devel: NVIDIA's image that provides nvcc to the builder and does not ship; None if nothing is compiled.
        compiled: locked distributions that are compiled with it.
        compat: NVIDIA's image with the forward-compatibility libraries that ship for hosts with an older driver.
        require: NVIDIA_REQUIRE_CUDA, such as "cuda>=12.4": what the oldest matched driver supports; may be empty.
        index: wheel index of the chosen CUDA; None if the project's own indexes have the wheels.
        hosts: names of the hosts that the image is matched to.
        devices: their GPUs, for people: "T4 (7.5)".
        architectures: their compute capabilities, sorted; empty if one of them is unknown.
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
    architectures: tuple[str, ...] = ()

    @property
    def env(self) -> dict[str, str]:
        """Variables that NVIDIA's container toolkit reads, and that only NVIDIA's own images set."""
        return {
            "NVIDIA_VISIBLE_DEVICES": "all",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
            **({"NVIDIA_REQUIRE_CUDA": self.require} if self.require else {}),
        }


@dataclass(frozen=True)
class WeightFolder:
    """Weight files of one folder: one layer.

    Attributes:
        folder: their folder below the working directory.
        size: bytes.
    """

    files: tuple[str, ...]
    folder: str
    size: int


@dataclass(frozen=True)
class Health:
    """The HEALTHCHECK: requests the readiness route.

    Attributes:
        start_period: seconds.
    """

    url: str
    start_period: int

    @property
    def code(self) -> str:
        """Program for `python -ISc` that fails unless the response is a success.

        It reads the response to its end: servers log a dropped connection as an error, some with a traceback.
        """
        return f"import urllib.request as r; r.urlopen('{self.url}', timeout=3).read()"


@dataclass(frozen=True)
class DebianPackages:
    """Debian packages: `build` for the builder, `run` for the final image."""

    build: tuple[str, ...]
    run: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """What `mlship build` builds.

    Attributes:
        tag: name and version of the image.
        lock: path of the requirements lock; `pins` counts its packages.
        source: files and folders of code, including the sample and the golden outputs.
        init: tini runs as PID 1, because the server forks.
        layers: package layers in image order.
        bytecode: compile the modules that a trace saw, or everything.
        keep: patterns of files below site-packages that are kept although nothing loads them.
        epoch: SOURCE_DATE_EPOCH of the build: the commit's time, or a fixed one without a commit.
        gpu: None for a CPU image.
    """

    tag: str
    platform: str
    python: str
    base: PlanBase
    lock: str
    pins: int
    weights: tuple[WeightFolder, ...]
    source: tuple[str, ...]
    packages: DebianPackages
    layers: tuple[PackageLayer, ...]
    bytecode: Bytecode
    keep: tuple[str, ...]
    env: dict[str, str]
    command: tuple[str, ...]
    init: bool
    port: int
    health: Health
    labels: dict[str, str]
    epoch: int
    reasons: tuple[PlanReason, ...]
    gpu: GpuPlan | None = None
    user: str = USER
    workdir: str = WORKDIR
    schema: int = SCHEMA

    @property
    def weight_paths(self) -> tuple[str, ...]:
        """The weight files, by path in the repository."""
        return tuple(path for folder in self.weights for path in folder.files)

    def to_json(self) -> str:
        """The plan as JSON; the same plan gives the same bytes."""
        return dump(self)
