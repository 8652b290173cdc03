"""Rules about driver libraries that do not match the loaded module."""

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.queries import brands, is_compat, is_wsl, kernel_driver, log_line, places, variable
from mlship.doctor.rules.base import Rule, computes
from mlship.doctor.versions import same
from mlship.driver import codes

_PATH = "LD_LIBRARY_PATH"


def _reload(facts: Facts) -> tuple[Step, ...]:
    return (
        commands.reboot("Reboot the host to load the module that matches the libraries:"),
        Step(
            "Or reload the module while no process uses a GPU:",
            (
                "sudo systemctl stop nvidia-persistenced display-manager",
                "sudo rmmod nvidia_drm nvidia_modeset nvidia_uvm nvidia",
                "sudo modprobe nvidia",
            ),
            instead=True,
        ),
        Step("Keep it from happening again:", (commands.hold_driver(facts),)),
    )


def _upgrades(facts: Facts) -> tuple[Evidence, ...]:
    """The driver's packages that changed after boot."""
    boot = known(facts.kernel.boot_time)
    changes = [
        f"{known(change.at)} {known(change.package)} {known(change.old)} -> {known(change.new)}"
        for change in each(facts.host.packages.history)
        if boot and (known(change.at) or "") > boot and "nvidia" in (known(change.package) or "")
    ]
    return tuple(Evidence("host.packages.history", line) for line in changes[-2:])


def _libcuda_is_ahead(where: Where, place: Place, module: str) -> bool:
    """CuInit takes a libcuda of another version for forward compatibility, which the GPU does not support."""
    library = known(place.cuda.library)
    version = known(library.version) if library else None
    if known(place.cuda.init) != 804 or library is None or is_compat(library.path) or version is None:
        return False
    is_the_hosts = where == "host" or known(library.mounted) is not False  # else the image brought it
    return is_the_hosts and not same(version, module)


def _stray(facts: Facts) -> Library | None:
    """A library of another version that hides the one that matches the module."""
    module, host = kernel_driver(facts), facts.host
    loaded = ((known(host.nvml.library), known(host.nvml.init) == 18), (known(host.cuda.library), _cuda_differs(host)))
    for library, fails in loaded:
        version = known(library.version) if library else None
        if not (fails and module and library and version) or same(version, module) or is_compat(library.path):
            continue
        name = library.path.rpartition("/")[2].partition(".so")[0]
        fitting = [one.path for one in each(host.loader.libraries) if same(known(one.version) or "x", module)]
        if any(path.rpartition("/")[2].startswith(name) for path in fitting) or _is_on_path(host, library):
            return library
    return None


def _cuda_differs(place: Place) -> bool:
    return known(place.cuda.init) in {803, 804}


def _is_on_path(place: Place, library: Library) -> bool:
    """LD_LIBRARY_PATH lists its folder, which is not one of the system's."""
    folder = library.path.rpartition("/")[0]
    own = folder.startswith(("/usr/lib", "/lib"))
    return not own and folder in [part.rstrip("/") for part in (known(variable(place, _PATH)) or "").split(":")]


class LibraryModuleMismatch(Rule, id="nvml-lib-kmod-mismatch-after-upgrade"):
    def look(self, facts: Facts) -> Finding | None:
        module, library = kernel_driver(facts), known(facts.host.nvml.library)
        if known(facts.host.nvml.init) != 18 or is_wsl(facts):
            return None
        version = known(library.version) if library else None
        line = log_line(facts, "NVRM: API mismatch")
        if module and version and same(version, module):
            return None
        return self.found(
            facts,
            {"version": version, "module": module or "a different one"},
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
        """A reboot loads the module on disk, which does not help if that is the one already loaded."""
        file = known(looked_up(facts.kernel.module_files, "nvidia"))
        on_disk = known(file.version) if file else None
        if not (on_disk and version and module and same(on_disk, module) and not same(on_disk, version)):
            return _reload(facts)
        return (
            Step(
                f"A reboot alone does not help: the module on disk is {on_disk} too. Build it for {version}:",
                (commands.headers(facts), "sudo dkms autoinstall", "sudo reboot"),
            ),
            Step("If two drivers are installed (packages and NVIDIA's .run file), remove one of them first."),
        )


class NewLibcudaOldModule(Rule, id="api-mismatch-804-on-geforce-after-upgrade"):
    def look(self, facts: Facts) -> Finding | None:
        module = kernel_driver(facts)
        if module is None:
            return None
        for where, place in places(facts):
            library = known(place.cuda.library)
            if library is not None and _libcuda_is_ahead(where, place, module):
                return self.found(
                    facts,
                    {"version": known(library.version), "module": module},
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


@computes("stray-driver-library")
def _hides(facts: Facts) -> Values | None:
    library = _stray(facts)
    if library is None:
        return None
    variable_of, folder = known(variable(facts.host, _PATH)) or "", library.path.rpartition("/")[0]
    parts = [part for part in variable_of.split(":") if part]
    kept = [part for part in parts if part.rstrip("/") != folder]
    return {
        "path": library.path,
        "version": known(library.version),
        "folder": folder,
        "kept": ":".join(kept),
        "listed": len(kept) < len(parts),
        "package": known(library.package),
        "variable": variable_of,
    }
