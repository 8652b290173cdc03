"""The report of `mlship fits`."""

from collections.abc import Iterator

from mlship.console import out_lines
from mlship.cuda.fit.fits import Fits, HostFit
from mlship.cuda.fit.judge import Outcome
from mlship.units import count_of

_SIGNS: dict[Outcome, str] = {"runs": "✓", "refused": "✗", "unknown": "?"}
_WORDS: dict[Outcome, str] = {"runs": "runs", "refused": "does not run", "unknown": "unknown"}
_SHOWN = 4  # limits of a host


def show_fits(fits: Fits, shown: str, origin: str) -> None:
    """Print the answer for each host, what it does not cover, and the smallest change."""
    out_lines(_lines(fits, shown, origin))


def _lines(fits: Fits, shown: str, origin: str) -> Iterator[str]:
    yield f"{shown}: {count_of(fits.packages, 'package')}, on {count_of(len(fits.hosts), 'kind')} of host from {origin}"
    yield ""
    yield from (f"  ✗ {problem}" for problem in fits.problems)
    for host in fits.hosts:
        yield from _host(host)
    yield from ("", *(f"  note: {note}" for note in fits.notes)) if fits.notes else ()
    if fits.outcome == "unknown":
        yield from ("", "To find out, prove an image of it on such a host: `mlship smoke IMAGE --on gpu`")
    if fits.changes:
        yield from ("", "What helps:", *(f"  {change}" for change in fits.changes))


def _host(host: HostFit) -> Iterator[str]:
    yield f"  {_SIGNS[host.outcome]} {host.host} (driver {host.driver}): {_WORDS[host.outcome]}"
    if not host.limits:
        yield "      no locked package is known to use CUDA"
    for limit in host.limits[:_SHOWN]:
        for line in limit.why:
            yield f"      {line}" if limit.package in line else f"      {limit.package}: {line}"
    if len(host.limits) > _SHOWN:
        yield f"      and {count_of(len(host.limits) - _SHOWN, 'more package')}"
