"""Rules about the base image's name: nvidia/cuda tags that were deleted or never existed."""

import re
from dataclasses import dataclass

from mlship.cuda.fit.judge import offered_by
from mlship.cuda.tables.lookup import tables
from mlship.cuda.tables.rows import FLAVOURS, NvidiaImage
from mlship.cuda.versions import Cuda
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Step
from mlship.doctor.frameworks import as_cuda, profile
from mlship.doctor.rules.base import computes

_NOT_FOUND = 404
_NAME = re.compile(r"(?:^|[\s/'\"])nvidia/(?P<image>cuda[\w-]*):(?P<tag>[\w.-]+)")
_MISSING = re.compile(r"cuda[\w-]*:[\w.-]+\W{0,3}not found|manifest unknown|no such manifest", re.IGNORECASE)
_DISTRO = re.compile(r"(ubuntu|debian|alpine|fedora|arch)[-a-z]*(\d+(?:\.\d+)?)?|(bookworm|bullseye|trixie|buster)")
_FLAVOUR = re.compile(r"(?:cudnn\d*-)?(?:runtime|devel)|base")
_NEVER = frozenset({"debian", "alpine", "fedora", "arch", "bookworm", "bullseye", "trixie", "buster"})
_ON_DEBIAN = Step(
    "Or stay on Debian, with CUDA from nvidia-* wheels, and request the GPU in the Dockerfile:",
    ("ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility",),
    instead=True,
)
_SINCE = "20.04"  # images for older Ubuntu releases are no longer listed


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
    if known(facts.image.registry_status) == _NOT_FOUND:
        for name in (known(facts.image.base), known(facts.image.reference)):
            if name and (found := _NAME.search(name)):
                return _tag(found, "404")
    for line in each(facts.messages):
        found = _NAME.search(line)
        if found and _MISSING.search(line):
            return _tag(found, line.strip())
    return None


def _tag(found: re.Match[str], seen: str) -> _Tag:
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
    for fitting in (same, major, runs):
        on = [image for image in fitting if image.distro == tag.distro] or [
            image for image in fitting if image.distro == "ubuntu22.04"
        ]
        if on or fitting:
            return (on or fitting)[0]
    return None


def _fix(facts: Facts, tag: _Tag) -> tuple[Step, ...]:
    image = _instead(facts, tag)
    pin = Step("To keep it available, copy the image to your own registry and pin it by digest.")
    if image is None:
        return (Step("Use a tag that NVIDIA still publishes: https://hub.docker.com/r/nvidia/cuda/tags"), pin)
    flavour = "base" if tag.flavour == "base" else re.sub(r"cudnn\d*", "cudnn", tag.flavour)
    name = f"{image.version}-base-{image.distro}" if flavour == "base" else image.tag(flavour)
    return (Step("In the Dockerfile, use a release that exists:", (f"FROM nvidia/cuda:{name}",)), pin)


def _shown(tag: _Tag) -> Values:
    return {"image_name": tag.image, "tag": tag.tag, "line": tag.seen if tag.seen != "404" else None}


@computes("nvidia-image-tag-deleted")
def _deleted(facts: Facts) -> Values | None:
    tag = _missing(facts)
    if tag is None:
        return None
    certain = tag.seen == "404" or _confirmed(tag)
    return {**_shown(tag), "version": tag.cuda, "certain": certain, "fix": _fix(facts, tag)}


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
    return {**_shown(tag), "distro": tag.distro, "there": there, "fix": (*_fix(facts, tag), _ON_DEBIAN)}
