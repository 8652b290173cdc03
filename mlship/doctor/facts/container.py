"""One container, and one image: what was asked for, and what is inside."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Libc, Library, Loader, OperatingSystem, Place
from mlship.doctor.facts.python import PythonEnvironment

Injection: TypeAlias = Literal["none", "legacy", "cdi", "jit-cdi", "csv"]


@dataclass(frozen=True)
class HostConfig(FactGroup):
    """How the container was started: HostConfig of `docker inspect`.

    Attributes:
        runtime: such as "runc" or "nvidia".
        gpus: what `--gpus` asked for, such as ["all"]; [] where it asked for none.
        cdi_devices: CDI names asked for, such as ["nvidia.com/gpu=all"].
        devices: paths given with --device.
        shm_size: bytes.
        ipc_mode: such as "private" or "host".
    """

    runtime: Fact[str] = UNKNOWN
    gpus: Fact[tuple[str, ...]] = UNKNOWN
    cdi_devices: Fact[tuple[str, ...]] = UNKNOWN
    devices: Fact[tuple[str, ...]] = UNKNOWN
    binds: Fact[tuple[str, ...]] = UNKNOWN
    shm_size: Fact[int] = UNKNOWN
    ipc_mode: Fact[str] = UNKNOWN
    privileged: Fact[bool] = UNKNOWN
    read_only: Fact[bool] = UNKNOWN
    group_add: Fact[tuple[str, ...]] = UNKNOWN
    security_opt: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Lxc(FactGroup):
    """An LXC system container: LXD or Incus.

    Attributes:
        manager: "lxd", "incus" or "lxc".
        gpu_type: of its gpu device: "physical", "mig", "mdev"; absent where it has none.
        nvidia_runtime: nvidia.runtime is true.
    """

    manager: Fact[str] = UNKNOWN
    gpu_type: Fact[str] = UNKNOWN
    nvidia_runtime: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Container(Place):
    """The container in question: a running one, one of the image in question, or the one that mlship runs in.

    Attributes:
        engine: "docker", "podman", "containerd", "crio", "lxc".
        platform: such as "linux/amd64".
        started_at: ISO 8601, UTC.
        injection: how the GPU got into it; "none" where nothing was injected.
        status: such as "running", "exited", or "created" where it never started.
        error: what the engine said where it does not start; absent where it did.
    """

    name: Fact[str] = UNKNOWN
    engine: Fact[str] = UNKNOWN
    platform: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    status: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN
    injection: Fact[Injection] = UNKNOWN
    host_config: HostConfig = HostConfig()
    lxc: Fact[Lxc] = UNKNOWN


@dataclass(frozen=True)
class Image(FactGroup):
    """The image in question: its configuration, and its files before anything is injected.

    Attributes:
        reference: as it was asked for.
        architecture: such as "arm64".
        env: whole, private values masked; what is not in it is unset.
        cuda_version: of the CUDA in it, such as "12.4"; absent where it holds none.
        base: the FROM that is known, such as "nvidia/cuda:12.4.1-base-ubuntu22.04".
        registry_status: HTTP status of its manifest (or its base's), such as 404; absent where it is local.
        driver_libraries: libcuda, libnvidia-ml and the like that are files of the image; [] as it should be.
    """

    reference: Fact[str] = UNKNOWN
    id: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN
    labels: Fact[dict[str, str]] = UNKNOWN
    env: Fact[dict[str, str]] = UNKNOWN
    cuda_version: Fact[str] = UNKNOWN
    base: Fact[str] = UNKNOWN
    registry_status: Fact[int] = UNKNOWN
    error: Fact[str] = UNKNOWN
    os: OperatingSystem = OperatingSystem()
    libc: Libc = Libc()
    loader: Loader = Loader()
    driver_libraries: Fact[tuple[Library, ...]] = UNKNOWN
    paths: Fact[dict[str, Fact[str]]] = UNKNOWN
    pythons: Fact[tuple[PythonEnvironment, ...]] = UNKNOWN
