"""The figures of a shadow run from the metrics that the generated server has (`templates/init/serving/shadow.py`)."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import ceil, inf

from mlship.shadow.figures import FEWEST, MEANINGS, Figure, hours_of, stability
from mlship.shadow.prometheus import Scraped, Series
from mlship.units import count_of

_COPIES, _RATIO = "serving_shadow_requests_total", "serving_shadow_latency_ratio_bucket"
_DIFFERENCE, _MEMORY = "serving_shadow_difference_bucket", "serving_shadow_memory_bytes"
_OUR_MEMORY, _VALUES = "process_resident_memory_bytes", "serving_value_bucket"
_SCRAPER = re.compile(r"^prometheus$|replica$|^receive$|^tenant_id$")
METRICS = (_COPIES, _RATIO, _DIFFERENCE, _MEMORY, _OUR_MEMORY, _VALUES)
_Server = tuple[str, str]  # cluster, namespace and job; version of the model


def scraped_figures(found: Scraped) -> Mapping[str, Figure]:
    """Every figure by its name. All are unknown without copies in the window, or with those of several servers."""
    counts, servers = defaultdict[str, float](float), set[_Server]()
    for one in found.metrics[_COPIES]:
        if grown := _growth(one, found.start):
            counts[one.labels.get("outcome", "")] += grown
            servers.add(_server(one))
    if reason := _unusable(counts, servers) or _scraped_twice(found.metrics[_COPIES]):
        return dict.fromkeys(MEANINGS, Figure(None, reason))
    (server,) = servers
    rows = counts["agree"] + counts["differ"] + counts["error"]
    offered = rows + counts["dropped"]
    of: Mapping[str, Callable[[], Figure]] = {
        "agreement": lambda: Figure(counts["agree"] / rows, f"{counts['agree']:.0f} of {rows:.0f} copies agree"),
        "error_rate": lambda: Figure(counts["error"] / rows, f"{counts['error']:.0f} of {rows:.0f} copies failed"),
        "dropped_rate": lambda: Figure(counts["dropped"] / offered, f"{counts['dropped']:.0f} of {offered:.0f} copies"),
        "difference": lambda: _difference(_buckets(found, _DIFFERENCE, server), counts),
        "psi": lambda: _psi(found, server),
        "p50_ratio": lambda: _ratio(_buckets(found, _RATIO, server), rows, 0.5),
        "p99_ratio": lambda: _ratio(_buckets(found, _RATIO, server), rows, 0.99),
        "memory_ratio": lambda: _memory(found, server),
        "rows": lambda: Figure(rows, "copies"),
        "hours": lambda: hours_of(_times(found)),
    }
    return {
        name: of[name]() if rows >= meaning.fewest else Figure(None, f"{rows:.0f} copies; needs {meaning.fewest}")
        for name, meaning in MEANINGS.items()
    }


def _unusable(counts: Mapping[str, float], servers: set[_Server]) -> str:
    if not servers:
        return f"no copies: `{_COPIES}` did not grow in these hours"
    if len(servers) > 1:
        several = ", ".join(sorted(f"{version} of job {job}" for job, version in servers))
        return f"copies of several servers: {several}"
    if unknown := counts.keys() - {"agree", "differ", "error", "dropped"}:
        return f"unknown outcome `{min(unknown)}`"
    if counts["agree"] + counts["differ"] + counts["error"] == 0:
        return "all copies were dropped"
    return ""


def _scraped_twice(copies: Iterable[Series]) -> str:
    """Whether two Prometheus servers scraped one target; their external labels tell the series apart."""
    seen = [frozenset(pair for pair in one.labels.items() if not _SCRAPER.search(pair[0])) for one in copies]
    hint = "choose one with `--match`, such as 'prometheus_replica=\"prometheus-0\"'"
    return f"copies of one server from several Prometheus servers; {hint}" if len({*seen}) < len(seen) else ""


def _server(series: Series) -> _Server:
    known = series.labels
    place = (known.get("cluster"), known.get("namespace"), known.get("exported_job") or known.get("job"))
    return "/".join(filter(None, place)), known.get("model_version", "")


def _changes(series: Series, start: float) -> Iterator[tuple[float, float]]:
    """When a counter grew, and by how much. One that appeared began at 0; one that fell began at 0 again."""
    last = 0.0
    for time, value in series.samples:
        if time > start and value != last:
            yield time, value - last if value > last else value
        last = value


def _growth(series: Series, start: float) -> float:
    return sum(grown for _, grown in _changes(series, start))


def _times(found: Scraped) -> list[float]:
    done = (one for one in found.metrics[_COPIES] if one.labels.get("outcome") != "dropped")
    return [time for one in done for time, grown in _changes(one, found.start) if grown]


def _buckets(found: Scraped, name: str, server: _Server) -> Mapping[float, float]:
    """Upper edge, and how many values were up to it."""
    return _by_edge((one for one in found.metrics[name] if _server(one) == server), found.start)


def _by_edge(series: Iterable[Series], start: float) -> Mapping[float, float]:
    counts: dict[float, float] = defaultdict(float)
    for one in series:
        try:
            counts[float(one.labels.get("le", ""))] += _growth(one, start)
        except ValueError:  # not of this server
            continue
    return dict(sorted(counts.items()))


def _ratio(buckets: Mapping[float, float], rows: float, share: float) -> Figure:
    """Copies that failed are slower than any."""
    edge = next((edge for edge, count in buckets.items() if count >= ceil(share * rows)), inf)
    if edge == inf:
        return Figure(None, f"too many copies failed, or took too long, for the {share:.0%} percentile")
    return Figure(edge, f"{share:.0%} of {rows:.0f} copies took at most {edge:g} times as long")


def _difference(buckets: Mapping[float, float], counts: Mapping[str, float]) -> Figure:
    compared = max(buckets.values(), default=0.0)
    if counts["differ"] and compared < counts["agree"] + counts["differ"]:
        return Figure(None, "some answers have other places or kinds of values")
    if not compared:
        return Figure(None, "no numbers to compare")
    edge = next(edge for edge, count in buckets.items() if count == compared)
    if edge == inf:
        return Figure(None, f"more than {max(one for one in buckets if one < inf):g}, the last bucket")
    return Figure(edge, f"all of {compared:.0f} answers differ by at most that, the edge of a bucket")


def _memory(found: Scraped, server: _Server) -> Figure:
    shadowed = [one for one in found.metrics[_MEMORY] if _server(one) == server]
    places = {(one.labels.get("job"), one.labels.get("instance")) for one in shadowed}
    own = [one for one in found.metrics[_OUR_MEMORY] if (one.labels.get("job"), one.labels.get("instance")) in places]
    other, ours = (
        max((value for one in series for time, value in one.samples if time > found.start), default=0.0)
        for series in (shadowed, own)
    )
    if other <= 0 or ours <= 0:
        return Figure(None, f"`{_MEMORY}` or `{_OUR_MEMORY}` of the server is missing")
    return Figure(other / ours, f"{other / 1e6:.0f} MB by {ours / 1e6:.0f} MB, the most of each")


def _psi(found: Scraped, server: _Server) -> Figure:
    """Drift between the outputs of two servers, over the bins of the training."""
    outputs = [one for one in found.metrics[_VALUES] if one.labels.get("side") == "output"]
    others = {_server(one) for one in outputs if _server(one) != server and _growth(one, found.start)}
    if len(others) != 1:
        seen = ", ".join(sorted(f"{version} of job {job}" for job, version in others)) or "none"
        return Figure(None, f"needs `{_VALUES}` of one other server, the candidate; found: {seen}")
    (candidate,) = others
    found_psi: dict[str, float] = {}
    for feature in sorted({one.labels.get("feature", "") for one in outputs if _server(one) in {server, candidate}}):
        of = [one for one in outputs if one.labels.get("feature", "") == feature]
        bins = [_by_edge((one for one in of if _server(one) == who), found.start) for who in (server, candidate)]
        if reason := _incomparable(bins):
            return Figure(None, f"`{feature}`: {reason}")
        found_psi[feature] = stability(*(_shares([*each.values()]) for each in bins))
    worst = max(found_psi, key=lambda feature: found_psi[feature])
    name = f"{candidate[1]} of job {candidate[0]}"
    return Figure(found_psi[worst], f"largest of {count_of(len(found_psi), 'output')}, of {worst}, against {name}")


def _incomparable(bins: Sequence[Mapping[float, float]]) -> str:
    if bins[0].keys() != bins[1].keys() or len(bins[0]) < 2:
        return "the two servers have other bins"
    fewest = min(max(each.values()) for each in bins)
    return f"{fewest:.0f} values; needs {FEWEST}" if fewest < FEWEST else ""


def _shares(cumulative: Sequence[float]) -> list[float]:
    inside = [more - less for less, more in zip([0.0, *cumulative], cumulative, strict=False)]
    return [count / cumulative[-1] for count in inside]
