"""One container and one image: their configuration and contents."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Libc, Library, Loader, OperatingSystem, Place
from mlship.doctor.facts.python import PythonEnvironment

Injection: TypeAlias = Literal["none", "legacy", "cdi", "jit-cdi", "csv"]


@dataclass(frozen=True)
class HostConfig(FactGroup):
    """The container's start options: HostConfig of `docker inspect`.

    Attributes:
        runtime: such as "runc" or "nvidia".
        gpus: value of `--gpus`, such as ["all"]; [] without `--gpus`.
        cdi_devices: requested CDI devices, such as ["nvidia.com/gpu=all"].
        devices: paths from `--device`.
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
        gpu_type: of its gpu device: "physical", "mig", "mdev"; absent without one.
        nvidia_runtime: nvidia.runtime is true.
    """

    manager: Fact[str] = UNKNOWN
    gpu_type: Fact[str] = UNKNOWN
    nvidia_runtime: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Container(Place):
    """The examined container: a running one, one of the examined image, or the one that mlship runs in.

    Attributes:
        engine: "docker", "podman", "containerd", "crio", "lxc".
        platform: such as "linux/amd64".
        started_at: ISO 8601, UTC.
        injection: how the GPU was injected; "none" if nothing was.
        status: such as "running", "exited", or "created" if it never started.
        error: the engine's message if the container did not start; absent if it did.
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
    """The examined image: its configuration, and its files before anything is injected.

    Attributes:
        reference: as given by the user.
        architecture: such as "arm64".
        env: the complete environment, private values masked.
        cuda_version: version of the CUDA in the image, such as "12.4"; absent if there is none.
        base: the known base image, such as "nvidia/cuda:12.4.1-base-ubuntu22.04".
        registry_status: HTTP status of its manifest (or its base's), such as 404; absent for a local image.
        driver_libraries: libcuda, libnvidia-ml and similar files of the image; should be [].
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
