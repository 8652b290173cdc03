"""The host: a place, plus facts that only the host has."""

from dataclasses import dataclass
from typing import Literal

from mlship.doctor.facts.engine import Containerd, Docker, Podman
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.toolkit import Cdi, Toolkit


@dataclass(frozen=True)
class PackageChange(FactGroup):
    """One line of the package manager's history.

    Attributes:
        at: ISO 8601, UTC.
        action: "install", "upgrade", "downgrade" or "remove".
        old: previous version; absent for an install. new: new version; absent for a removal.
        by: the program that changed it, such as "unattended-upgrade".
    """

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
    """Packages of the distribution.

    Attributes:
        manager: "apt", "dnf", "zypper", "pacman" or "apk".
        installed: name to version, for NVIDIA, CUDA, Docker and kernel packages; others are not installed.
        history: changes to these packages, oldest first.
    """

    manager: Fact[str] = UNKNOWN
    installed: Fact[dict[str, str]] = UNKNOWN
    history: Fact[tuple[PackageChange, ...]] = UNKNOWN
    sources: Fact[tuple[PackageSource, ...]] = UNKNOWN


@dataclass(frozen=True)
class Service(FactGroup):
    """A systemd unit.

    Attributes:
        active: output of `systemctl is-active`: "active", "inactive", "failed".
        enabled: output of `systemctl is-enabled`.
        version: of the program, if it reports one.
        started_at: ISO 8601, UTC.
        log: its last relevant log lines.
    """

    active: Fact[str] = UNKNOWN
    enabled: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Wsl(FactGroup):
    """WSL2.

    Attributes:
        drivers: folders of /usr/lib/wsl/drivers, such as ["nv_dispi.inf_amd64_0a1b"].
        windows_nvidia_smi: nvidia-smi works on the Windows side.
    """

    version: Fact[str] = UNKNOWN
    drivers: Fact[tuple[str, ...]] = UNKNOWN
    windows_nvidia_smi: Fact[bool] = UNKNOWN


@dataclass(frozen=True)
class Tegra(FactGroup):
    """Jetson.

    Attributes:
        release: of /etc/nv_tegra_release, such as "R36.4.0".
        csv: files of /etc/nvidia-container-runtime/host-files-for-container.d.
    """

    release: Fact[str] = UNKNOWN
    model: Fact[str] = UNKNOWN
    csv: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Selinux(FactGroup):
    """SELinux.

    Attributes:
        mode: "Enforcing", "Permissive" or "Disabled".
        booleans: such as {"container_use_devices": false}.
        denials: lines of the audit log that name NVIDIA devices.
    """

    mode: Fact[str] = UNKNOWN
    booleans: Fact[dict[str, bool]] = UNKNOWN
    denials: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class Host(Place):
    """The host.

    Attributes:
        virtualization: output of systemd-detect-virt: "none", "kvm", "wsl", "lxc", …
        wsl: absent if this is not WSL. tegra, selinux likewise.
        services: units by name without ".service"; null if there is no such unit: {"nvidia-fabricmanager": null}.
        systemd_reloaded_at: the last `systemctl daemon-reload`; ISO 8601, UTC.
        binfmt: registered interpreters, such as ["qemu-aarch64"].
        docker: `binary` is null if Docker is not installed.
        podman, containerd, crio: null if not installed.
        mps: the MPS control daemon is running.
    """

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
