"""One container and one image: their configuration and contents."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup, Number
from mlship.doctor.facts.place import Libc, Library, Loader, OperatingSystem, Place
from mlship.doctor.facts.python import PythonEnvironment

Injection: TypeAlias = Literal["none", "legacy", "cdi", "jit-cdi", "csv"]


class HostConfig(FactGroup):
    runtime: Fact[str] = UNKNOWN
    gpus: Fact[tuple[str, ...]] = UNKNOWN
    cdi_devices: Fact[tuple[str, ...]] = UNKNOWN
    devices: Fact[tuple[str, ...]] = UNKNOWN
    binds: Fact[tuple[str, ...]] = UNKNOWN
    shm_size: Fact[Number] = UNKNOWN
    ipc_mode: Fact[str] = UNKNOWN
    privileged: Fact[bool] = UNKNOWN
    read_only: Fact[bool] = UNKNOWN
    group_add: Fact[tuple[str, ...]] = UNKNOWN
    security_opt: Fact[tuple[str, ...]] = UNKNOWN


class Lxc(FactGroup):
    manager: Fact[str] = UNKNOWN
    gpu_type: Fact[str] = UNKNOWN
    nvidia_runtime: Fact[bool] = UNKNOWN


class Container(Place):
    name: Fact[str] = UNKNOWN
    engine: Fact[str] = UNKNOWN
    platform: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    status: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN
    injection: Fact[Injection] = UNKNOWN
    host_config: HostConfig = HostConfig()
    lxc: Fact[Lxc] = UNKNOWN


class Image(FactGroup):
    reference: Fact[str] = UNKNOWN
    id: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN
    labels: Fact[dict[str, str]] = UNKNOWN
    env: Fact[dict[str, str]] = UNKNOWN
    cuda_version: Fact[str] = UNKNOWN
    base: Fact[str] = UNKNOWN
    registry_status: Fact[Number] = UNKNOWN
    error: Fact[str] = UNKNOWN
    os: OperatingSystem = OperatingSystem()
    libc: Libc = Libc()
    loader: Loader = Loader()
    driver_libraries: Fact[tuple[Library, ...]] = UNKNOWN
    paths: Fact[dict[str, Fact[str]]] = UNKNOWN
    pythons: Fact[tuple[PythonEnvironment, ...]] = UNKNOWN
