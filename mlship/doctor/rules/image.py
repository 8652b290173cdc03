"""Rules about libraries in the image: those that hide the host's driver, and a loader that cannot load it."""

from collections.abc import Iterator

from mlship.cuda.versions import Driver
from mlship.doctor import advice
from mlship.doctor.conditions import Values
from mlship.doctor.container import environment
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.frameworks import profile
from mlship.doctor.queries import driver_cuda, kernel_driver, places
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, version_numbers


@computes("nvml-mismatch-only-inside-container")
def _own_drivers(facts: Facts) -> Iterator[Values]:
    """The library that fails; before any call was made, those on the image's disk, of which the loader picks one."""
    nvml, cuda = facts.container.nvml, facts.container.cuda
    fails = (
        ("container.nvml.library", known(nvml.library), known(nvml.init) == 18),
        ("container.cuda.library", known(cuda.library), known(cuda.init) in {803, 804}),
    )
    found = [(fact, library) for fact, library, differs in fails if differs and library]
    found = [(fact, library) for fact, library in found if known(library.mounted) is False]
    if known(nvml.init) is None and known(cuda.init) is None:
        found += [("image.driver_libraries", library) for library in each(facts.image.driver_libraries)]
    for fact, library in found:
        yield {"fact": fact, "library": library, "package": known(library.package)}


@computes("compat-on-geforce-804")
def _same_major(facts: Facts) -> Values:
    """Within one CUDA major version the host's own libcuda usually suffices: minor-version compatibility."""
    image = known(facts.image.cuda_version) or environment(facts).get("CUDA_VERSION") or ""
    major = version_numbers(image)[:1]
    return {"same_major": bool(major) and major == version_numbers(driver_cuda(facts) or "")[:1]}


@computes("compat-not-for-this-driver")
def _listed_branches(facts: Facts) -> Iterator[Values]:
    """The driver branches that the library's own note lists, and whether a newer driver supports the GPUs."""
    for where, place in places(facts):
        library = known(place.cuda.library)
        version = (known(library.version) if library else None) or ""
        folders = (known(one.driver_branches) for one in each(place.loader.compat) if known(one.version) == version)
        listed = next((branches for branches in folders if branches), ())
        host, wanted = profile(facts, place), Driver.parse(version)
        yield {
            "where": where,
            "listed": tuple(f"R{one}" for one in listed),
            "supported": branch(kernel_driver(facts) or "") in listed,
            "too_new": bool(host and wanted and not advice.drives(host, wanted)),
        }


@computes("alpine-musl-no-driver-libs")
def _musl(facts: Facts) -> Iterator[Values]:
    mounted = tuple(library.path for library in each(facts.container.loader.libraries) if known(library.mounted))
    for seen, libc in (("container", facts.container.libc), ("image", facts.image.libc)):
        bare = known(libc.musl_loader) is not None and is_absent(libc.glibc_loader)
        if (known(libc.family) == "musl" or bare) and not known(libc.glibc_loader):
            yield {"seen": seen, "loader": known(libc.musl_loader) or "musl", "mounted": mounted[:1]}
