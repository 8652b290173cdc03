"""Rules about the kernel module: it exists, may load, owns the GPU, and supports it."""

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Dkms, PciDevice
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import PRE_TURING, architecture, gpus, is_ubuntu, is_wsl, logged, module_is_loaded
from mlship.doctor.rules.base import Rule, computes
from mlship.doctor.versions import branch

_REJECTED = r"Loading of (unsigned )?module.*(is )?rejected|module verification failed.*nvidia|Key was rejected"
_NOT_OPEN = r"not supported by open|does not include the required GPU"
_BLACKLIST = (
    r"printf 'blacklist nouveau\noptions nouveau modeset=0\n' | sudo tee /etc/modprobe.d/blacklist-nouveau.conf"
)


def free_gpus(facts: Facts) -> tuple[PciDevice, ...]:
    """GPUs that are not passed to virtual machines."""
    return tuple(gpu for gpu in gpus(facts) if known(gpu.driver) != "vfio-pci")


def describe(gpu: PciDevice) -> str:
    return f"{known(gpu.name) or 'NVIDIA GPU'} at {known(gpu.address) or 'an unknown address'}"


class NotBuiltForThisKernel(Rule, id="driver-not-loaded-after-kernel-update"):
    def look(self, facts: Facts) -> Finding | None:
        here = looked_up(facts.kernel.module_files, "nvidia")
        if not free_gpus(facts) or not is_absent(here) or module_is_loaded(facts) is not False or is_wsl(facts):
            return None
        traces = self._driver_is_installed(facts)
        if not traces:
            return None
        release = known(facts.kernel.release) or "$(uname -r)"
        return self.found(
            facts,
            {"prebuilt": self._prebuilt(facts), "release": release},
            evidence=(
                Evidence("kernel.pci", describe(free_gpus(facts)[0])),
                Evidence("kernel.modules.nvidia", "not loaded"),
                Evidence("kernel.module_files.nvidia", f"none below /lib/modules/{release}"),
                *traces,
            ),
        )

    @staticmethod
    def _prebuilt(facts: Facts) -> str | None:
        """The driver's branch, if Ubuntu has modules for it."""
        if commands.manager(facts) != "apt" or "ubuntu" not in (known(facts.host.os.id) or "ubuntu"):
            return None
        library = known(facts.host.nvml.library)
        version = (known(library.version) if library else None) or next(
            (known(line.version) for line in each(facts.kernel.dkms) if "nvidia" in (known(line.module) or "")), None
        )
        return branch(version) if version else None

    @staticmethod
    def _driver_is_installed(facts: Facts) -> tuple[Evidence, ...]:
        """Traces of a driver: without them, none was ever installed."""
        built = [line for line in each(facts.kernel.dkms) if "nvidia" in (known(line.module) or "")]
        if built:
            kernels = ", ".join(_built_for(line) for line in built)
            return (Evidence("kernel.dkms", f"nvidia is built for: {kernels}"),)
        library = known(facts.host.nvml.library)
        if library or known(facts.host.nvml.init) == 9:
            return (
                Evidence("host.nvml.library", library.path if library else "reports that the driver is not loaded"),
            )
        packages = sorted(
            name
            for name in known(facts.host.packages.installed) or {}
            if name.startswith(("nvidia-driver", "nvidia-dkms", "nvidia-kernel-dkms", "libnvidia-compute"))
        )
        return (Evidence("host.packages.installed", ", ".join(packages)),) if packages else ()


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
    free = [gpu for gpu in free_gpus(facts) if known(gpu.driver) in {None, "nvidia"}]
    old = [gpu for gpu in free if architecture(gpu) in PRE_TURING]
    return {
        "old": tuple(f"{describe(gpu)}: {architecture(gpu)}" for gpu in old),
        "model": f"{describe(old[0])} is {architecture(old[0])}" if old else "a GPU here is older than Turing",
    }
