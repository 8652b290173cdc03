"""The driver's user space as seen from one place: the host, or the inside of a container."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.python import PythonEnvironment

Virtualization: TypeAlias = Literal["none", "passthrough", "vgpu", "host-vgpu", "host-vsga"]
ComputeMode: TypeAlias = Literal["Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process"]


class Library(FactGroup):
    path: str
    version: Fact[str] = UNKNOWN
    mounted: Fact[bool] = UNKNOWN
    package: Fact[str] = UNKNOWN


class RemappedRows(FactGroup):
    correctable: Fact[int] = UNKNOWN
    uncorrectable: Fact[int] = UNKNOWN
    pending: Fact[bool] = UNKNOWN
    failure: Fact[bool] = UNKNOWN


class NvmlDevice(FactGroup):
    index: Fact[int] = UNKNOWN
    name: Fact[str] = UNKNOWN
    uuid: Fact[str] = UNKNOWN
    pci_bus_id: Fact[str] = UNKNOWN
    minor: Fact[int] = UNKNOWN
    codes: Fact[dict[str, int]] = UNKNOWN
    compute_capability: Fact[str] = UNKNOWN
    brand: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN
    memory_total: Fact[int] = UNKNOWN
    memory_used: Fact[int] = UNKNOWN
    mig_current: Fact[int] = UNKNOWN
    mig_pending: Fact[int] = UNKNOWN
    mig_devices: Fact[tuple[str, ...]] = UNKNOWN
    compute_mode: Fact[ComputeMode] = UNKNOWN
    compute_processes: Fact[int] = UNKNOWN
    persistence_mode: Fact[bool] = UNKNOWN
    ecc_mode: Fact[bool] = UNKNOWN
    uncorrected_ecc: Fact[int] = UNKNOWN
    remapped_rows: Fact[RemappedRows] = UNKNOWN
    retired_pages_pending: Fact[bool] = UNKNOWN
    fabric_state: Fact[int] = UNKNOWN
    fabric_status: Fact[int] = UNKNOWN
    virtualization_mode: Fact[Virtualization] = UNKNOWN
    license_status: Fact[str] = UNKNOWN
    gsp_firmware_version: Fact[str] = UNKNOWN
    addressing_mode: Fact[str] = UNKNOWN


class Nvml(FactGroup):
    init: Fact[int] = UNKNOWN
    init_as_root: Fact[int] = UNKNOWN
    library: Fact[Library] = UNKNOWN
    driver_version: Fact[str] = UNKNOWN
    cuda_driver_version: Fact[int] = UNKNOWN
    device_count: Fact[int] = UNKNOWN
    devices: Fact[tuple[NvmlDevice, ...]] = UNKNOWN
    codes: Fact[dict[str, int]] = UNKNOWN
    hangs_at: Fact[str] = UNKNOWN
    crashes_at: Fact[str] = UNKNOWN


class CudaDevice(FactGroup):
    ordinal: Fact[int] = UNKNOWN
    name: Fact[str] = UNKNOWN
    uuid: Fact[str] = UNKNOWN
    compute_capability: Fact[str] = UNKNOWN
    context_code: Fact[int] = UNKNOWN
    kernel_code: Fact[int] = UNKNOWN


class CudaApi(FactGroup):
    library: Fact[Library] = UNKNOWN
    init: Fact[int] = UNKNOWN
    init_without_visible_devices: Fact[int] = UNKNOWN
    driver_version: Fact[int] = UNKNOWN
    device_count: Fact[int] = UNKNOWN
    devices: Fact[tuple[CudaDevice, ...]] = UNKNOWN
    runtime_code: Fact[int] = UNKNOWN
    hangs_at: Fact[str] = UNKNOWN
    crashes_at: Fact[str] = UNKNOWN


class CompatFolder(FactGroup):
    path: str
    version: Fact[str] = UNKNOWN
    driver_branches: Fact[tuple[str, ...]] = UNKNOWN


class Loader(FactGroup):
    cache: Fact[dict[str, tuple[str, ...]]] = UNKNOWN
    conf: Fact[dict[str, tuple[str, ...]]] = UNKNOWN
    libraries: Fact[tuple[Library, ...]] = UNKNOWN
    compat: Fact[tuple[CompatFolder, ...]] = UNKNOWN
    stubs: Fact[tuple[str, ...]] = UNKNOWN
    resolves: Fact[dict[str, Fact[str]]] = UNKNOWN
    ldconfig_helps: Fact[bool] = UNKNOWN


class Libc(FactGroup):
    family: Fact[Literal["glibc", "musl"]] = UNKNOWN
    version: Fact[str] = UNKNOWN
    glibc_loader: Fact[str] = UNKNOWN
    musl_loader: Fact[str] = UNKNOWN


class DeviceNode(FactGroup):
    major: Fact[int] = UNKNOWN
    minor: Fact[int] = UNKNOWN
    mode: Fact[str] = UNKNOWN
    uid: Fact[int] = UNKNOWN
    gid: Fact[int] = UNKNOWN
    group: Fact[str] = UNKNOWN
    open: Fact[str] = UNKNOWN


class User(FactGroup):
    uid: Fact[int] = UNKNOWN
    gid: Fact[int] = UNKNOWN
    groups: Fact[tuple[int, ...]] = UNKNOWN


class OperatingSystem(FactGroup):
    id: Fact[str] = UNKNOWN
    version_id: Fact[str] = UNKNOWN
    like: Fact[str] = UNKNOWN
    name: Fact[str] = UNKNOWN
    arch: Fact[str] = UNKNOWN


class Mount(FactGroup):
    target: str
    source: Fact[str] = UNKNOWN
    fstype: Fact[str] = UNKNOWN
    read_only: Fact[bool] = UNKNOWN


class Place(FactGroup):
    os: OperatingSystem = OperatingSystem()
    libc: Libc = Libc()
    nvml: Nvml = Nvml()
    cuda: CudaApi = CudaApi()
    loader: Loader = Loader()
    device_nodes: Fact[dict[str, Fact[DeviceNode]]] = UNKNOWN
    env: Fact[dict[str, str]] = UNKNOWN
    user: User = User()
    paths: Fact[dict[str, Fact[str]]] = UNKNOWN
    mounts: Fact[tuple[Mount, ...]] = UNKNOWN
    shm: Fact[int] = UNKNOWN
    cgroup_device_rules: Fact[tuple[str, ...]] = UNKNOWN
    pythons: Fact[tuple[PythonEnvironment, ...]] = UNKNOWN
