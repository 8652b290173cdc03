"""The figures of a shadow run. A figure that the records do not give is unknown, with the reason."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log
from typing import TypeGuard

from mlship.shadow.records import Leaf, ShadowRecord
from mlship.units import count_of

FEWEST = 200  # records; PSI is mostly noise below that
FEWEST_FOR_P99 = 1000
LONGEST_GAP_SECONDS = 3600.0
_FEWEST_SHARE = 0.0001  # of a bin without values, as in monitoring/alerts.yml
_ROUNDED = 1e-6  # of an edge: the other side of it is no drift
_MOST_TEXTS = 50  # different ones; more are no classes


@dataclass(frozen=True)
class Figure:
    """A number and what it is based on; None is unknown, for that reason."""

    value: float | None
    basis: str


@dataclass(frozen=True)
class _Meaning:
    text: str
    of: Callable[[Sequence[ShadowRecord]], Figure]
    fewest: int = FEWEST


def shadow_figures(lines: Iterable[ShadowRecord | str]) -> Mapping[str, Figure]:
    """Every figure by its name. All are unknown without records, with lines that are none, or with mixed servers."""
    read = [*lines]
    wrong = [line for line in read if isinstance(line, str)]
    records = [line for line in read if not isinstance(line, str)]
    if reason := _unusable(records, wrong):
        return dict.fromkeys(MEANINGS, Figure(None, reason))
    return {
        name: meaning.of(records)
        if len(records) >= meaning.fewest
        else Figure(None, f"{count_of(len(records), 'record')}; needs {meaning.fewest}")
        for name, meaning in MEANINGS.items()
    }


def _unusable(records: Sequence[ShadowRecord], wrong: Sequence[str]) -> str:
    if wrong:
        return wrong[0] + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
    if not records:
        return "no records"
    for what, versions in (
        ("candidates", {one.url for one in records}),
        ("versions of the candidate", {one.candidate_version for one in records} - {None}),
        ("versions of the primary", {one.primary_version for one in records}),
    ):
        if len(versions) > 1:
            return f"records of several {what}: {', '.join(sorted(map(str, versions)))}"
    repeated = len(records) - len({(one.run, one.time, one.offered, one.primary_ms) for one in records})
    return f"{count_of(repeated, 'repeated record')}: pass each file once" if repeated else ""


def _share(records: Sequence[ShadowRecord], outcome: str, words: str) -> Figure:
    count = sum(one.outcome == outcome for one in records)
    return Figure(count / len(records), f"{count} of {len(records)} {words}")


def _dropped(records: Sequence[ShadowRecord]) -> Figure:
    last = {one.run: one for one in sorted(records, key=lambda one: one.offered)}
    offered, dropped = (sum(getattr(one, name) for one in last.values()) for name in ("offered", "dropped"))
    return Figure(dropped / offered, f"{dropped} of {offered} copies") if offered else Figure(None, "nothing offered")


def _difference(records: Sequence[ShadowRecord]) -> Figure:
    found = [one.difference for one in records if one.difference is not None]
    other = sum(one.outcome == "differ" and one.difference is None for one in records)
    if other:
        return Figure(None, f"{other} answers have other places or kinds of values")
    if not found:
        return Figure(None, "no numbers to compare")
    return Figure(max(found), f"largest of {count_of(len(found), 'answer')}")


def _percentile(values: Sequence[float | None], share: float) -> float | None:
    """Nearest rank; None is slower than any number."""
    ranked = sorted(values, key=lambda value: (value is None, value or 0.0))
    return ranked[ceil(share * len(ranked)) - 1]


def _ratio(share: float) -> Callable[[Sequence[ShadowRecord]], Figure]:
    def ratio(records: Sequence[ShadowRecord]) -> Figure:
        ours = _percentile([one.primary_ms for one in records], share)
        other = _percentile([one.answered_ms for one in records], share)
        if ours is None or other is None:
            return Figure(None, f"too many copies failed for the {share:.0%} percentile")
        return Figure(other / ours, f"{other:.3g} ms by {ours:.3g} ms")

    return ratio


def _memory(records: Sequence[ShadowRecord]) -> Figure:
    ours = max((one.primary_bytes for one in records if one.primary_bytes), default=None)
    other = max((one.candidate_bytes for one in records if one.candidate_bytes), default=None)
    if ours is None or other is None:
        return Figure(None, "no memory in the records; the candidate has no /metrics")
    return Figure(other / ours, f"{other / 1e6:.0f} MB by {ours / 1e6:.0f} MB, the most of each")


def hours_of(moments: Iterable[float]) -> Figure:
    """The time from the first to the last of these moments (seconds), without gaps of more than an hour."""
    gaps = [later - sooner for sooner, later in pairwise(sorted(moments))]
    covered = sum(gap for gap in gaps if gap <= LONGEST_GAP_SECONDS)
    longer = sum(gap > LONGEST_GAP_SECONDS for gap in gaps)
    gaps_left_out = count_of(longer, "gap") if longer else "no gap"
    return Figure(covered / 3600, f"{gaps_left_out} of more than an hour{' left out' if longer else ''}")


def _psi(records: Sequence[ShadowRecord]) -> Figure:
    answered = [one for one in records if one.outcome != "error"]
    if len(answered) < FEWEST:
        return Figure(None, f"{count_of(len(answered), 'answer')}; needs {FEWEST}")
    places = Counter(place for one in answered for place in (*one.primary, *one.candidate))
    usual = [place for place, count in places.items() if count >= len(answered)]  # half of all answers
    found = {
        place: _psi_of([one.primary.get(place) for one in answered], [one.candidate.get(place) for one in answered])
        for place in usual
    }
    known = {place: value for place, value in found.items() if value is not None}
    if not known:
        return Figure(None, "no value of the outputs is a number or a class")
    worst = max(known, key=lambda place: known[place])
    left = len(places) - len(known)
    rest = f"; {count_of(left, 'other')}, rare or free text, not judged" if left else ""
    return Figure(known[worst], f"largest of {count_of(len(known), 'value')}, of {worst or 'the output'}{rest}")


def _psi_of(ours: Sequence[Leaf], other: Sequence[Leaf]) -> float | None:
    """The population stability index over the deciles of our numbers; any other value is a bin. None for free text."""
    ranked = sorted(value for value in ours if _is_number(value))
    deciles = {ranked[ceil(len(ranked) * tenth / 10) - 1] for tenth in range(1, 10)} if ranked else set[float]()
    edges = sorted(edge + _ROUNDED * abs(edge) for edge in deciles)
    sides = [
        Counter(bisect_left(edges, one) if _is_number(one) else repr(one) for one in side) for side in (ours, other)
    ]
    bins = [*dict.fromkeys((*sides[0], *sides[1]))]
    if sum(isinstance(one, str) for one in sides[0]) > _MOST_TEXTS:
        return None
    return stability(*([side[one] / len(ours) for one in bins] for side in sides))


def stability(ours: Iterable[float], other: Iterable[float]) -> float:
    """The population stability index of two lists of shares of the same bins."""
    pairs = ((max(_FEWEST_SHARE, one), max(_FEWEST_SHARE, two)) for one, two in zip(ours, other, strict=True))
    return sum(((two - one) * log(two / one) for one, two in pairs), 0.0)


def _is_number(value: Leaf) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


MEANINGS: Mapping[str, _Meaning] = {
    "agreement": _Meaning("share of the copies that agree", lambda all_: _share(all_, "agree", "copies agree")),
    "error_rate": _Meaning("share of the copies that failed", lambda all_: _share(all_, "error", "copies failed")),
    "dropped_rate": _Meaning("share of the copies that were never sent", _dropped),
    "difference": _Meaning("largest difference of two numbers", _difference),
    "psi": _Meaning("drift of the candidate's outputs from the primary's", _psi),
    "p50_ratio": _Meaning("median time, candidate by primary", _ratio(0.5)),
    "p99_ratio": _Meaning("p99 time, candidate by primary", _ratio(0.99), FEWEST_FOR_P99),
    "memory_ratio": _Meaning("memory, candidate by primary", _memory),
    "rows": _Meaning("records", lambda all_: Figure(len(all_), "records"), 1),
    "hours": _Meaning("time that the records cover", lambda all_: hours_of(one.time for one in all_), 2),
}
