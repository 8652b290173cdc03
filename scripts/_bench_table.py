"""Compare the measurements with the targets and print them as text or JSON. Pure functions."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Verdict = Literal["met", "missed", "not measured"]
SECONDS, BYTES, COUNT = "s", "B", ""
# id: title, unit. benchmark-page uses the titles too.
MEASURES = {
    "cold_s": ("cold build", SECONDS),
    "edit_s": ("source edit", SECONDS),
    "light_s": ("light bump (uvicorn)", SECONDS),
    "heavy_s": ("bump of a heavy wheel (scipy)", SECONDS),
    "weights_s": ("new weights (4 MB)", SECONDS),
    "cold_pushed": ("first push, beyond the base", BYTES),
    "edit_pushed": ("pushed after the edit", BYTES),
    "light_pushed": ("pushed after the light bump", BYTES),
    "heavy_pushed": ("pushed after the heavy bump", BYTES),
    "weights_pushed": ("pushed after new weights", BYTES),
    "edit_layers": ("layers pushed after the edit", COUNT),
    "light_layers": ("layers pushed after the light bump", COUNT),
    "heavy_layers": ("layers pushed after the heavy bump", COUNT),
    "weights_layers": ("layers pushed after new weights", COUNT),
    "image_compressed": ("image beyond the base, compressed", BYTES),
    "image_unpacked": ("image beyond the base, unpacked", BYTES),
    "ready_s": ("start to first answer, cold page cache", SECONDS),
    "cold_memory": ("peak memory of the cold build", BYTES),
    "edit_over_bare_s": ("source edit, difference to the bare engine", SECONDS),
}


@dataclass
class Results:
    """The results of one contestant, without the measures that were not taken; `failure` is why it stopped."""

    name: str
    kind: str
    version: str = ""
    clock: str = ""
    failure: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    layers: list[list[str]] = field(default_factory=list)  # of each build in `digests`
    digests_reproducible: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    largest_heavy_layer: float | None = None

    def add(self, measure: str, value: float) -> None:
        self.values.setdefault(measure, []).append(value)

    def median(self, measure: str) -> float | None:
        values = self.values.get(measure)
        return statistics.median(values) if values else None

    def same_digest(self) -> bool | None:
        return same(self.digests)

    def layers_that_differ(self) -> list[int]:
        """Indexes, counted with the base's layers, of the layers that differ between cold builds."""
        if len({len(layers) for layers in self.layers}) != 1:
            return []
        return [place for place, one in enumerate(zip(*self.layers, strict=True)) if len(set(one)) > 1]

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind,
            "version": self.version,
            "clock": self.clock,
            "failure": self.failure or None,
            "measures": {name: spread(values) for name, values in self.values.items()},
            "reproducible": self.same_digest(),
            "reproducible_option": same(self.digests_reproducible),
            "digests": self.digests,
            "layers_that_differ": self.layers_that_differ(),
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Target:
    """A bound on one number of mlship, on its ratio to another contestant's, or on how much more it is."""

    what: str
    measure: str
    bound: float
    against: str = ""  # "" for none, "peers" for the best peer, else a contestant's name
    more: bool = False  # bounds the difference


@dataclass(frozen=True)
class Judged:
    what: str
    bound: str
    found: str
    verdict: Verdict


TARGETS = (
    Target("cold build", "cold_s", 0.35, "peers"),
    Target("peak memory of the cold build", "cold_memory", 300e6),
    Target("source edit, difference to the bare engine", "edit_over_bare_s", 0.4),
    Target("source edit", "edit_s", 0.8, "hand", more=True),
    Target("source edit, bytes pushed", "edit_pushed", 60_000),
    Target("light bump", "light_s", 0.06, "peers"),
    Target("light bump, bytes pushed", "light_pushed", 0.003, "peers"),
    Target("image beyond the base, compressed", "image_compressed", 0.75, "blog"),
    Target("image beyond the base, compressed", "image_compressed", 0.25, "BentoML"),
    Target("start to first answer", "ready_s", 0.8, "peers"),
)
# Bytes pushed besides the layer in question: the image's configuration, its manifest and layers of a few files.
SMALL_CHANGE = 100_000


def same(digests: Sequence[str]) -> bool | None:
    """Whether all digests are equal; None if there are fewer than two."""
    return len(set(digests)) == 1 if len(digests) > 1 else None


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
        "runs": len(values),
    }


def best(results: Sequence[Results], against: str, measure: str) -> tuple[str, float] | None:
    """Name and median of the contestant to compare with: the named one, or the best peer."""
    chosen = [one for one in results if (one.kind == "peer" if against == "peers" else one.name == against)]
    known = [(one.name, value) for one in chosen if (value := one.median(measure)) is not None]
    return min(known, key=lambda pair: pair[1]) if known else None


def judge(results: Sequence[Results], weights_bytes: int) -> list[Judged]:
    """Judge every target, in order; one that lacks a number is "not measured"."""
    ours = next((one for one in results if one.kind == "ours"), None)
    judged = [_judge(results, ours, target) for target in TARGETS]
    return [*judged, _heavy(ours), _weights(ours, weights_bytes), _same(ours)]


