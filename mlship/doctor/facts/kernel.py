"""What the host and its containers share: the kernel, its modules and the hardware."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup

Flavour: TypeAlias = Literal["open", "proprietary"]


@dataclass(frozen=True)
class PciDevice(FactGroup):
    """A device of /sys/bus/pci: NVIDIA devices and other display adapters.

    Attributes:
        address: such as "0000:ca:00.0".
        vendor: four hex digits; NVIDIA is "10de". device likewise.
        class_code: six hex digits, such as "030200" (3D controller) or "068000" (NVSwitch).
        driver: the bound driver; absent if none.
        revision: two hex digits; "ff" means that the device no longer answers.
        name: as lspci prints it.
        architecture: of the GPU, such as "Pascal", if the device ID is known.
    """

    address: Fact[str] = UNKNOWN
    vendor: Fact[str] = UNKNOWN
    device: Fact[str] = UNKNOWN
    class_code: Fact[str] = UNKNOWN
    driver: Fact[str] = UNKNOWN
    revision: Fact[str] = UNKNOWN
    name: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class LoadedModule(FactGroup):
    """/sys/module/NAME; `refcnt` is the number of users."""

    version: Fact[str] = UNKNOWN
    refcnt: Fact[int] = UNKNOWN


@dataclass(frozen=True)
class ModuleFile(FactGroup):
    """A module file for the running kernel, with its modinfo.

    Attributes:
        license: "NVIDIA" is the proprietary flavour, "Dual MIT/GPL" the open one.
        signer: absent if not signed.
    """

    path: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    license: Fact[str] = UNKNOWN
    signer: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Dkms(FactGroup):
    """A line of `dkms status`."""

    module: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    kernel: Fact[str] = UNKNOWN
    state: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class ProcDriver(FactGroup):
    """/proc/driver/nvidia.

    Attributes:
        version: of the loaded module, such as "550.54.15"; absent without /proc/driver/nvidia/version.
        flavour: "open" if the version line says "Open Kernel Module".
        params: /proc/driver/nvidia/params, values as written there: {"DeviceFileMode": "438"}.
    """

    version: Fact[str] = UNKNOWN
    flavour: Fact[Flavour] = UNKNOWN
    params: Fact[dict[str, str]] = UNKNOWN


@dataclass(frozen=True)
class Kernel(FactGroup):
    """The running kernel, the same on the host and in its containers.

    Attributes:
        release: `uname -r`.
        cmdline: /proc/cmdline.
        boot_time: ISO 8601, UTC.
        secure_boot: enabled (`mokutil --sb-state`, or the EFI variable).
        enrolled_signers: accepted signers: common names from MOK, db and the kernel's own keys.
        pci: display adapters and NVIDIA devices; [] if there are none.
        modules: loaded modules by name with underscores; null if not loaded: {"nvidia_uvm": null}.
        module_files: by module name, for the running kernel; null if /lib/modules has none: {"nvidia": null}.
        nvidia: /proc/driver/nvidia.
        proc_devices: /proc/devices: {"nvidia-uvm": 511}; others have no major number.
        log: lines of the kernel log about NVIDIA, nouveau, module signatures, PCIe and ldconfig, oldest first.
        cgroup_version: 1 or 2.
        lockdown: /sys/kernel/security/lockdown: "none", "integrity" or "confidentiality".
    """

    release: Fact[str] = UNKNOWN
    cmdline: Fact[str] = UNKNOWN
    boot_time: Fact[str] = UNKNOWN
    secure_boot: Fact[bool] = UNKNOWN
    enrolled_signers: Fact[tuple[str, ...]] = UNKNOWN
    lockdown: Fact[str] = UNKNOWN
    pci: Fact[tuple[PciDevice, ...]] = UNKNOWN
    modules: Fact[dict[str, Fact[LoadedModule]]] = UNKNOWN
    module_files: Fact[dict[str, Fact[ModuleFile]]] = UNKNOWN
    dkms: Fact[tuple[Dkms, ...]] = UNKNOWN
    nvidia: ProcDriver = ProcDriver()
    proc_devices: Fact[dict[str, int]] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN
    cgroup_version: Fact[int] = UNKNOWN
