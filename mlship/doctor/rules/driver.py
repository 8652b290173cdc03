"""Rules about the driver: its kernel module, whether that supports the GPU, and its libraries, also on WSL2."""

import re
from collections.abc import Iterator

from mlship.cuda.tables.lookup import tables
from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Dkms, PciDevice
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import (
    PRE_TURING,
    architecture,
    describe,
    excluded,
    gpus,
    kernel_driver,
    log_line,
    logged,
    needs_open_module,
    only_displays,
    packages_of_driver,
    places,
    variable,
)
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, same
from mlship.driver import codes

_REJECTED = r"Loading of module.*(is )?rejected|module verification failed.*nvidia|Key was rejected"
_PATH = "LD_LIBRARY_PATH"
_NOT_KNOWN = r"not supported by the .*driver release|supported through the NVIDIA [0-9]+\.xx Legacy"
_BLOCKS_NVIDIA = re.compile(r"(modprobe\.blacklist|module_blacklist|rd\.driver\.blacklist)=(.*,)?nvidia(,.*)?")
_LEGACY = re.compile(r"NVIDIA ([0-9]+)\.xx Legacy")
_FAMILY = re.compile(r"(?:PCI ID|\[)[: ]*10de:([0-9a-fA-F]{4})")


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
    packages = packages_of_driver(facts)
    return Evidence("host.packages.installed", ", ".join(packages)) if packages else None


def _built_for(line: Dkms) -> str:
    """The kernel of one line of `dkms status`, and the state if it is not installed."""
    kernel, state = known(line.kernel) or "no kernel", known(line.state)
    return kernel if state in {None, "installed"} else f"{kernel} ({state})"


@computes("secure-boot-unsigned-module")
def _rejection(facts: Facts) -> Values | None:
    module, enrolled = known(looked_up(facts.kernel.module_files, "nvidia")), known(facts.kernel.enrolled_signers)
    signer, shown = known(module.signer) if module else None, "kernel.module_files.nvidia.signer"
    if line := logged(facts, _REJECTED if signer else f"unsigned module is rejected|{_REJECTED}"):
        return {"shown": (line,), "named": signer if signer in (enrolled or ()) else None}
    if module is not None and is_absent(module.signer):
        return {"shown": (Evidence(shown, "not signed"),), "named": None}
    if signer is None or enrolled is None or signer in enrolled:
        return None
    listed = Evidence("kernel.enrolled_signers", ", ".join(enrolled) or "none")
    return {"shown": (Evidence(shown, signer), listed), "named": None}


@computes("nouveau-owns-gpu")
def _held(facts: Facts) -> Values | None:
    held = [gpu for gpu in gpus(facts) if known(gpu.driver) == "nouveau" and not only_displays(facts, gpu)]
    if not held:
        return None
    old = _last_branch(facts)
    return {
        "gpu": describe(held[0]),
        "addresses": tuple(str(known(gpu.address)) for gpu in held),
        "beside": len(held) < len(gpus(facts)),
        **_driver_for(facts, old),
        "last": old if old and int(branch(_version(facts) or "") or 0) > old else None,
        "legacy": commands.replace_driver(facts, old or 580, own=False),
    }


@computes("open-module-on-pre-turing")
def _before_turing(facts: Facts) -> Values | None:
    free = [gpu for gpu in gpus(facts) if known(gpu.driver) in {None, "nvidia"} and not only_displays(facts, gpu)]
    old = [gpu for gpu in free if architecture(gpu) in {"Maxwell", "Pascal", "Volta"}]  # R580 has no Kepler, either
    if not old and any(map(architecture, gpus(facts))):
        return None  # the kernel log means another card
    return {
        "old": tuple(f"{describe(gpu)}: {architecture(gpu)}" for gpu in old),
        "model": f"{describe(old[0])} is {architecture(old[0])}" if old else "a GPU here is older than Turing",
        "proprietary": commands.replace_driver(facts, 580, own=True),
    }


@computes("driver-not-installed")
def _never_installed(facts: Facts) -> Values:
    return {"found": tuple(map(describe, gpus(facts)[:4])), **_driver_for(facts, _last_branch(facts))}


@computes("driver-module-not-loaded")
def _lies_idle(facts: Facts) -> Values:
    listed = next(filter(_BLOCKS_NVIDIA.fullmatch, (known(facts.kernel.cmdline) or "").split()), None)
    unbound = not all(is_known(gpu.driver) for gpu in gpus(facts))
    return {"listed": listed, "removal": commands.remove_option(facts, listed or ""), "unbound": unbound}


