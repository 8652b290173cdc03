"""Texts shared by the terminal report and HTML page of `mlship size`."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import get_args

from mlship.size.report import SORTS, BaseLayers, Comparison, LayerSize, Part, PartChange, SizeGroup, SizeReport, Sort
from mlship.units import count_of, size

GROUPS: dict[SizeGroup, str] = {group: group for group in get_args(SizeGroup)} | {
    "cuda": "CUDA libraries",
    "heavy": "heavy packages",
    "light": "light packages",
    "base": "base image",
}
UNKNOWN = "unknown"


def amount(count: int | None) -> str:
    return UNKNOWN if count is None else size(count)


def signed(count: int | None) -> str:
    if count is None:
        return UNKNOWN
    return f"{'+' if count > 0 else '-' if count < 0 else ''}{size(abs(count))}"


def headline(report: SizeReport) -> str:
    totals = report.totals
    pull = "pull size unknown" if totals.compressed is None else f"{size(totals.compressed)} to pull"
    return f"{pull}, {size(totals.unpacked)} unpacked"


def counted(report: SizeReport) -> str:
    return f"{count_of(len(report.layers), 'layer')}, {count_of(report.totals.files, 'file')}"


def largest_layer(report: SizeReport) -> Iterator[str]:
    """The largest layer's share, if it is known what is beyond the base: a pull has one stream per layer."""
    layers = {number: layer.compressed for number, layer in enumerate(report.layers, 1) if layer.base is False}
    known = {number: count for number, count in layers.items() if count is not None}
    total = sum(known.values())
    if total and len(known) == len(layers):
        number = max(known, key=lambda one: known[one])
        yield f"  layer {number} is {share(known[number], total)} of the pull beyond the base"


def base_line(base: BaseLayers) -> str:
    """Describe the base image's share, or why it is unknown."""
    name = base.name or base.digest or "unnamed"
    if base.layers is None:
        return f"base image size unknown: {base.why}"
    return (
        f"base image {name}: {amount(base.compressed)} to pull, "
        f"{amount(base.unpacked)} unpacked, in {count_of(base.layers, 'layer')}"
    )


def groups(report: SizeReport) -> list[tuple[SizeGroup, int, int]]:
    """Return each group with its bytes and number of files, largest first."""
    sums, files = Counter[SizeGroup](), Counter[SizeGroup]()
    for part in report.parts:
        sums[part.group] += part.bytes
        files[part.group] += part.files
    return sorted(((group, sums[group], files[group]) for group in sums), key=lambda row: (-row[1], row[0]))


def share(count: int, total: int) -> str:
    if not total:
        return ""
    percent = 100 * count / total
    return "<1 %" if 0 < percent < 0.95 else f"{percent:.0f} %"


def sorts_by_size(part: Part) -> list[tuple[Sort, int]]:
    """Return the kinds of files in a part with their bytes, largest first."""
    return sorted(((sort, part.sorts[sort]) for sort in SORTS if part.sorts.get(sort)), key=lambda pair: -pair[1])


def sorts_line(part: Part) -> str:
    """Describe the kinds of files that make up at least 5 % of a part."""
    worth = [(sort, count) for sort, count in sorts_by_size(part) if count * 20 >= part.bytes]
    if len(worth) == 1:
        return worth[0][0]
    return ", ".join(f"{sort} {size(count)}" for sort, count in worth)


def title(part: Part) -> str:
    return f"{part.name} {part.version}" if part.version else part.name


def step(layer: LayerSize) -> str:
    """Return a layer's build step without the shell and BuildKit boilerplate."""
    if layer.made_by is None:
        return UNKNOWN
    text = " ".join(layer.made_by.split())
    text = re.sub(r"\s*# buildkit$", "", text)
    text = re.sub(r"^/bin/sh -c (?:#\(nop\) ?)?", lambda found: "" if "nop" in found[0] else "RUN ", text)
    text = re.sub(r"^(RUN(?: \|\d+ (?:\S+=\S* )*?)?) ?/bin/sh -c ", "RUN ", text)
    return text.strip() or UNKNOWN


def pull_line(comparison: Comparison) -> str:
    """Describe what a host with the other image must pull."""
    if not comparison.pulled:
        return f"a host with {comparison.other} pulls nothing: all layers are the same"
    count = count_of(len(comparison.pulled), "layer")
    if comparison.pull is None:
        return f"a host with {comparison.other} pulls {count} of unknown size"
    return f"a host with {comparison.other} pulls {size(comparison.pull)} in {count}"


def how_changed(change: PartChange) -> str:
    """Describe whether a part is new, removed or has another version."""
    before, after = change.version_before, change.version_after
    if change.before is None:
        return f"new: {after}" if after else "new"
    if change.after is None:
        return f"removed: {before}" if before else "removed"
    if before != after:
        return f"{before or UNKNOWN} -> {after or UNKNOWN}"
    return before or ""
