"""The driver's user space as seen from one place: the host, or the inside of a container."""

from dataclasses import fields
from typing import Literal, TypeAlias, TypeVar

from mlship.doctor.facts.fact import UNKNOWN, DriverVersion, Fact, FactGroup, Number
from mlship.doctor.facts.python import PythonEnvironment

P = TypeVar("P", bound="Place")
Virtualization: TypeAlias = Literal["none", "passthrough", "vgpu", "host-vgpu", "host-vsga"]
ComputeMode: TypeAlias = Literal["Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process"]


class Library(FactGroup):
    path: str
    version: Fact[DriverVersion] = UNKNOWN
    mounted: Fact[bool] = UNKNOWN
    package: Fact[str] = UNKNOWN


class RemappedRows(FactGroup):
    correctable: Fact[Number] = UNKNOWN
    uncorrectable: Fact[Number] = UNKNOWN
    pending: Fact[bool] = UNKNOWN
    failure: Fact[bool] = UNKNOWN


class NvmlDevice(FactGroup):
    index: Fact[Number] = UNKNOWN
    name: Fact[str] = UNKNOWN
    uuid: Fact[str] = UNKNOWN
    pci_bus_id: Fact[str] = UNKNOWN
    minor: Fact[Number] = UNKNOWN
    codes: Fact[dict[str, Number]] = UNKNOWN
    compute_capability: Fact[str] = UNKNOWN
    brand: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN
    memory_total: Fact[Number] = UNKNOWN
    memory_used: Fact[Number] = UNKNOWN
    mig_current: Fact[Number] = UNKNOWN
    mig_pending: Fact[Number] = UNKNOWN
    mig_devices: Fact[tuple[str, ...]] = UNKNOWN
    compute_mode: Fact[ComputeMode] = UNKNOWN
    compute_processes: Fact[Number] = UNKNOWN
    persistence_mode: Fact[bool] = UNKNOWN
    ecc_mode: Fact[bool] = UNKNOWN
    uncorrected_ecc: Fact[Number] = UNKNOWN
    remapped_rows: Fact[RemappedRows] = UNKNOWN
    retired_pages_pending: Fact[bool] = UNKNOWN
    recovery_action: Fact[str] = UNKNOWN
    fabric_state: Fact[Number] = UNKNOWN
    fabric_status: Fact[Number] = UNKNOWN
    virtualization_mode: Fact[Virtualization] = UNKNOWN
    license_status: Fact[str] = UNKNOWN
    gsp_firmware_version: Fact[str] = UNKNOWN
    addressing_mode: Fact[str] = UNKNOWN


class Nvml(FactGroup):
    init: Fact[Number] = UNKNOWN
    init_as_root: Fact[Number] = UNKNOWN
    library: Fact[Library] = UNKNOWN
    driver_version: Fact[DriverVersion] = UNKNOWN
    cuda_driver_version: Fact[Number] = UNKNOWN
    device_count: Fact[Number] = UNKNOWN
    devices: Fact[tuple[NvmlDevice, ...]] = UNKNOWN
    codes: Fact[dict[str, Number]] = UNKNOWN
    hangs_at: Fact[str] = UNKNOWN
    crashes_at: Fact[str] = UNKNOWN


class CudaDevice(FactGroup):
    ordinal: Fact[Number] = UNKNOWN
    name: Fact[str] = UNKNOWN
    uuid: Fact[str] = UNKNOWN
    compute_capability: Fact[str] = UNKNOWN
    context_code: Fact[Number] = UNKNOWN
    kernel_code: Fact[Number] = UNKNOWN


class CudaApi(FactGroup):
    library: Fact[Library] = UNKNOWN
    init: Fact[Number] = UNKNOWN
    init_without_visible_devices: Fact[Number] = UNKNOWN
    driver_version: Fact[Number] = UNKNOWN
    device_count: Fact[Number] = UNKNOWN
    devices: Fact[tuple[CudaDevice, ...]] = UNKNOWN
    runtime_code: Fact[Number] = UNKNOWN
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
    major: Fact[Number] = UNKNOWN
    minor: Fact[Number] = UNKNOWN
    mode: Fact[str] = UNKNOWN
    uid: Fact[Number] = UNKNOWN
    gid: Fact[Number] = UNKNOWN
    group: Fact[str] = UNKNOWN
    open: Fact[str] = UNKNOWN


class User(FactGroup):
    uid: Fact[Number] = UNKNOWN
    gid: Fact[Number] = UNKNOWN
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
    shm: Fact[Number] = UNKNOWN
    cgroup_device_rules: Fact[tuple[str, ...]] = UNKNOWN
    pythons: Fact[tuple[PythonEnvironment, ...]] = UNKNOWN

    def as_kind(self, kind: type[P]) -> P:
        """The same facts as those of a host, of a container or of any place."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(Place)})
