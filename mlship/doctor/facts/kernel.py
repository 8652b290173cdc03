"""What the host and its containers share: the kernel, its modules and the hardware."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup

Flavour: TypeAlias = Literal["open", "proprietary"]


@dataclass(frozen=True)
class PciDevice(FactGroup):
    """A device of /sys/bus/pci: NVIDIA devices and other display adapters."""

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
    """A module file for the running kernel, with its modinfo."""

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
    """/proc/driver/nvidia."""

    version: Fact[str] = UNKNOWN
    flavour: Fact[Flavour] = UNKNOWN
    params: Fact[dict[str, str]] = UNKNOWN


@dataclass(frozen=True)
class Kernel(FactGroup):
    """The running kernel, the same on the host and in its containers."""

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
