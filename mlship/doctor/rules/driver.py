"""Rules of the driver's libraries against the module that is loaded."""

from mlship.doctor import codes, commands
from mlship.doctor.facts.fact import each, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import same
from mlship.doctor.views import brands, is_compat, is_wsl, kernel_driver, log_line, places

_EVERYTHING = ("nvml.*", "cuda.*", "torch", "onnxruntime", "tensorflow", "jax", "message.*")


def _reload(facts: Facts) -> tuple[Step, ...]:
    return (
        commands.reboot("Restart the host, so that the module that belongs to the libraries is loaded:"),
        Step(
            "Or, while no process uses a GPU, reload the module:",
            (
                "sudo systemctl stop nvidia-persistenced display-manager",
                "sudo rmmod nvidia_drm nvidia_modeset nvidia_uvm nvidia",
                "sudo modprobe nvidia",
            ),
            instead=True,
        ),
        Step("So that it does not happen again by itself:", (commands.hold_driver(facts),)),
    )


def _upgrades(facts: Facts) -> tuple[Evidence, ...]:
    """The driver's packages that changed after the start."""
    boot = known(facts.kernel.boot_time)
    changes = [
        f"{known(change.at)} {known(change.package)} {known(change.old)} -> {known(change.new)}"
        for change in each(facts.host.packages.history)
        if boot and (known(change.at) or "") > boot and "nvidia" in (known(change.package) or "")
    ]
    return tuple(Evidence("host.packages.history", line) for line in changes[-2:])


def _libcuda_is_ahead(where: Where, place: Place, module: str) -> bool:
    """CuInit takes a libcuda of another version for forward compatibility, and the GPU does not allow it."""
    library = known(place.cuda.library)
    version = known(library.version) if library else None
    if known(place.cuda.init) != 804 or library is None or is_compat(library.path) or version is None:
        return False
    is_the_hosts = where == "host" or known(library.mounted) is not False  # else the image brought it
    return is_the_hosts and not same(version, module)


class LibraryModuleMismatch(Rule):
    id = "nvml-lib-kmod-mismatch-after-upgrade"
    layer = "driver user space"
    title = "The driver's libraries and the loaded kernel module are of different versions"
    source = (
        *("NVIDIA/nvidia-container-toolkit#394", "NVIDIA/nvidia-container-toolkit#171", "lyulyul/shine-cluster#30"),
        "psalias2006/gpu-hot#48",
    )
    story = (
        "Upgrading the driver's packages (often by unattended-upgrades) replaces the libraries at once, and the module "
        "only at the next start. Containers that already run keep the old libraries and work, which hides the cause."
    )
    needs = ("host.nvml.init",)
    explains = (*_EVERYTHING, "cdi-spec-stale-after-driver-upgrade")
    rivals = ("api-mismatch-804-on-geforce-after-upgrade",)

    def look(self, facts: Facts) -> Finding | None:
        module, library = kernel_driver(facts), known(facts.host.nvml.library)
        if known(facts.host.nvml.init) != 18 or is_wsl(facts):
            return None
        if module and any(_libcuda_is_ahead(where, place, module) for where, place in places(facts)):
            return None
        version = known(library.version) if library else None
        line = log_line(facts, "NVRM: API mismatch")
        if module and version and same(version, module):
            return None
        return self.found(
            cause=f"The libraries on disk are {version or 'of another version'}, "
            f"the module in memory is {module or 'not of that version'}.",
            fix=self._fix(facts, version, module),
            evidence=(
                Evidence("host.nvml.init", codes.nvml(18)),
                Evidence("host.nvml.library", f"{library.path}, version {version}") if library else None,
                Evidence("kernel.nvidia.version", module) if module else None,
                Evidence("kernel.log", line) if line else None,
                *_upgrades(facts),
            ),
        )

    @staticmethod
    def _fix(facts: Facts, version: str | None, module: str | None) -> tuple[Step, ...]:
        """A restart loads the module that is on disk: no help where that one is the one in memory."""
        file = known(looked_up(facts.kernel.module_files, "nvidia"))
        on_disk = known(file.version) if file else None
        if not (on_disk and version and module and same(on_disk, module) and not same(on_disk, version)):
            return _reload(facts)
        return (
            Step(
                f"The module on disk is {on_disk} too, so a restart alone does not help. Build it for {version}:",
                (commands.headers(facts), "sudo dkms autoinstall", "sudo reboot"),
            ),
            Step("Where two drivers are installed (packages and NVIDIA's .run file), remove one of them first."),
        )


class NewLibcudaOldModule(Rule):
    id = "api-mismatch-804-on-geforce-after-upgrade"
    layer = "driver user space"
    title = "libcuda was upgraded, the loaded module was not, and CUDA takes it for forward compatibility"
    source = (
        "TensorFlow's log: libcuda reported version is: 560.35.5, kernel reported version is: 550.120.0",
        "kernel version 470.182.3 does not match DSO version 470.223.2 (mended by a restart)",
    )
    story = (
        "cuInit returns 804 where libcuda and the module differ and the GPU is a GeForce. That is also what "
        "a cuda-compat library gives (compat-on-geforce-804), but here the libcuda is the host's own."
    )
    needs = ("place.cuda.init", "place.cuda.library")
    explains = (*_EVERYTHING, "cdi-spec-stale-after-driver-upgrade")
    rivals = ("compat-on-geforce-804", "nvml-lib-kmod-mismatch-after-upgrade")

    def look(self, facts: Facts) -> Finding | None:
        module = kernel_driver(facts)
        if module is None:
            return None
        for where, place in places(facts):
            library = known(place.cuda.library)
            if library is not None and _libcuda_is_ahead(where, place, module):
                return self.found(
                    cause=f"libcuda is {known(library.version)}, the module in memory is still {module}.",
                    fix=_reload(facts),
                    evidence=(
                        Evidence(f"{where}.cuda.init", codes.cuda(804)),
                        Evidence(f"{where}.cuda.library", f"{library.path} (no cuda-compat)"),
                        Evidence("kernel.nvidia.version", module),
                        *(Evidence(f"{where}.nvml.devices", f"brand {brand}") for brand in sorted(brands(facts))),
                        *_upgrades(facts),
                    ),
                )
        return None


RULES: tuple[Rule, ...] = (LibraryModuleMismatch(), NewLibcudaOldModule())
