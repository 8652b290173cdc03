"""Rules about the kernel module: it is installed, exists, may load, owns the GPU, and supports it."""

import re

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Dkms, PciDevice
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import PRE_TURING, architecture, describe, gpus, is_ubuntu, logged
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch

_REJECTED = r"Loading of (unsigned )?module.*(is )?rejected|module verification failed.*nvidia|Key was rejected"
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


@computes("driver-not-loaded-after-kernel-update")
def _installed(facts: Facts) -> Values:
    return {"prebuilt": _prebuilt(facts), "traces": _traces_of_driver(facts)}


def _prebuilt(facts: Facts) -> str | None:
    """The driver's branch, if Ubuntu has modules for it."""
    if commands.manager(facts) != "apt" or "ubuntu" not in (known(facts.host.os.id) or "ubuntu"):
        return None
    library = known(facts.host.nvml.library)
    built = (known(line.version) for line in each(facts.kernel.dkms) if "nvidia" in (known(line.module) or ""))
    version = (known(library.version) if library else None) or next(built, None)
    return branch(version) if version else None


def _traces_of_driver(facts: Facts) -> Evidence | None:
    """A trace of a driver; without one, none was ever installed."""
    built = [line for line in each(facts.kernel.dkms) if "nvidia" in (known(line.module) or "")]
    if built:
        return Evidence("kernel.dkms", f"nvidia is built for: {', '.join(map(_built_for, built))}")
    library = known(facts.host.nvml.library)
    if library or known(facts.host.nvml.init) == 9:
        return Evidence("host.nvml.library", library.path if library else "reports that the driver is not loaded")
    names = ("nvidia-driver", "nvidia-dkms", "nvidia-kernel-dkms", "libnvidia-compute")
    packages = sorted(name for name in known(facts.host.packages.installed) or {} if name.startswith(names))
    return Evidence("host.packages.installed", ", ".join(packages)) if packages else None


def _built_for(line: Dkms) -> str:
    """The kernel of one line of `dkms status`, and the state if it is not installed."""
    kernel, state = known(line.kernel) or "no kernel", known(line.state)
    return kernel if state in {None, "installed"} else f"{kernel} ({state})"


@computes("secure-boot-unsigned-module")
def _rejection(facts: Facts) -> Values:
    key = "/var/lib/shim-signed/mok/MOK.der" if is_ubuntu(facts) else "/var/lib/dkms/mok.pub"
    if commands.manager(facts) == "dnf":
        key = "/etc/pki/akmods/certs/public_key.der"
    if line := logged(facts, _REJECTED):
        return {"key": key, "shown": (line,)}
    module, enrolled = known(looked_up(facts.kernel.module_files, "nvidia")), known(facts.kernel.enrolled_signers)
    signer, shown = known(module.signer) if module else None, "kernel.module_files.nvidia.signer"
    if module is not None and is_absent(module.signer):
        return {"key": key, "shown": (Evidence(shown, "not signed"),)}
    if signer is None or enrolled is None or signer in enrolled:
        return {"shown": None}
    listed = Evidence("kernel.enrolled_signers", ", ".join(enrolled) or "none")
    return {"key": key, "shown": (Evidence(shown, signer), listed)}


@computes("nouveau-owns-gpu")
def _held(facts: Facts) -> Values | None:
    held = [gpu for gpu in gpus(facts) if known(gpu.driver) == "nouveau"]
    if not held or _only_shows_a_picture(facts, held):
        return None
    return {"gpu": describe(held[0]), "addresses": tuple(str(known(gpu.address)) for gpu in held)}


def _only_shows_a_picture(facts: Facts, held: list[PciDevice]) -> bool:
    """The card is too old for the driver and only drives a display, next to GPUs that work."""
    others = [gpu for gpu in gpus(facts) if gpu not in held]
    works = known(facts.host.nvml.init) == 0 and known(facts.host.nvml.device_count) == len(others)
    return bool(others) and works and all((architecture(gpu) or "").startswith("Kepler") for gpu in held)


@computes("open-module-on-pre-turing")
def _before_turing(facts: Facts) -> Values:
    free = [gpu for gpu in gpus(facts) if known(gpu.driver) in {None, "nvidia"}]
    old = [gpu for gpu in free if architecture(gpu) in PRE_TURING]
    return {
        "old": tuple(f"{describe(gpu)}: {architecture(gpu)}" for gpu in old),
        "model": f"{describe(old[0])} is {architecture(old[0])}" if old else "a GPU here is older than Turing",
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
