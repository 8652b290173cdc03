"""Rules about driver libraries that do not match the loaded module."""

from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import is_compat, kernel_driver, places, variable
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import same
from mlship.driver import codes

_PATH = "LD_LIBRARY_PATH"


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