def _judge(results: Sequence[Results], ours: Results | None, target: Target) -> Judged:
    unit = MEASURES[target.measure][1]
    value = ours.median(target.measure) if ours else None
    if not target.against:
        bound = f"<= {human(target.bound, unit)}"
        if value is None:
            return Judged(target.what, bound, "", "not measured")
        return Judged(target.what, bound, human(value, unit), _verdict(value <= target.bound))
    other = best(results, target.against, target.measure)
    rival = "the best peer" if target.against == "peers" else target.against
    bound = f"<= {human(target.bound, unit)} over {rival}" if target.more else f"<= {target.bound:g} of {rival}"
    if value is None or other is None:
        return Judged(target.what, bound, "", "not measured")
    if target.more:
        over = value - other[1]
        found = f"{human(over, unit)} over {other[0]} ({human(value, unit)} : {human(other[1], unit)})"
        return Judged(target.what, bound, found, _verdict(over <= target.bound))
    ratio = value / other[1]
    found = f"{ratio:.3g} of {other[0]} ({human(value, unit)} : {human(other[1], unit)})"
    return Judged(target.what, bound, found, _verdict(ratio <= target.bound))


def _heavy(ours: Results | None) -> Judged:
    what, bound = "heavy bump, bytes pushed", "only the wheel's layer"
    pushed = ours.median("heavy_pushed") if ours else None
    if not ours or pushed is None or ours.largest_heavy_layer is None:
        return Judged(what, bound, "", "not measured")
    layers = ours.median("heavy_layers")
    image = ours.median("cold_pushed") or 0
    found = f"{human(pushed, BYTES)} in {layers:.0f} layer{'' if layers == 1 else 's'}, "
    found += f"the largest {human(ours.largest_heavy_layer, BYTES)}; whole image {human(image, BYTES)}"
    # A layer with all packages would be larger than half of the image.
    one_wheel = pushed - ours.largest_heavy_layer <= SMALL_CHANGE and ours.largest_heavy_layer <= 0.5 * image
    return Judged(what, bound, found, _verdict(one_wheel))


def _weights(ours: Results | None, size: int) -> Judged:
    pushed = ours.median("weights_pushed") if ours else None
    what, bound = "new weights, bytes pushed", "only the weights"
    if pushed is None:
        return Judged(what, bound, "", "not measured")
    found = f"{human(pushed, BYTES)} for {human(size, BYTES)} of weights"
    return Judged(what, bound, found, _verdict(pushed <= size * 1.001 + SMALL_CHANGE))


def _same(ours: Results | None) -> Judged:
    found = ours.same_digest() if ours else None
    option = same(ours.digests_reproducible) if ours else None
    what, bound = "same inputs, another folder, no cache", "same digest"
    if found is None and option is None:
        return Judged(what, bound, "", "not measured")
    described = f"{'same' if found else 'different'} digest"
    described += "" if option is None else f"; {'same' if option else 'different'} with `--reproducible`"
    return Judged(what, bound, described, _verdict(bool(found or option)))


def _verdict(met: bool) -> Verdict:
    return "met" if met else "missed"


def human(value: float, unit: str) -> str:
    if unit == SECONDS:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    if unit == COUNT:
        return f"{value:.0f}"
    for size, name in ((1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.0f} B"


def text(results: Sequence[Results], judged: Sequence[Judged], facts: Mapping[str, object]) -> str:
    """The report: facts of the machine, numbers, ratios, verdicts and notes."""
    return "\n".join(
        [*_facts(facts), "", *_numbers(results), "", *_ratios(results), "", *_verdicts(judged), "", *_notes(results)]
    )


def _facts(facts: Mapping[str, object]) -> Iterator[str]:
    yield ", ".join(f"{key} {value}" for key, value in facts.items())


def _numbers(results: Sequence[Results]) -> list[str]:
    """Medians, with minimum and maximum if there are several values."""
    rows = [["", *(one.name for one in results)]]
    for measure, (what, unit) in MEASURES.items():
        cells = [_cell(one, measure, unit) for one in results]
        if any(cells):
            rows.append([what, *(cell or "-" for cell in cells)])
    rows.append(["two cold builds, one digest", *(_yes(one.same_digest()) for one in results)])
    return _aligned(rows)


def _cell(one: Results, measure: str, unit: str) -> str:
    values = one.values.get(measure)
    if not values:
        return ""
    middle = human(statistics.median(values), unit)
    low, high = human(min(values), unit), human(max(values), unit)
    return middle if low == high else f"{middle} [{low} - {high}]"


def _ratios(results: Sequence[Results]) -> list[str]:
    ours = next((one for one in results if one.kind == "ours"), None)
    rows = [["mlship as a fraction of", "best peer", "BentoML", "blog", "hand"]]
    for measure, (what, _) in MEASURES.items():
        value = ours.median(measure) if ours else None
        others = [best(results, rival, measure) for rival in ("peers", "BentoML", "blog", "hand")]
        if value is not None and any(others):
            rows.append(
                [what, *(f"{value / other[1]:.3g} ({other[0]})" if other and other[1] else "-" for other in others)]
            )
    return _aligned(rows)


def _verdicts(judged: Sequence[Judged]) -> list[str]:
    return _aligned(
        [["target", "bound", "found", ""], *([one.what, one.bound, one.found or "-", one.verdict] for one in judged)]
    )


def _notes(results: Sequence[Results]) -> Iterator[str]:
    for one in results:
        yield f"{one.name} {one.version}: {one.failure or 'timed: ' + one.clock}"
        yield from (f"  - {note}" for note in one.notes)


def _yes(value: bool | None) -> str:
    return "-" if value is None else ("yes" if value else "no")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad: Callable[[str, int], str] = str.ljust
    return ["  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_json(results: Sequence[Results], judged: Sequence[Judged], facts: Mapping[str, object]) -> dict[str, object]:
    return {
        "facts": dict(facts),
        "contestants": [one.as_json() for one in results],
        "targets": [
            {"what": one.what, "bound": one.bound, "found": one.found or None, "verdict": one.verdict} for one in judged
        ],
    }
