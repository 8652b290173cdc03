"""The host: a place, plus facts that only the host has."""

from dataclasses import dataclass
from typing import Literal

from mlship.doctor.facts.engine import Containerd, Docker, Podman
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.toolkit import Cdi, Toolkit


@dataclass(frozen=True)
class PackageChange(FactGroup):
    """One line of the package manager's history."""

    at: Fact[str] = UNKNOWN
    action: Fact[Literal["install", "upgrade", "downgrade", "remove"]] = UNKNOWN
    package: Fact[str] = UNKNOWN
    old: Fact[str] = UNKNOWN
    new: Fact[str] = UNKNOWN
    by: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class PackageSource(FactGroup):
    """A package source for one of NVIDIA's repositories; `signed_by` is its key file."""

    file: Fact[str] = UNKNOWN
    uri: Fact[str] = UNKNOWN
    signed_by: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Packages(FactGroup):
    """Packages of the distribution."""

    manager: Fact[str] = UNKNOWN
    installed: Fact[dict[str, str]] = UNKNOWN
    history: Fact[tuple[PackageChange, ...]] = UNKNOWN
    sources: Fact[tuple[PackageSource, ...]] = UNKNOWN


@dataclass(frozen=True)
class Service(FactGroup):
    """A systemd unit."""

    active: Fact[str] = UNKNOWN
    enabled: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Wsl(FactGroup):
    """WSL2."""

    version: Fact[str] = UNKNOWN
    drivers: Fact[tuple[str, ...]] = UNKNOWN
    windows_nvidia_smi: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Tegra(FactGroup):
    """Jetson."""

    release: Fact[str] = UNKNOWN
    model: Fact[str] = UNKNOWN
    csv: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Selinux(FactGroup):
    """SELinux."""

    mode: Fact[str] = UNKNOWN
    booleans: Fact[dict[str, bool]] = UNKNOWN
    denials: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Host(Place):
    """The host."""

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
