"""Rules about a driver that is not installed, and a module that is not loaded."""

import re

from mlship.doctor import commands
from mlship.doctor.facts.fact import each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Evidence, Finding
from mlship.doctor.queries import PRE_TURING, architecture, failing_pod, is_tegra, is_wsl, log_line, module_is_loaded
from mlship.doctor.rules.base import Rule
from mlship.doctor.rules.kernel import describe, free_gpus

_NO_LIBRARY = 12
_DRIVER_PACKAGE = re.compile(
    r"nvidia-(driver|dkms|kernel|open|headless|utils|compute|gfx|lts|drivers)|libnvidia-(compute|ml)|libcuda1$|"
    r"(akmod|kmod|xorg-x11-drv)-nvidia|cuda-drivers|linux-modules-nvidia|nvidia$"
)
_BLOCKS = r"module_blacklist|blacklisted|NVRM: (No NVIDIA|The NVIDIA (probe|GPU)|.*(fail|error|not supported))|rejected"

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


def _lies_idle(facts: Facts) -> bool:
    """This host has a GPU, and the module is known not to be loaded."""
    return bool(free_gpus(facts)) and module_is_loaded(facts) is False and not is_wsl(facts) and not is_tegra(facts)


class NotInstalled(Rule, id="driver-not-installed"):
    def look(self, facts: Facts) -> Finding | None:
        nvml = facts.host.nvml
        no_library = is_absent(nvml.library) or (known(nvml.library) is None and known(nvml.init) == _NO_LIBRARY)
        no_module = is_absent(looked_up(facts.kernel.module_files, "nvidia"))
        no_package = not is_known(nvml.library) and known(facts.host.packages.installed) is not None
        if not _lies_idle(facts) or not (no_library or no_package) or not no_module or self._traces(facts):
            return None
        old, node = any(architecture(gpu) in PRE_TURING for gpu in free_gpus(facts)), known(facts.kubernetes)
        return self.found(
            facts,
            {
                "operator": node and known(node.operator_version),
                "old": old,
                "install_driver": self._install(facts, old=old),
                "gpu": describe(free_gpus(facts)[0]),
                "why": failing_pod(facts, "driver"),
            },
            certain=no_library,
            evidence=(
                *(Evidence("kernel.pci", describe(gpu)) for gpu in free_gpus(facts)[:4]),
                Evidence("kernel.module_files.nvidia", "none for the running kernel"),
                Evidence("host.nvml.library", "libnvidia-ml.so.1 is not found") if no_library else None,
                Evidence("host.packages.installed", "no driver package")
                if known(facts.host.packages.installed) is not None
                else None,
            ),
        )

    @staticmethod
    def _traces(facts: Facts) -> bool:
        """The driver is installed but incomplete, which is another failure."""
        names = known(facts.host.packages.installed) or {}
        built = any("nvidia" in (known(line.module) or "") for line in each(facts.kernel.dkms))
        return built or any(_DRIVER_PACKAGE.match(name) for name in names) or known(facts.host.nvml.init) in {0, 9, 18}

    @staticmethod
    def _install(facts: Facts, *, old: bool) -> tuple[str, ...]:
        """As the distribution documents it; from its own packages if it has them."""
        name, like = known(facts.host.os.id) or "", (known(facts.host.os.like) or "").split()
        if name == "ubuntu" or "ubuntu" in like:
            return (
                commands.headers(facts),
                commands.install_command(facts, "ubuntu-drivers-common"),
                "sudo ubuntu-drivers install",
            )
        family = "fedora" if name == "fedora" else commands.manager(facts)
        before, packages, packages_of_old = _PACKAGES.get(family or "", ((), "", ""))
        chosen = packages_of_old if old else packages
        headers = (commands.headers(facts),) if packages and family != "apk" else ()
        return (*before, *headers, *((commands.install_command(facts, chosen),) if chosen else ()))


class NotLoaded(Rule, id="driver-module-not-loaded"):
    def look(self, facts: Facts) -> Finding | None:
        module = known(looked_up(facts.kernel.module_files, "nvidia"))
        if not _lies_idle(facts) or module is None:
            return None
        listed = self._on_blacklist(facts)
        if log_line(facts, _BLOCKS) and not listed:
            return None
        doubts = self._doubts(facts)
        path = known(module.path)
        return self.found(
            facts,
            {"listed": listed, "removal": commands.remove_option(facts, listed or "")},
            certain=not doubts,
            decides=doubts,
            evidence=(
                Evidence("kernel.pci", describe(free_gpus(facts)[0])),
                Evidence("kernel.modules.nvidia", "not loaded"),
                Evidence("kernel.module_files.nvidia", path or "present"),
                Evidence("kernel.cmdline", listed) if listed else None,
                Evidence("kernel.secure_boot", "off") if known(facts.kernel.secure_boot) is False else None,
            ),
        )

    @staticmethod
    def _doubts(facts: Facts) -> tuple[Decider, ...]:
        """Unknown facts that could still keep it from loading."""
        drivers_known = all(is_known(gpu.driver) for gpu in free_gpus(facts))
        signature = Decider("kernel.secure_boot", "mokutil --sb-state; sudo modprobe nvidia")
        held = Decider("kernel.pci", "lspci -k -d 10de:")
        log = Decider("kernel.log", "sudo modprobe nvidia; sudo dmesg | tail")
        log_is_known, off = known(facts.kernel.log) is not None, known(facts.kernel.secure_boot) is False
        return (
            *(() if off or (log_is_known and is_known(facts.kernel.secure_boot)) else (signature,)),
            *(() if drivers_known else (held,)),
            *(() if log_is_known else (log,)),
        )

    @staticmethod
    def _on_blacklist(facts: Facts) -> str | None:
        for word in (known(facts.kernel.cmdline) or "").split():
            key, _, value = word.partition("=")
            if key in {"modprobe.blacklist", "module_blacklist", "rd.driver.blacklist"} and "nvidia" in value.split(
                ","
            ):
                return word
        return None
