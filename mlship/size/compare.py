"""Compare two images: layers to pull and parts that changed. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from mlship.size.report import Comparison, LayerSize, Part, PartChange, SizeReport, known_sum


def compare(report: SizeReport, other: SizeReport) -> Comparison:
    """Compare `other`, the image on a host, with the newer image of `report`."""
    pulled = [number for number, layer in enumerate(report.layers, 1) if not _has(other, layer)]
    changes = sorted(_changes(_by_name(other), _by_name(report)), key=lambda change: (-abs(change.grown), change.name))
    after, before = report.totals, other.totals
    known = after.compressed is not None and before.compressed is not None
    return Comparison(
        other=other.image,
        pulled=tuple(pulled),
        pull=known_sum(report.layers[number - 1].compressed for number in pulled),
        compressed=(after.compressed or 0) - (before.compressed or 0) if known else None,
        unpacked=after.unpacked - before.unpacked,
        changes=tuple(changes),
    )


def _has(other: SizeReport, layer: LayerSize) -> bool:
    """Compare by digest, or by `diff_id` if an engine stores the layer uncompressed."""
    return any(
        layer.digest == each.digest
        or (layer.diff_id == each.diff_id and (layer.compressed is None or each.compressed is None))
        for each in other.layers
    )


def _by_name(report: SizeReport) -> dict[str, Part]:
    found: dict[str, list[Part]] = {}
    for part in report.parts:
        found.setdefault(part.name, []).append(part)
    return {name: _together(parts) for name, parts in found.items()}


def _together(parts: list[Part]) -> Part:
    """All parts with one name: a distribution can be installed twice."""
    versions = sorted({part.version for part in parts if part.version is not None})
    return replace(parts[0], bytes=sum(part.bytes for part in parts), version=", ".join(versions) or None)


def _changes(before: dict[str, Part], after: dict[str, Part]) -> Iterator[PartChange]:
    for name in {*before, *after}:
        old, new = before.get(name), after.get(name)
        here = new or old
        if here is not None and (old is None or new is None or (old.bytes, old.version) != (new.bytes, new.version)):
            yield PartChange(
                name=name,
                group=here.group,
                before=old.bytes if old else None,
                after=new.bytes if new else None,
                version_before=old.version if old else None,
                version_after=new.version if new else None,
            )
