"""What the host and its containers share: the kernel, its modules and the hardware."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, DriverVersion, Fact, FactGroup, Number

Flavour: TypeAlias = Literal["open", "proprietary"]


class PciDevice(FactGroup):
    address: Fact[str] = UNKNOWN
    vendor: Fact[str] = UNKNOWN
    device: Fact[str] = UNKNOWN
    class_code: Fact[str] = UNKNOWN
    driver: Fact[str] = UNKNOWN
    revision: Fact[str] = UNKNOWN
    name: Fact[str] = UNKNOWN
    architecture: Fact[str] = UNKNOWN


class LoadedModule(FactGroup):
    version: Fact[str] = UNKNOWN
    refcnt: Fact[Number] = UNKNOWN


class ModuleFile(FactGroup):
    path: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    license: Fact[str] = UNKNOWN
    signer: Fact[str] = UNKNOWN


class Dkms(FactGroup):
    module: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    kernel: Fact[str] = UNKNOWN
    state: Fact[str] = UNKNOWN


class ProcDriver(FactGroup):
    version: Fact[DriverVersion] = UNKNOWN
    flavour: Fact[Flavour] = UNKNOWN
    params: Fact[dict[str, str]] = UNKNOWN


class Kernel(FactGroup):
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
    proc_devices: Fact[dict[str, Number]] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN
    cgroup_version: Fact[Number] = UNKNOWN
