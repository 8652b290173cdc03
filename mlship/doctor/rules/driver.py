"""Rules about drivers that do not fit: libraries and the loaded module, the GPU, or Linux on WSL2."""

import re
from collections.abc import Iterator

from mlship.cuda.tables.lookup import tables
from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import PciDevice
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import (
    PRE_TURING,
    architecture,
    describe,
    gpus,
    is_compat,
    is_ubuntu,
    kernel_driver,
    log_line,
    places,
    variable,
)
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, same
from mlship.driver import codes

_PATH = "LD_LIBRARY_PATH"
_DRIVER_PACKAGES = (
    *("libnvidia-compute", "nvidia-utils", "nvidia-driver", "nvidia-dkms", "nvidia-kernel", "cuda-drivers"),
    *("libcuda1", "libnvidia-ml1", "kmod-nvidia", "nvidia-compute-utils"),
)
_NOT_KNOWN = r"not supported by the .*driver release|supported through the NVIDIA [0-9]+\.xx Legacy"
_LEGACY = re.compile(r"NVIDIA ([0-9]+)\.xx Legacy")
_LEGACY_PACKAGES = {"apt": "nvidia-driver-{0}", "pacman": "nvidia-{0}xx-dkms nvidia-{0}xx-utils"}
_FAMILY = re.compile(r"(?:PCI ID|\[)[: ]*10de:([0-9a-fA-F]{4})")


def _upgrades(facts: Facts) -> tuple[Evidence, ...]:
    """The driver's packages that changed after boot."""
    boot = known(facts.kernel.boot_time)
    changes = [
        f"{known(change.at)} {known(change.package)} {known(change.old)} -> {known(change.new)}"
        for change in each(facts.host.packages.history)
        if boot and (known(change.at) or "") > boot and "nvidia" in (known(change.package) or "")
    ]
    return tuple(Evidence("host.packages.history", line) for line in changes[-2:])


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


@computes("nvml-lib-kmod-mismatch-after-upgrade")
def _changed_packages(facts: Facts) -> Values:
    return {"upgrades": _upgrades(facts)}


@computes("api-mismatch-804-on-geforce-after-upgrade")
def _upgraded_libcuda(facts: Facts) -> Iterator[Values]:
    """Libcuda of the host: an image that brings its own is another failure."""
    for seen, place in places(facts):
        library = known(place.cuda.library)
        if library and known(place.cuda.init) == 804 and (seen == "host" or known(library.mounted) is not False):
            code = codes.cuda(804)
            yield {"where": "host", "seen": seen, "code": code, "library": library, "upgrades": _upgrades(facts)}


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


@computes("wsl-linux-driver-installed")
def _linux_driver(facts: Facts) -> Values:
    """Driver libraries that the loader picks from elsewhere; compat and stub folders are other failures."""
    libraries = (("host.cuda.library", facts.host.cuda.library), ("host.nvml.library", facts.host.nvml.library))
    found = [(fact, library.path) for fact, one in libraries if (library := known(one))]
    cached = (known(facts.host.loader.cache) or {}).get("libcuda.so.1") or ()
    found += [("host.loader.cache", path) for path in cached[:1]]
    foreign = tuple(
        Evidence(fact, path)
        for fact, path in found
        if "/wsl/" not in path and "/stubs/" not in path and not is_compat(path)
    )
    installed = known(facts.host.packages.installed)
    packages = tuple(sorted(name for name in installed or {} if name.startswith(_DRIVER_PACKAGES)))
    return {
        "foreign": foreign,
        "taken": foreign[0].value if foreign else "its libraries",
        "packages": packages,
        "by_hand": installed is not None and not packages,
    }


def _version(facts: Facts) -> str | None:
    """The version of the loaded module, or of the one that would be loaded."""
    file = known(looked_up(facts.kernel.module_files, "nvidia"))
    return kernel_driver(facts) or (known(file.version) if file else None)


def _branches(name: str | None) -> tuple[int | None, int | None]:
    """First and last driver branch of a generation; None if there is no bound or it is unknown."""
    rows = [row for row in tables().gpus.architectures if row.name == (name or "").removesuffix(" or older")]
    first = min((row.first_branch for row in rows if row.first_branch), default=None)
    return first, max((row.last_branch for row in rows if row.last_branch), default=None)


def _unused(facts: Facts) -> tuple[PciDevice, ...]:
    """GPUs on the bus without a driver that NVML does not list, if it is known not to count all of them."""
    waiting = tuple(gpu for gpu in gpus(facts) if known(gpu.driver) in {None, "nvidia"})
    code, count = known(facts.host.nvml.init), known(facts.host.nvml.device_count)
    counts_all = code in {None, 12, 18} if count is None else count >= len(waiting)
    counts_all = counts_all and not (count is None and any(gpu.driver is None for gpu in waiting))
    return () if counts_all else tuple(gpu for gpu in waiting if not _lists(facts, gpu))


def _lists(facts: Facts, gpu: PciDevice) -> bool:
    address = (known(gpu.address) or "?").lower()
    return any((known(one.pci_bus_id) or "").lower().endswith(address[-10:]) for one in each(facts.host.nvml.devices))


@computes("driver-does-not-drive-gpu")
def _of_another_branch(facts: Facts) -> Iterator[Values]:
    version = _version(facts)
    ours = int(branch(version or "") or 0)
    for gpu in _unused(facts) if version else ():
        first, last = _range(gpu, log_line(facts, _NOT_KNOWN))
        too_old = bool(first and ours < first)
        if too_old or (last and ours > last):
            bound = (first if too_old else last) or 0
            yield {
                "open_packages": _open_packages(facts, max(bound, 580)),
                "legacy": _LEGACY_PACKAGES.get(commands.manager(facts) or "", "cuda-drivers-{0}").format(bound),
                "gpu": describe(gpu),
                "generation": architecture(gpu),
                "bound": bound,
                "too_old": too_old,
                "version": version,
            }


def _range(gpu: PciDevice, line: str | None) -> tuple[int | None, int | None]:
    """By the generation; what the module logs about this GPU takes precedence."""
    named, legacy = _FAMILY.search(line or ""), _LEGACY.search(line or "")
    device = (known(gpu.device) or "").lower()
    # The log wraps: another line often names the GPU.
    fits = named.group(1).lower() == device if named else architecture(gpu) in {None, *PRE_TURING}
    return (None, int(legacy.group(1))) if legacy and fits else _branches(architecture(gpu))


def _open_packages(facts: Facts, bound: int) -> str:
    """Install the open kernel module from this distribution's packages."""
    of_apt = f"nvidia-driver-{bound}-open" if is_ubuntu(facts) else "nvidia-open"
    packages = {"apt": of_apt, "pacman": "nvidia-open-dkms nvidia-utils"}
    return commands.install_command(facts, packages.get(commands.manager(facts) or "", "nvidia-open"))


@computes("open-module-required")
def _without_open_module(facts: Facts) -> Values:
    unused, version = _unused(facts), _version(facts)
    required = {row.name for row in tables().gpus.architectures if row.open_modules == "required"}
    closed = [gpu for gpu in unused if architecture(gpu) in required]
    ours = int(branch(version or "") or 9999)
    return {
        "open_packages": _open_packages(facts, int(branch(version or "") or 580)),
        "gpu": describe((closed or unused)[0]) if unused else None,
        "closed": tuple(f"{describe(gpu)}: {architecture(gpu)}" for gpu in closed),
        "fits": version and all((_branches(architecture(gpu))[0] or 0) <= ours for gpu in closed),
    }
