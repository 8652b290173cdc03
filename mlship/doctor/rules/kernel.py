"""Rules about the kernel module: it exists, may load, owns the GPU, and supports it."""

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Dkms, PciDevice
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import PRE_TURING, architecture, describe, gpus, is_ubuntu, logged
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch

_REJECTED = r"Loading of (unsigned )?module.*(is )?rejected|module verification failed.*nvidia|Key was rejected"


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
