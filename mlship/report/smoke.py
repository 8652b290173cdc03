"""The smoke report for people: the verdict first, then what was checked and measured, then what to do. 80 columns."""

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlship.console import out_lines
from mlship.smoke.result import Check, Figures, SmokeReport, Status
from mlship.units import count_of, duration, size

if TYPE_CHECKING:
    from mlship.proof.statement import Details

SIGNS: dict[Status, str] = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}  # noqa: RUF001  an en dash is meant
STYLES: dict[str, str] = {"PROVEN": "bold green", "NOT PROVEN": "bold red", "  ✗": "red", "  !": "yellow"}
WIDTH = 80
_TITLE_WIDTH = 37
_UNBROKEN = "\N{NO-BREAK SPACE}"
_WEIGHTS_THAT_COUNT = 1 << 20


def show_smoke(report: SmokeReport) -> None:
    """Print the report on stdout. Where there are colours, they only repeat what the words and signs say."""
    out_lines(smoke_text(report).splitlines(), STYLES)


def smoke_text(report: SmokeReport) -> str:
    return "\n".join(_lines(report)) + "\n"


def verdict(report: SmokeReport) -> str:
    """One line: what is proven, or the first thing that is not."""
    if report.passed:
        return f"PROVEN on {where(report)}: {report.image}{_warnings(report)}"
    bad = report.failure
    return f"NOT PROVEN: {bad.id}: {finding(bad)}" if bad else "NOT PROVEN: nothing was checked"


def where(report: "SmokeReport | Details") -> str:
    """What it was tested on, and never a simulated GPU without the word."""
    if report.device == "cpu":
        return "cpu"
    which = f"{' + '.join(report.gpus) or 'unnamed'}, driver {report.driver or 'unknown'}"
    if report.device == "simulated gpu":
        return f"a simulated gpu, which proves nothing about a real one ({which})"
    return f"gpu ({which})"


def finding(check: Check) -> str:
    """What was seen, without the evidence after it."""
    return check.seen.partition("\n")[0]


def evidence(check: Check) -> list[str]:
    """The lines that show it: a traceback, a log."""
    return check.seen.splitlines()[1:]


def measured(figures: Figures) -> Iterator[tuple[str, str]]:
    """What was measured, by name, in units that people read."""
    for name, seconds in (("import", figures.import_s), ("load", figures.load_s), ("first answer", figures.first_s)):
        if seconds is not None:
            yield name, duration(seconds)
    if figures.p50_s is not None and figures.p99_s is not None:
        yield "steady answer", f"{duration(figures.p50_s)} median, {duration(figures.p99_s)} p99 ({figures.runs} runs)"
    if figures.peak_memory is not None:
        yield "peak memory", size(figures.peak_memory)
    if figures.weights:
        yield "weights", size(figures.weights) + _loaded(figures)
    if figures.left_out:
        yield "left out", f"{size(figures.left_out)} of tests, headers and archives in packages"
    yield from _served(figures)


def _served(figures: Figures) -> Iterator[tuple[str, str]]:
    for name, seconds in (("server alive", figures.live_s), ("server ready", figures.ready_s)):
        if seconds is not None:
            yield name, f"{duration(seconds)} after its start"
    if figures.answer_s is not None:
        yield "answer over HTTP", f"{duration(figures.answer_s)} median"
    if figures.exit_s is not None:
        yield "stopped", f"{duration(figures.exit_s)} after SIGTERM"


def _warnings(report: SmokeReport) -> str:
    count = sum(check.status == "warn" for check in report.checks)
    return f" ({count_of(count, 'warning')})" if count else ""


def _loaded(figures: Figures) -> str:
    """The private memory that loading took: mapped weights take none, and processes share them. Small ones drown."""
    ratio = figures.private_over_weights
    if ratio is None or (figures.weights or 0) < _WEIGHTS_THAT_COUNT:
        return ""
    return f"; loading took {ratio:.1f} times that in private memory" if ratio >= 0.05 else "; mapped, not copied"


def _lines(report: SmokeReport) -> Iterator[str]:
    yield verdict(report)
    if not report.passed:
        yield from textwrap.wrap(f"image {report.image}, tested on {where(report)}", WIDTH, break_on_hyphens=False)
    yield ""
    for check in report.checks:
        yield from _row(check)
    yield ""
    yield f"  {SIGNS['pass']} passed   {SIGNS['warn']} warning   {SIGNS['fail']} failed   {SIGNS['skip']} not checked"
    figures = list(measured(report.figures))
    if figures:
        yield ""
        yield "Measured"
        yield from (f"  {name:<18}{value}" for name, value in figures)
    for status, heading in (("fail", "What failed, and what to do"), ("warn", "Warnings")):
        checks = [check for check in report.checks if check.status == status]
        if checks:
            yield ""
            yield heading
        for check in checks:
            yield from _details(check)


def _row(check: Check) -> Iterator[str]:
    seen = {"fail": "FAILED, see below", "warn": "see below"}.get(check.status) or finding(check)
    start = f"  {SIGNS[check.status]} {check.title:<{_TITLE_WIDTH}} "
    first, *others = textwrap.wrap(seen, WIDTH - len(start)) or [""]
    yield (start + first).rstrip()
    yield from (" " * len(start) + line for line in others)


def _details(check: Check) -> Iterator[str]:
    yield f"  {SIGNS[check.status]} {check.id}: {check.title}"
    yield from _wrapped("    seen: ", finding(check))
    yield from (f"        | {line}" for line in evidence(check))
    yield from _wrapped("    do:   ", check.remedy)


def _wrapped(start: str, text: str) -> Iterator[str]:
    """Commands and paths stay whole, however long they are."""
    whole = re.sub("`[^`]*`", lambda command: command[0].replace(" ", _UNBROKEN), text)
    more = " " * len(start)
    for line in textwrap.wrap(
        whole, WIDTH, break_long_words=False, break_on_hyphens=False, initial_indent=start, subsequent_indent=more
    ):
        yield line.replace(_UNBROKEN, " ")
