"""The driver's user space as seen from one place: the host, or the inside of a container."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.python import PythonEnvironment

Virtualization: TypeAlias = Literal["none", "passthrough", "vgpu", "host-vgpu", "host-vsga"]
ComputeMode: TypeAlias = Literal["Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process"]


@dataclass(frozen=True)
class Library(FactGroup):
    """A shared library on disk: the file that a name resolved to, and its origin.

    Attributes:
        path: of the file itself, with links resolved if possible.
        version: driver version from the file name, such as "550.54.15".
        mounted: true for a mount (injected by the toolkit), false for a file of the image or the host.
        package: the distribution package that owns it, such as "libnvidia-compute-565".
    """

    path: str
    version: Fact[str] = UNKNOWN
    mounted: Fact[bool] = UNKNOWN
    package: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class RemappedRows(FactGroup):
    """nvmlDeviceGetRemappedRows."""

    correctable: Fact[int] = UNKNOWN
    uncorrectable: Fact[int] = UNKNOWN
    pending: Fact[bool] = UNKNOWN
    failure: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class NvmlDevice(FactGroup):
    """One GPU as NVML describes it.

    Attributes:
        codes: return code by function, for calls that failed: {"nvmlDeviceGetHandleByIndex_v2": 15}.
        compute_capability: such as "8.0".
        brand: as nvidia-smi prints it: "GeForce", "Titan", "Tesla", "NVIDIA", "NVIDIA RTX", "Quadro RTX", "GRID".
        architecture: such as "Pascal" or "Ampere".
        memory_total: bytes; memory_used likewise.
        mig_current: 0 or 1, as nvmlDeviceGetMigMode; absent if the GPU does not support MIG. mig_pending likewise.
        mig_devices: UUIDs of the MIG instances.
        compute_processes: number of processes from nvmlDeviceGetComputeRunningProcesses.
        fabric_state: nvmlDeviceGetGpuFabricInfoV: 0 not supported, 1 not started, 2 in progress, 3 completed.
        fabric_status: status from the same call after completion; 0 is success.
        license_status: as `nvidia-smi -q` prints it, such as "Licensed" or "Unlicensed (Restricted)".
        uncorrected_ecc: uncorrected errors since the driver was loaded (volatile).
        retired_pages_pending: nvmlDeviceGetRetiredPagesPendingStatus.
        addressing_mode: "HMM", "ATS" or "None".
    """

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


@dataclass(frozen=True)
class Nvml(FactGroup):
    """NVML called in this place, with every return code.

    Attributes:
        init: return code of nvmlInit_v2; 12 if libnvidia-ml.so.1 cannot be loaded.
        init_as_root: the same call as root, if tried.
        library: the file that libnvidia-ml.so.1 resolved to; absent if the loader finds none.
        cuda_driver_version: nvmlSystemGetCudaDriverVersion_v2, such as 12040.
        device_count: nvmlDeviceGetCount_v2.
        codes: return code by function, for failed system-level calls other than nvmlInit.
        hangs_at: the call that did not return in time; absent if none hung.
        crashes_at: the call in which the process died, and the signal: "nvmlInit_v2 (SIGABRT)"; absent if none.
    """

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


@dataclass(frozen=True)
class CudaDevice(FactGroup):
    """One device in CUDA's order, which may differ from NVML's.

    Attributes:
        context_code: return code of creating a context; 46 is "busy or unavailable".
        kernel_code: return code of the first kernel launch; 209 is "no kernel image".
    """

    ordinal: Fact[int] = UNKNOWN
    name: Fact[str] = UNKNOWN
    uuid: Fact[str] = UNKNOWN
    compute_capability: Fact[str] = UNKNOWN
    context_code: Fact[int] = UNKNOWN
    kernel_code: Fact[int] = UNKNOWN


@dataclass(frozen=True)
class CudaApi(FactGroup):
    """The CUDA driver API and runtime, called in this place.

    Attributes:
        library: the file that libcuda.so.1 resolved to; absent if dlopen fails.
        init: return code of cuInit(0).
        init_without_visible_devices: the same call with CUDA_VISIBLE_DEVICES unset, if tried.
        driver_version: cuDriverGetVersion, such as 12040; 0 without libcuda.
        device_count: cuDeviceGetCount.
        runtime_code: return code of cudaGetDeviceCount (libcudart), such as 35.
        hangs_at: the call that did not return in time; absent if none hung.
        crashes_at: the call in which the process died, and the signal: "cuInit (SIGABRT)"; absent if none.
    """

    library: Fact[Library] = UNKNOWN
    init: Fact[int] = UNKNOWN
    init_without_visible_devices: Fact[int] = UNKNOWN
    driver_version: Fact[int] = UNKNOWN
    device_count: Fact[int] = UNKNOWN
    devices: Fact[tuple[CudaDevice, ...]] = UNKNOWN
    runtime_code: Fact[int] = UNKNOWN
    hangs_at: Fact[str] = UNKNOWN
    crashes_at: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class CompatFolder(FactGroup):
    """A cuda-compat folder with forward-compatibility libraries.

    Attributes:
        path: such as "/usr/local/cuda-12.4/compat".
        version: of the libcuda in it, such as "550.54.15".
        driver_branches: kernel driver branches that its ELF note lists as supported, such as ["535", "525"].
    """

    path: str
    version: Fact[str] = UNKNOWN
    driver_branches: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Loader(FactGroup):
    """The search path of the dynamic loader. LD_LIBRARY_PATH is in `env`.

    Attributes:
        cache: `ldconfig -p`: soname to paths, in order; only NVIDIA and CUDA libraries.
        conf: files of /etc/ld.so.conf.d with such folders, and those folders.
        libraries: every libcuda and libnvidia-ml on disk, on the loader's path or not.
        compat: cuda-compat folders on disk.
        stubs: stub folders on disk, such as "/usr/local/cuda/lib64/stubs".
        resolves: soname to the path that dlopen loads, null if it fails: {"libcudnn.so.9": null}.
        ldconfig_helps: running ldconfig in a copy of this place added the driver libraries to the cache.
    """

    cache: Fact[dict[str, tuple[str, ...]]] = UNKNOWN
    conf: Fact[dict[str, tuple[str, ...]]] = UNKNOWN
    libraries: Fact[tuple[Library, ...]] = UNKNOWN
    compat: Fact[tuple[CompatFolder, ...]] = UNKNOWN
    stubs: Fact[tuple[str, ...]] = UNKNOWN
    resolves: Fact[dict[str, Fact[str]]] = UNKNOWN
    ldconfig_helps: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Libc(FactGroup):
    """The C library.

    Attributes:
        glibc_loader: path of ld-linux*.so (gcompat provides one in a musl image); absent if none.
        musl_loader: path of ld-musl-*.so.1; absent if none.
    """

    family: Fact[Literal["glibc", "musl"]] = UNKNOWN
    version: Fact[str] = UNKNOWN
    glibc_loader: Fact[str] = UNKNOWN
    musl_loader: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class DeviceNode(FactGroup):
    """A device node in /dev.

    Attributes:
        mode: octal, such as "0666".
        group: name of the gid, such as "video".
        open: result of open(O_RDWR): "ok" or an errno name such as "EPERM" (cgroup) or "EACCES" (mode).
    """

    major: Fact[int] = UNKNOWN
    minor: Fact[int] = UNKNOWN
    mode: Fact[str] = UNKNOWN
    uid: Fact[int] = UNKNOWN
    gid: Fact[int] = UNKNOWN
    group: Fact[str] = UNKNOWN
    open: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class User(FactGroup):
    """The user who runs programs here; `groups` are gids, including the primary one."""

    uid: Fact[int] = UNKNOWN
    gid: Fact[int] = UNKNOWN
    groups: Fact[tuple[int, ...]] = UNKNOWN


@dataclass(frozen=True)
class OperatingSystem(FactGroup):
    """/etc/os-release and the processor: id "ubuntu", version_id "22.04", like "debian", arch "x86_64"."""

    id: Fact[str] = UNKNOWN
    version_id: Fact[str] = UNKNOWN
    like: Fact[str] = UNKNOWN
    name: Fact[str] = UNKNOWN
    arch: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Mount(FactGroup):
    """A relevant line of /proc/self/mountinfo."""

    target: str
    source: Fact[str] = UNKNOWN
    fstype: Fact[str] = UNKNOWN
    read_only: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Place(FactGroup):
    """The facts of one place.

    Attributes:
        device_nodes: by path; null for a node that does not exist: {"/dev/nvidia-uvm": null}.
        env: relevant environment variables (NVIDIA_*, CUDA_*, LD_* and a few more); others are unset.
        paths: what exists at each examined path ("file", "folder", "socket", "-> target"), null for nothing.
        shm: size of /dev/shm in bytes.
        cgroup_device_rules: the rules of cgroup v1 ("c 195:* rw"), or known facts about the eBPF program.
        pythons: Python environments with GPU frameworks.
    """

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
