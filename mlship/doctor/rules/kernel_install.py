"""Rules about a driver that is not installed, and a module that is not loaded."""

import re

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import PRE_TURING, architecture, describe, gpus
from mlship.doctor.rules.base import computes

_DRIVER_PACKAGE = re.compile(
    r"nvidia-(driver|dkms|kernel|open|headless|utils|compute|gfx|lts|drivers)|libnvidia-(compute|ml)|libcuda1$|"
    r"(akmod|kmod|xorg-x11-drv)-nvidia|cuda-drivers|linux-modules-nvidia|nvidia$"
)

_REPOSITORY = "# add NVIDIA's repository: https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/"
_FUSION = "https://mirrors.rpmfusion.org/nonfree/fedora/rpmfusion-nonfree-release-$(rpm -E %fedora).noarch.rpm"
_COMPONENTS = "# add contrib non-free non-free-firmware to the components in /etc/apt/sources.list.d/debian.sources"
# Commands to run first, the packages, and the packages for a GPU before Turing.
_PACKAGES = {
    "apt": ((_COMPONENTS, "sudo apt-get update"), "nvidia-driver", "nvidia-driver"),
    "fedora": (
        (f"sudo dnf install -y {_FUSION}",),
        "akmod-nvidia xorg-x11-drv-nvidia-cuda",
        "akmod-nvidia-580xx xorg-x11-drv-nvidia-580xx-cuda",
    ),
    "dnf": ((_REPOSITORY,), "nvidia-open", "cuda-drivers-580"),
    "zypper": ((_REPOSITORY,), "nvidia-open", "cuda-drivers-580"),
    "pacman": ((), "nvidia-open-dkms nvidia-utils", "nvidia-580xx-dkms nvidia-580xx-utils"),
    "apk": (("# NVIDIA has no driver for musl: this host needs a distribution with glibc",), "", ""),
}


@computes("driver-not-installed")
def _never_installed(facts: Facts) -> Values:
    old = any(architecture(gpu) in PRE_TURING for gpu in gpus(facts))
    built = any("nvidia" in (known(line.module) or "") for line in each(facts.kernel.dkms))
    return {
        "found": tuple(map(describe, gpus(facts)[:4])),
        "old": old,
        "install_driver": _install_driver(facts, old=old),
        "traces": built or any(_DRIVER_PACKAGE.match(name) for name in known(facts.host.packages.installed) or {}),
    }


def _install_driver(facts: Facts, *, old: bool) -> tuple[str, ...]:
    """As the distribution documents it; from its own packages if it has them."""
    name, like = known(facts.host.os.id) or "", (known(facts.host.os.like) or "").split()
    if name == "ubuntu" or "ubuntu" in like:
        tools = commands.install_command(facts, "ubuntu-drivers-common")
        return (commands.headers(facts), tools, "sudo ubuntu-drivers install")
    family = "fedora" if name == "fedora" else commands.manager(facts)
    before, packages, packages_of_old = _PACKAGES.get(family or "", ((), "", ""))
    chosen = packages_of_old if old else packages
    headers = (commands.headers(facts),) if packages and family != "apk" else ()
    return (*before, *headers, *((commands.install_command(facts, chosen),) if chosen else ()))


@computes("driver-module-not-loaded")
def _lies_idle(facts: Facts) -> Values:
    listed = next(filter(_blocks_nvidia, (known(facts.kernel.cmdline) or "").split()), None)
    unbound = not all(is_known(gpu.driver) for gpu in gpus(facts))
    return {"listed": listed, "removal": commands.remove_option(facts, listed or ""), "unbound": unbound}


def _blocks_nvidia(option: str) -> bool:
    """The option of the kernel's command line keeps the module from loading."""
    key, _, value = option.partition("=")
    return key in {"modprobe.blacklist", "module_blacklist", "rd.driver.blacklist"} and "nvidia" in value.split(",")
