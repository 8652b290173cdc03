"""Commands to copy, for this distribution and engine; for Debian and Docker if those are unknown.

Values from the facts are quoted: a facts file from someone else must not put its own commands on the clipboard.
"""

import re
from collections.abc import Callable
from shlex import quote
from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Step

Manager: TypeAlias = Literal["apt", "dnf", "zypper", "pacman", "apk"]

_BY_ID: dict[str, Manager] = {
    **dict.fromkeys(("debian", "ubuntu", "linuxmint", "pop"), "apt"),
    **dict.fromkeys(("fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn"), "dnf"),
    **dict.fromkeys(("opensuse-leap", "opensuse-tumbleweed", "sles", "suse", "opensuse"), "zypper"),
    **dict.fromkeys(("arch", "manjaro"), "pacman"),
    "alpine": "apk",
}
_INSTALL: dict[Manager, str] = {
    "apt": "sudo apt-get install -y",
    "dnf": "sudo dnf install -y",
    "zypper": "sudo zypper install -y",
    "pacman": "sudo pacman -S --needed",
    "apk": "sudo apk add",
}
_HEADERS: dict[Manager, str] = {
    "apt": "linux-headers-$(uname -r)",
    "dnf": "kernel-devel-$(uname -r) kernel-headers",
    "zypper": "kernel-default-devel",
    "pacman": "linux-headers",
    "apk": "linux-lts-dev",
}
_INITRAMFS: dict[Manager, str] = {
    "apt": "sudo update-initramfs -u",
    "dnf": "sudo dracut --force",
    "zypper": "sudo dracut --force",
    "pacman": "sudo mkinitcpio -P",
    "apk": "sudo mkinitfs",
}
# The package with libcuda, by an installed one of the same driver.
_LIBCUDA: dict[Manager, tuple[tuple[str, str], ...]] = {
    "apt": (),
    "dnf": (
        ("nvidia-driver-NVML", "nvidia-driver-cuda nvidia-driver-cuda-libs"),
        ("nvidia-driver", "nvidia-driver-cuda nvidia-driver-cuda-libs"),
        ("xorg-x11-drv-nvidia", "xorg-x11-drv-nvidia-cuda"),
    ),
    "zypper": (("nvidia-common-G06", "nvidia-compute-G06"), ("nvidia-utils-G06", "nvidia-compute-G06")),
    "pacman": (("nvidia", "nvidia-utils"), ("nvidia-open", "nvidia-utils")),
    "apk": (),
}
_HOLD: dict[Manager, str] = {
    "apt": "sudo apt-mark hold $(dpkg-query -W -f '${Package}\\n' 'nvidia-driver-*' 'libnvidia-compute-*')",
    "dnf": "sudo dnf versionlock add 'nvidia-driver*' 'kmod-nvidia*'",
    "zypper": "sudo zypper addlock 'nvidia-*'",
    "pacman": "# in /etc/pacman.conf: IgnorePkg = nvidia nvidia-utils",
    "apk": "# pin the packages in /etc/apk/world",
}


def manager(facts: Facts) -> Manager:
    recorded = known(facts.host.packages.manager)
    for name in _INSTALL:
        if recorded == name:
            return name
    system = facts.host.os
    names = ((known(system.id) or "").split(), (known(system.like) or "").split())
    return next((_BY_ID[name] for group in names for name in group if name in _BY_ID), "apt")


def install_command(facts: Facts, *packages: str) -> str:
    return f"{_INSTALL[manager(facts)]} {' '.join(packages)}"


def headers(facts: Facts) -> str:
    """Install the headers of the running kernel."""
    return install_command(facts, _HEADERS[manager(facts)])


def initramfs(facts: Facts) -> str:
    return _INITRAMFS[manager(facts)]


def hold_driver(facts: Facts) -> str:
    """Pin the driver's packages to their version."""
    return _HOLD[manager(facts)]


def engine(facts: Facts) -> Literal["docker", "podman"]:
    """The engine of the container in question; Docker if it is unknown."""
    if known(facts.container.engine) == "podman":
        return "podman"
    only_podman = known(facts.host.podman) is not None and known(facts.host.docker.binary) is None
    return "podman" if only_podman and known(facts.container.engine) is None else "docker"


def restart_engine(facts: Facts) -> str:
    """Restart the engine so that it reads its configuration; podman has no daemon."""
    if engine(facts) == "podman":
        return "# podman has no daemon: nothing to restart"
    if known(facts.host.docker.rootless):
        return "systemctl --user restart docker"
    binary, root = known(facts.host.docker.binary) or "", known(facts.host.docker.root_dir) or ""
    return "sudo snap restart docker" if "/snap/" in f"{binary}{root}" else "sudo systemctl restart docker"


def restart_container(facts: Facts) -> str:
    return f"{engine(facts)} restart {quote(known(facts.container.name) or 'CONTAINER')}"


def docker_run(facts: Facts, *options: str) -> str:
    return " ".join((engine(facts), "run", *options, _image(facts)))


def gpu_options(facts: Facts) -> str:
    """The option of this engine that gives a container the GPUs."""
    if known(facts.host.tegra):
        return "--runtime=nvidia -e NVIDIA_VISIBLE_DEVICES=all"
    return "--device nvidia.com/gpu=all" if engine(facts) == "podman" else "--gpus all"


def refresh_cdi(facts: Facts) -> str:
    services = known(facts.host.services) or {}
    if known(services.get("nvidia-cdi-refresh")):
        return "sudo systemctl restart nvidia-cdi-refresh.service"
    return "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def install_libcuda(facts: Facts, version: str | None) -> str:
    """Install the package with libcuda next to NVML's; empty where the package is unknown, as with a .run driver."""
    names = known(facts.host.packages.installed) or {}
    branch, kind = (version or "").partition(".")[0], manager(facts)
    server = "-server" if any(name.startswith("libnvidia-") and name.endswith("-server") for name in names) else ""
    ubuntu = next((name for name in names if re.match(r"libnvidia-(cfg1|compute|common)-\d+", name)), None)
    if kind == "apt":
        package = f"libnvidia-compute-{branch}{server}" if ubuntu else "libcuda1" if "libnvidia-ml1" in names else ""
    else:
        package = next((libcuda for nvml, libcuda in _LIBCUDA[kind] if nvml in names), "")
    return install_command(facts, package) if package else ""


def reboot(why: str) -> Step:
    return Step(why, ("sudo reboot",))


def _image(facts: Facts) -> str:
    return quote(known(facts.image.reference) or "IMAGE")


# Values for the texts of every rule.
COMMANDS: dict[str, Callable[[Facts], str]] = {
    "engine": engine,
    "gpu_options": gpu_options,
    "headers": headers,
    "hold_driver": hold_driver,
    "image": _image,
    "initramfs": initramfs,
    "install": lambda facts: _INSTALL[manager(facts)],
    "refresh_cdi": refresh_cdi,
    "restart_container": restart_container,
    "restart_engine": restart_engine,
}