def _stray(facts: Facts) -> Library | None:
    """A library of another version that hides the one that matches the module."""
    module, host = kernel_driver(facts), facts.host
    differs = known(host.cuda.init) in {803, 804}
    loaded = ((known(host.nvml.library), known(host.nvml.init) == 18), (known(host.cuda.library), differs))
    for library, fails in loaded:
        version = known(library.version) if library else None
        if not (fails and module and library and version) or same(version, module) or "/compat/" in library.path:
            continue
        name = library.path.rpartition("/")[2].partition(".so")[0]
        fitting = [one.path for one in each(host.loader.libraries) if same(known(one.version) or "x", module)]
        if any(path.rpartition("/")[2].startswith(name) for path in fitting) or _is_on_path(host, library):
            return library
    return None


def _is_on_path(place: Place, library: Library) -> bool:
    """LD_LIBRARY_PATH lists its folder, which is not one of the system's."""
    folder = library.path.rpartition("/")[0]
    own = folder.startswith(("/usr/lib", "/lib"))
    return not own and folder in [part.rstrip("/") for part in (known(variable(place, _PATH)) or "").split(":")]


@computes("api-mismatch-804-on-geforce-after-upgrade")
def _upgraded_libcuda(facts: Facts) -> Iterator[Values]:
    """Libcuda of the host: an image that brings its own is another failure."""
    for seen, place in places(facts):
        library = known(place.cuda.library)
        if library and known(place.cuda.init) == 804 and (seen == "host" or known(library.mounted) is not False):
            yield {"where": "host", "seen": seen, "code": codes.cuda(804), "library": library}


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
    foreign = tuple(Evidence(*one) for one in found if not re.search("/(wsl|stubs|compat)/", one[1]))
    return {"foreign": foreign, "taken": foreign[0].value if foreign else "its libraries"}


def _version(facts: Facts) -> str | None:
    """The version of the loaded module, or of the one that would be loaded."""
    file = known(looked_up(facts.kernel.module_files, "nvidia"))
    return kernel_driver(facts) or (known(file.version) if file else None)


def _branches(name: str | None) -> tuple[int | None, int | None]:
    """First and last driver branch of a generation; None if there is no bound or it is unknown."""
    rows = [row for row in tables().gpus.architectures if row.name == (name or "").removesuffix(" or older")]
    first = min((row.first_branch for row in rows if row.first_branch), default=None)
    return first, max((row.last_branch for row in rows if row.last_branch), default=None)


def _last_branch(facts: Facts) -> int | None:
    """That of the newest GPU here; None for the current branch. R580 also supports newer ones, by another module."""
    names = {(architecture(gpu) or "").removesuffix(" or newer") for gpu in gpus(facts)}
    lasts = {_branches(name)[1] for name in names}
    is_one = None not in lasts or (580 in lasts and needs_open_module().isdisjoint(names))
    return max(filter(None, lasts), default=None) if is_one else None


def _driver_for(facts: Facts, old: int | None) -> Values:
    """How to install the driver of this branch, and the GPUs that are too old for it."""
    left = [gpu for gpu in gpus(facts) if (_branches(architecture(gpu))[1] or 9999) < (old or 9999)]
    return {"old": old, "left_out": tuple(map(describe, left)), "install_driver": commands.install_driver(facts, old)}


def _unused(facts: Facts) -> tuple[PciDevice, ...]:
    """GPUs on the bus without a driver that NVML does not list, if it is known not to count all of them."""
    waiting = [gpu for gpu in gpus(facts) if known(gpu.driver) in {None, "nvidia"} and not only_displays(facts, gpu)]
    code, count = known(facts.host.nvml.init), known(facts.host.nvml.device_count)
    counts_all = code in {None, 12, 18} if count is None else count >= len(waiting) - excluded(facts)
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
                "open_packages": commands.install_open_driver(facts, max(bound, 580)),
                "legacy": commands.replace_driver(facts, bound, own=False),
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


@computes("open-module-required")
def _without_open_module(facts: Facts) -> Values:
    unused, version = _unused(facts), _version(facts)
    closed = [gpu for gpu in unused if architecture(gpu) in needs_open_module()]
    ours = int(branch(version or "") or 9999)
    return {
        "open_packages": commands.install_open_driver(facts, int(branch(version or "") or 580)),
        "gpu": describe((closed or unused)[0]) if unused else None,
        "closed": tuple(f"{describe(gpu)}: {architecture(gpu)}" for gpu in closed),
        "fits": version and all((_branches(architecture(gpu))[0] or 0) <= ours for gpu in closed),
    }
