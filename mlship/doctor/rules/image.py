"""Rules about the image: its tag, what it requires of the driver, and the libraries in it that hide the host's."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlship.cuda.fit.judge import offered_by
from mlship.cuda.tables.lookup import architecture_of, offer_of, tables, toolkit_of
from mlship.cuda.tables.rows import FLAVOURS, NvidiaImage
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.doctor import advice
from mlship.doctor.conditions import Values
from mlship.doctor.container import CDI, environment, host_driver, injection
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence
from mlship.doctor.frameworks import as_cuda, profile
from mlship.doctor.nvidia_require import Offer, Requirement, holds, parse_require, requirements
from mlship.doctor.queries import driver_cuda, is_tegra, kernel_driver, line_of, places
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, version_numbers
from mlship.driver import codes

_NOT_FOUND = 404
_NAME = re.compile(r"(?:^|[\s/'\"])nvidia/(?P<image>cuda[\w-]*):(?P<tag>[\w.-]+)")
_MISSING = re.compile(r"cuda[\w-]*:[\w.-]+\W{0,3}not found|manifest unknown|no such manifest", re.IGNORECASE)
_DISTRO = re.compile(r"(ubuntu|debian|alpine|fedora|arch)[-a-z]*(\d+(?:\.\d+)?)?|(bookworm|bullseye|trixie|buster)")
_FLAVOUR = re.compile(r"(?:cudnn\d*-)?(?:runtime|devel)|base")
_NEVER = frozenset({"debian", "alpine", "fedora", "arch", "bookworm", "bullseye", "trixie", "buster"})
_SINCE = "20.04"  # images for older Ubuntu releases are no longer listed
_SAID_UNSATISFIED = r"unsatisfied condition"
_SAID_TOO_OLD = r"driver version is insufficient|NVIDIA driver on your system is too old"


@dataclass(frozen=True)
class _Tag:
    """A tag of nvidia/cuda that does not exist.

    Attributes:
        cuda: None for "latest" and other names without a version.
        distro: such as "ubuntu20.04"; empty if the tag names none.
        seen: the answer of the registry, or of an engine that asked it.
    """

    image: str
    tag: str
    cuda: Cuda | None
    distro: str
    flavour: str
    seen: str


def _missing(facts: Facts) -> _Tag | None:
    """The tag that was not found, by the registry's answer or an engine's message."""
    names = (known(facts.image.base), known(facts.image.reference))
    said = [("404", name) for name in names if name and known(facts.image.registry_status) == _NOT_FOUND]
    said += [(line.strip(), line) for line in each(facts.messages) if _MISSING.search(line)]
    seen, found = next(((seen, found) for seen, text in said if (found := _NAME.search(text))), ("", None))
    if found is None:
        return None
    tag = found["tag"].rstrip(".-")
    distro, flavour = _DISTRO.search(tag), _FLAVOUR.search(tag)
    return _Tag(
        image=found["image"],
        tag=tag,
        cuda=as_cuda(tag) if tag[:1].isdigit() else None,
        distro=distro[0] if distro else "",
        flavour=flavour[0] if flavour else "base",
        seen=seen,
    )


def _never_was(tag: _Tag) -> bool:
    """NVIDIA publishes no image for that distribution, or not with that CUDA version."""
    family = _DISTRO.fullmatch(tag.distro)
    if tag.image != "cuda" or family is None:
        return False
    if (family[1] or family[3]) in _NEVER:
        return True
    there = {image.distro for image in tables().images if image.cuda == tag.cuda}
    return bool(there) and tag.distro not in there and (family[2] or "") >= _SINCE


def _instead(facts: Facts, tag: _Tag) -> NvidiaImage | None:
    """The tag to use: the same CUDA, else a newer minor version, else the newest that this driver supports."""
    flavour = tag.flavour if tag.flavour in FLAVOURS else "cudnn-runtime" if "cudnn" in tag.flavour else "runtime"
    kept = [image for image in tables().images if not image.gone and flavour in image.flavours]
    host = profile(facts, facts.host)
    offered = offered_by(host) if host else None
    cuda = tag.cuda
    same = [image for image in kept if image.cuda == cuda]
    major = [image for image in kept if cuda and image.cuda.major == cuda.major and image.cuda > cuda]
    runs = [image for image in reversed(kept) if offered is None or image.cuda <= offered]
    fitting = next(filter(None, (same, major, runs)), None)
    return min(fitting, key=lambda one: (one.distro != tag.distro, one.distro != "ubuntu22.04")) if fitting else None


def _named(facts: Facts, tag: _Tag) -> Values:
    image, use = _instead(facts, tag), None
    if image:
        flavour = re.sub(r"cudnn\d*", "cudnn", tag.flavour)
        use = f"{image.version}-base-{image.distro}" if flavour == "base" else image.tag(flavour)
    return {"image_name": tag.image, "tag": tag.tag, "line": tag.seen if tag.seen != "404" else None, "use": use}


@computes("nvidia-image-tag-deleted")
def _deleted(facts: Facts) -> Values | None:
    tag = _missing(facts)
    if tag is None:
        return None
    certain = tag.seen == "404" or _confirmed(tag)
    return {**_named(facts, tag), "version": tag.cuda, "certain": certain}


def _confirmed(tag: _Tag) -> bool:
    """The tables confirm it: no version, a CUDA older than any that is kept, or a replaced point release."""
    kept = [image for image in tables().images if not image.gone]
    version = re.match(r"\d+\.\d+\.\d+", tag.tag)
    replaced = version is None or version[0] not in {image.version for image in kept}
    return tag.cuda is None or tag.cuda < min(image.cuda for image in kept) or replaced


@computes("ubuntu2004-cuda13-image-missing")
def _never_published(facts: Facts) -> Values | None:
    tag = _missing(facts)
    if tag is None or not _never_was(tag):
        return None
    there = tuple(sorted({image.distro for image in tables().images if image.cuda == tag.cuda}))
    return {**_named(facts, tag), "distro": tag.distro, "there": there}


@dataclass(frozen=True)
class _Unmet:
    """A requirement that this host does not meet."""

    requirement: Requirement
    driver: str
    cuda: Cuda | None


def _offers(facts: Facts, driver: str) -> tuple[Offer, ...]:
    """What the host offers with each GPU, since all must fit; one unknown GPU if none was examined."""
    version = Driver.parse(driver)
    answer = offer_of(version) if version else None
    cuda, loose = (answer.cuda, answer.at_least) if answer else (None, False)
    seen = {(known(gpu.compute_capability), known(gpu.brand)) for gpu in each(facts.host.nvml.devices)}
    return tuple(Offer(cuda, loose, driver, arch, brand) for arch, brand in seen or {(None, None)})


def _unmet(facts: Facts) -> _Unmet | None:
    """The first requirement of the image that certainly fails."""
    driver = host_driver(facts)
    if driver is None or is_tegra(facts):
        return None
    offers = _offers(facts, driver)
    for text in requirements(environment(facts)):
        try:
            requirement = parse_require(text)
        except ValueError:
            continue
        if any(holds(requirement, offer) is False for offer in offers):
            return _Unmet(requirement, driver, offers[0].cuda)
    return None


def _evidence(facts: Facts, unmet: _Unmet) -> tuple[Evidence, ...]:
    brands = sorted({known(gpu.brand) or "" for gpu in each(facts.host.nvml.devices)} - {""})
    place = "container" if known(facts.container.env) else "image"
    offers = f" (CUDA {unmet.cuda})" if unmet.cuda else ""
    return (
        Evidence(f"{place}.env", f"requires: {unmet.requirement}"),
        Evidence("kernel.nvidia.version", f"{unmet.driver}{offers}"),
        *(Evidence("host.nvml.devices", f"brand {brand}") for brand in brands),
    )


def _newest_branch(facts: Facts) -> int | None:
    """The newest driver branch that still supports every GPU of the host; None if no branch is too new."""
    capabilities = {known(gpu.compute_capability) or "" for gpu in each(facts.host.nvml.devices)}
    kinds = (architecture_of(Capability.parse(one)) for one in capabilities if re.fullmatch(r"[0-9]{1,2}\.[0-9]", one))
    return min((kind.last_branch for kind in kinds if kind and kind.last_branch), default=None)


def _shown(facts: Facts, unmet: _Unmet | None) -> Values:
    """What is not met, for the texts of both rules; a newer driver helps only if one supports this GPU."""
    if unmet is None:
        return {"unmet": None, "driver": host_driver(facts), **dict.fromkeys(("minor", "allow", "last", "update"))}
    wanted, has, newest = unmet.requirement.cuda, unmet.cuda, _newest_branch(facts)
    toolkit = toolkit_of(str(wanted)) if wanted else None
    floor, allow = toolkit.driver if toolkit else None, wanted is None or bool(has and has >= wanted)
    last = newest if not allow and newest and floor and floor.branch > newest else None
    return {
        "unmet": str(unmet.requirement),
        "first": str(unmet.requirement.alternatives[0][0]),
        "driver": unmet.driver,
        "supports": f"CUDA {has}" if has else "less",
        "minor": bool(wanted and has and wanted.major == has.major),  # most programs run anyway
        "shown": _evidence(facts, unmet),
        "allow": allow,
        "last": last,
        "update": not (allow or last),
        "has": str(has) if has else None,
        "wanted": str(wanted),
        "floor": str(floor) if floor else None,
    }


@computes("require-cuda-unsatisfied")
def _unsatisfied(facts: Facts) -> Values:
    line, unmet = line_of(facts, _SAID_UNSATISFIED), _unmet(facts)
    said, driver = line.value.partition("unsatisfied condition:")[2] if line else "", host_driver(facts)
    said = said.strip().partition(" ")[0].strip(",.: ")
    return {
        **_shown(facts, unmet),
        "line": line,
        "said": said or "another driver",
        "named": said or "the requirement",
        "fits": driver is not None and _fits_by_now(facts, said, driver),
    }


def _fits_by_now(facts: Facts, text: str, driver: str) -> bool:
    try:
        requirement = parse_require(text)
    except ValueError:
        return False
    return all(holds(requirement, offer) for offer in _offers(facts, driver))


@computes("require-not-enforced-cdi")
def _not_enforced(facts: Facts) -> Values | None:
    unmet, how = _unmet(facts), injection(facts)
    if unmet is None or how not in CDI or line_of(facts, _SAID_UNSATISFIED):
        return None
    return {**_shown(facts, unmet), "how": how, "failed": _failure(facts, unmet)}


def _failure(facts: Facts, unmet: _Unmet) -> Evidence | None:
    box = facts.container
    if known(box.cuda.runtime_code) == 35:
        return Evidence("container.cuda.runtime_code", codes.cuda(35))
    for torch in (known(python.torch) for python in each(box.pythons)):
        built = version_numbers(known(torch.cuda) or "") if torch else ()
        if torch and known(torch.is_available) is False and unmet.cuda and built[:1] > (unmet.cuda.major,):
            return Evidence("container.pythons", f"torch for CUDA {known(torch.cuda)} sees no GPU")
    return line_of(facts, _SAID_TOO_OLD)


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
