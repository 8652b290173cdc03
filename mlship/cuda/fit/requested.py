"""What pip installs for a list of requirements that names no dependencies, as far as the tables know. Pure.

Only on x86-64: there the tables know what PyPI's wheels require. A list with an index of its own is left as it is, but
for PyTorch's, whose last folder is the build.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from packaging.version import Version

from mlship.cuda.fit.carriers import carries_cuda, local_version, variant_cuda
from mlship.cuda.tables.lookup import library_pin, release_of, tables, wheel_index
from mlship.cuda.tables.rows import Release
from mlship.frameworks import framework_table
from mlship.lock.foreign import ForeignLock
from mlship.lock.pins import Pin

INCLUDES = ("-r", "--requirement")
_NAME = re.compile(r"\w[\w.-]*(?<!\.whl|\.zip)(?<!\.tar\.gz)")  # else an address or a path


def completed(lock: ForeignLock, platform: str) -> tuple[Pin, ...]:
    """The pins, with the torch that they require and the CUDA libraries that wheels bring; as they are for a lock."""
    if is_whole(lock):
        return lock.pins
    if platform != "linux/amd64":  # what extras bring does not depend on the processor
        return (*lock.pins, *_brought([pin for pin in lock.pins if pin.extras]))
    others = [place.rstrip("/") for place in lock.places if "//pypi.org/" not in place]
    folders = {place.rpartition("/")[2] if "pytorch" in place else place for place in others}
    build = folders.pop() if len(folders) == 1 else ""
    indexed = build == "cpu" or variant_cuda(build) is not None
    if (folders or build) and not indexed:
        return lock.pins
    names = {entry.partition(" ")[0] for entry in lock.loose} | {pin.name for pin in lock.pins}
    pins = [*lock.pins, *(_torch(lock.pins) if "torch" not in names else ())]
    if indexed:
        ours = wheel_index().packages
        pins = [
            replace(p, version=f"{p.version}+{build}") if p.name in ours and not local_version(p) else p for p in pins
        ]
    return (*pins, *(pin for pin in _brought(pins) if pin.name not in names))


def is_whole(lock: ForeignLock) -> bool:
    """Whether the file lists what its packages require; torch requires CUDA's runtime, beside what a person adds."""
    libraries = {found.library.name for pin in lock.pins if (found := library_pin(pin.name, pin.version))}
    needed = {"nvidia-cuda-runtime"} if any(pin.name == "torch" for pin in lock.pins) else libraries
    return lock.whole or bool(libraries & needed)


def left_out(lock: ForeignLock, pins: tuple[Pin, ...]) -> Iterator[tuple[str, str]]:
    """What a list installs beyond its pins that may contain CUDA code: packages, and why."""
    if is_whole(lock):
        return
    loose = {entry.partition(" ")[0]: entry for entry in lock.loose}
    names = {*loose, *(pin.name for pin in pins)}
    for row in framework_table().frameworks:
        if row.name not in names and (by := sorted(names & row.required_by)):
            yield row.name, f"`{by[0]}` may bring {row.name}, which the file does not list"
    for name, extra in ((pin.name, extra) for pin in lock.pins for extra in pin.extras):
        if name not in tables().packages.by_package and carries_cuda(Pin(f"{name}-{extra}", "0", ())):
            yield name, f"what `{name}[{extra}]` brings is unknown"
    for entry in loose.values():
        if not is_name(entry.partition(" ")[0]) and not entry.startswith(INCLUDES):
            yield entry, f"what `{entry}` installs is unknown"


def is_name(text: str) -> bool:
    """Whether it is the name of a package, and no address or path."""
    return _NAME.fullmatch(text) is not None


def _brought(pins: list[Pin]) -> tuple[Pin, ...]:
    brought = sorted((pin for package in pins for pin in _libraries(package)), key=lambda pin: Version(pin.version))
    return tuple({pin.name: pin for pin in brought}.values())  # the newest of each


def is_open(pin: Pin, lock: ForeignLock, pins: tuple[Pin, ...]) -> bool:
    """Whether nothing says which build of torch is meant.

    On macOS and Windows torch requires no CUDA libraries, so what `pip freeze` lists there is no CPU build on Linux.
    """
    if pin.name != "torch" or lock.whole or local_version(pin):
        return False
    return not any(library_pin(other.name, other.version) for other in pins)


def _torch(pins: tuple[Pin, ...]) -> Iterator[Pin]:
    """The torch that a package requires exactly, built for the same CUDA: vllm's +cu129 is not for PyPI's torch."""
    found = ((release_of(pin.name, pin.version), local_version(pin)) for pin in pins)
    builds = {(release.torch, local) for release, local in found if isinstance(release, Release) and release.torch}
    if len(builds) == 1:
        torch, local = builds.pop()
        yield Pin("torch", f"{torch}+{local}" if variant_cuda(local) else torch, ())


def _libraries(pin: Pin) -> Iterator[Pin]:
    """CUDA's libraries that a package's wheel contains or requires; where any minor version fits, only the major."""
    release, local = release_of(pin.name, pin.version), local_version(pin)
    if not isinstance(release, Release) or release.follows:
        return
    asked = next((one for one in release.variants if {*one.extras} & {*pin.extras}), release.variant())
    variant = release.variant(local) if local else asked
    if not (variant and variant.cuda and (variant.libraries == "wheels" or {*variant.extras} & {*pin.extras})):
        return
    cuda, suffix = variant.cuda, f"-cu{variant.cuda.major}" if variant.cuda.major < 13 else ""
    yield Pin(f"nvidia-cublas{suffix}", f"{cuda.major}.0", ())
    if cudnn := variant.cudnn or (release.variant() or variant).cudnn:
        yield Pin(f"nvidia-cudnn-cu{cuda.major}", f"{cudnn}.0", ())
    if pin.name == "torch":
        yield Pin(f"nvidia-cuda-runtime{suffix}", f"{cuda}.0", ())
