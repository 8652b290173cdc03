"""The host: a place, plus facts that only the host has."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.engine import Containerd, Docker, Podman
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.toolkit import Cdi, Toolkit

PackageAction: TypeAlias = Literal["install", "upgrade", "downgrade", "remove"]


class PackageChange(FactGroup):
    at: Fact[str] = UNKNOWN
    action: Fact[PackageAction] = UNKNOWN
    package: Fact[str] = UNKNOWN
    old: Fact[str] = UNKNOWN
    new: Fact[str] = UNKNOWN
    by: Fact[str] = UNKNOWN


class PackageSource(FactGroup):
    file: Fact[str] = UNKNOWN
    uri: Fact[str] = UNKNOWN
    signed_by: Fact[str] = UNKNOWN


class Packages(FactGroup):
    manager: Fact[str] = UNKNOWN
    installed: Fact[dict[str, str]] = UNKNOWN
    history: Fact[tuple[PackageChange, ...]] = UNKNOWN
    sources: Fact[tuple[PackageSource, ...]] = UNKNOWN


class Service(FactGroup):
    active: Fact[str] = UNKNOWN
    enabled: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


class Wsl(FactGroup):
    version: Fact[str] = UNKNOWN
    drivers: Fact[tuple[str, ...]] = UNKNOWN
    windows_nvidia_smi: Fact[bool] = UNKNOWN


class Tegra(FactGroup):
    release: Fact[str] = UNKNOWN
    model: Fact[str] = UNKNOWN
    csv: Fact[tuple[str, ...]] = UNKNOWN


class Selinux(FactGroup):
    mode: Fact[str] = UNKNOWN
    booleans: Fact[dict[str, bool]] = UNKNOWN
    denials: Fact[tuple[str, ...]] = UNKNOWN


class Host(Place):
    virtualization: Fact[str] = UNKNOWN
    wsl: Fact[Wsl] = UNKNOWN
    tegra: Fact[Tegra] = UNKNOWN
    selinux: Fact[Selinux] = UNKNOWN
    packages: Packages = Packages()
    services: Fact[dict[str, Fact[Service]]] = UNKNOWN
    systemd_reloaded_at: Fact[str] = UNKNOWN
    binfmt: Fact[tuple[str, ...]] = UNKNOWN
    mps: Fact[bool] = UNKNOWN
    toolkit: Toolkit = Toolkit()
    cdi: Cdi = Cdi()
    docker: Docker = Docker()
    podman: Fact[Podman] = UNKNOWN
    containerd: Fact[Containerd] = UNKNOWN
    crio: Fact[Containerd] = UNKNOWN
