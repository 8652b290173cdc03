"""Which pins are installed together, and in which layer. Pure.

Layers follow the rate of change: large packages that rarely move are apart from small ones that often do. The same pins
always give the same layers, and a pin that moves changes one of them.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from mlship.frameworks import is_cuda_library, is_gpu_only, runtime_group
from mlship.lock.pins import Pin

LockGroup: TypeAlias = Literal["cuda", "framework", "heavy", "light", "compiled"]

GROUPS: tuple[LockGroup, ...] = get_args(LockGroup)
# Bytes of a wheel: from here on, it has a layer of its own, and installing it again costs more than a step of its own.
# For smaller ones, a layer costs more at every build than it saves at an update.
HEAVY = 5_000_000
SMALL = 100_000  # bytes of a wheel: such packages have buckets of their own, so that updating one pushes little
SMALL_BUCKETS = 3
MEDIUM_BUCKETS = 2
MOST_OWN_LAYERS = 64  # an image can have 127, and every pull looks up each of them


@dataclass(frozen=True)
class PackageLayer:
    """One layer of packages, which are pulled together.

    Attributes:
        name: the only package in it, or a bucket such as `bucket-3`.
        packages: canonical names, sorted.
    """

    group: LockGroup
    name: str
    packages: tuple[str, ...]

    @property
    def is_shared(self) -> bool:
        """Whether it is a bucket of small packages."""
        return self.name.startswith("bucket-")


def package_layers(
    pins: Iterable[Pin], sizes: Mapping[str, int], compiled: Iterable[str] = ()
) -> tuple[PackageLayer, ...]:
    """The layers of a lock, lowest first, with every pin in exactly one.

    Args:
        sizes: bytes of the wheels by package; an unknown size is absent.
        compiled: packages that the build compiles; they form a group of their own.
    """
    apart = frozenset(compiled)
    groups = {pin.name: "compiled" if pin.name in apart else group_of(pin.name, sizes.get(pin.name)) for pin in pins}
    own = _with_own_layer(groups, sizes)
    shared: dict[tuple[LockGroup, str], list[str]] = {}
    for name in sorted(groups):
        layer = name if name in own else f"bucket-{bucket_of(name, sizes.get(name))}"
        shared.setdefault((groups[name], layer), []).append(name)
    layers = (PackageLayer(group, name, tuple(packages)) for (group, name), packages in shared.items())
    return tuple(sorted(layers, key=_height))


def _height(layer: PackageLayer) -> tuple[int, bool, bool, str]:
    # Shared layers are on top of their group: they change most often. The small ones come last, because a host unpacks
    # again every layer above a change.
    small = layer.is_shared and layer.name < f"bucket-{SMALL_BUCKETS}"
    return GROUPS.index(layer.group), layer.is_shared, small, layer.name


def group_of(name: str, size: int | None) -> LockGroup:
    """The group of a package: by its canonical name, otherwise by the size of its wheel in bytes."""
    return runtime_group(name) or ("heavy" if size is not None and size >= HEAVY else "light")


def brings_cuda(pins: Iterable[Pin]) -> bool:
    """Whether a pin looks like CUDA or a build for it. A quick look at names; `mlship.cuda` knows more."""
    return any(is_cuda_library(pin.name) or is_gpu_only(pin.name) or "+cu" in pin.version for pin in pins)


def bucket_of(name: str, size: int | None) -> int:
    """The shared layer of a package; it does not depend on what else is locked.

    Args:
        size: bytes of its wheel; an unknown size counts as small.
    """
    hash_ = hashlib.sha256(name.encode()).digest()[0]
    return hash_ % SMALL_BUCKETS if (size or 0) < SMALL else SMALL_BUCKETS + hash_ % MEDIUM_BUCKETS


def requirements_of(pins: Iterable[Pin], names: Iterable[str]) -> str:
    """The lock lines of some packages, in pip's format."""
    wanted = frozenset(names)
    return "".join(_line(pin) for pin in pins if pin.name in wanted)


def _with_own_layer(groups: Mapping[str, LockGroup], sizes: Mapping[str, int]) -> frozenset[str]:
    """The largest packages, and those of CUDA and the frameworks whose size is unknown."""
    assumed = {name: sizes.get(name, 0 if group == "light" else HEAVY) for name, group in groups.items()}
    large = [name for name, size in assumed.items() if size >= HEAVY]
    return frozenset(sorted(large, key=lambda name: (-assumed[name], name))[:MOST_OWN_LAYERS])


def _line(pin: Pin) -> str:
    what = f"{pin.name} @ {pin.url}" if pin.url else f"{pin.name}=={pin.version}"
    marker = f" ; {pin.marker}" if pin.marker else ""
    return "".join([what, marker, *(f" \\\n    --hash={hash_}" for hash_ in pin.hashes), "\n"])
