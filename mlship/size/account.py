"""Account for every byte of an image: each belongs to one part or is hidden. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from mlship.size.content import File
from mlship.size.groups import Sorter, base_layers, sort_of
from mlship.size.layers import visible
from mlship.size.layout import SavedImage, SavedLayer
from mlship.size.owners import Distribution, Owners
from mlship.size.report import BaseLayers, LayerSize, Part, SizeGroup, SizeReport, Sort, Totals, known_sum
from mlship.size.waste import Placed, wasted

_NAME = "org.opencontainers.image.base.name"
_DIGEST = "org.opencontainers.image.base.digest"


@dataclass
class _Sum:
    files: int = 0
    sorts: Counter[Sort] = field(default_factory=Counter)
    groups: Counter[SizeGroup] = field(default_factory=Counter)

    def add(self, placed: Placed) -> None:
        self.files += 1
        self.sorts[sort_of(placed.path, placed.file)] += placed.file.size
        self.groups[placed.group] += placed.file.size


def account(image: SavedImage[File], name: str, image_id: str) -> SizeReport:
    """Build the size report.

    Args:
        name: image name from the command line.
        image_id: image ID in the engine.
    """
    seen = visible([layer.content for layer in image.layers])
    base = _base(image)
    placed = list(_placed(image, seen, base.layers))
    return SizeReport(
        image=name,
        id=image_id,
        platform=image.config.platform,
        totals=_totals(image, seen),
        base=base,
        layers=tuple(_layer(layer, seen[n], n, base.layers) for n, layer in enumerate(image.layers)),
        parts=_parts(placed),
        waste=wasted(placed, _hidden(image, seen), base.layers or 0),
        unknown=tuple(_unknown(image, base)),
    )


def _placed(image: SavedImage[File], seen: list[set[str]], base: int | None) -> Iterator[Placed]:
    """Yield every visible file with its owner and group, in an order independent of the tar."""
    rows = (
        (path, layer.content.files[path]) for layer, paths in zip(image.layers, seen, strict=True) for path in paths
    )
    owners = Owners({path: file.listed for path, file in rows if file.listed is not None})
    sorter = Sorter(image, base)
    for number, layer in enumerate(image.layers):
        for path in sorted(seen[number]):
            yield _place(path, layer.content.files[path], number, owners, sorter)


def _place(path: str, file: File, layer: int, owners: Owners, sorter: Sorter) -> Placed:
    owner = owners.of(path)
    if owner is not None:
        return Placed(path, file, layer, owner, sorter.package(owner, layer), owner.name)
    group, part = sorter.other(path, file.size, layer)
    return Placed(path, file, layer, None, group, part)


def _parts(placed: list[Placed]) -> tuple[Part, ...]:
    """Return the parts, largest first. A distribution in several groups counts in its largest group."""
    sums: dict[Distribution | tuple[SizeGroup, str], _Sum] = {}
    for each in placed:
        key = each.owner or (each.group, each.part)
        sums.setdefault(key, _Sum()).add(each)
    parts = [_part(key, found) for key, found in sums.items()]
    return tuple(sorted(parts, key=lambda part: (-part.bytes, part.group, part.name, part.version or "", part.files)))


def _part(key: Distribution | tuple[SizeGroup, str], found: _Sum) -> Part:
    group = min(found.groups, key=lambda group: (-found.groups[group], group))
    name, version = (key.name, key.version) if isinstance(key, Distribution) else (key[1], None)
    sorts = {sort: count for sort, count in sorted(found.sorts.items()) if count}
    return Part(group, name, version, found.sorts.total(), found.files, sorts)


def _totals(image: SavedImage[File], seen: list[set[str]]) -> Totals:
    unpacked = sum(_unpacked(layer) for layer in image.layers)
    hidden = sum(size for layer in _hidden(image, seen) for size in layer.values())
    return Totals(_compressed(image.layers), unpacked, hidden, sum(map(len, seen)))


def _hidden(image: SavedImage[File], seen: list[set[str]]) -> list[dict[str, int]]:
    """Return bytes by path that later layers replace or remove, for each layer."""
    return [
        {path: file.size for path, file in sorted(layer.content.files.items()) if file.size and path not in paths}
        for layer, paths in zip(image.layers, seen, strict=True)
    ]


def _base(image: SavedImage[File]) -> BaseLayers:
    count, why = base_layers(image)
    lowest = image.layers[: count or 0]
    return BaseLayers(
        layers=count,
        compressed=None if count is None else _compressed(lowest),
        unpacked=None if count is None else sum(map(_unpacked, lowest)),
        name=image.config.labels.get(_NAME),
        digest=image.config.labels.get(_DIGEST),
        why=why,
    )


def _layer(layer: SavedLayer[File], seen: set[str], number: int, base: int | None) -> LayerSize:
    files = layer.content.files
    unpacked = _unpacked(layer)
    return LayerSize(
        digest=layer.digest,
        diff_id=layer.diff_id,
        made_by=layer.made_by,
        base=None if base is None else number < base,
        compressed=layer.compressed,
        unpacked=unpacked,
        hidden=unpacked - sum(files[path].size for path in seen),
        files=len(files),
    )


def _compressed(layers: tuple[SavedLayer[File], ...]) -> int | None:
    return known_sum(layer.compressed for layer in layers)


def _unpacked(layer: SavedLayer[File]) -> int:
    return sum(file.size for file in layer.content.files.values())


def _unknown(image: SavedImage[File], base: BaseLayers) -> Iterator[str]:
    plain = sum(layer.compressed is None for layer in image.layers)
    if plain:
        which = "the layers" if plain == len(image.layers) else f"{plain} of {len(image.layers)} layers"
        yield f"pull size: this engine stores {which} uncompressed; a push compresses them"
    if base.layers is None:
        yield f"base image size: {base.why}"
    if image.layers and all(layer.made_by is None for layer in image.layers):
        yield "build steps: the image's history does not match its layers"
