"""Print an image's size report: totals, then groups, parts, layers and waste."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from mlship.console import clean, out
from mlship.report.size import words
from mlship.size.report import Comparison, Part, SizeReport
from mlship.units import columns, count_of, cut, size

WIDTH = 100
NARROWEST = 60
_BAR = 24
_MOST_ROWS = 20
_MOST_WASTES = 8
_SMALL = 0.01  # share of the image; smaller parts are combined into one line


def show_size(report: SizeReport, *, verbose: bool = False) -> None:
    """Print the report on stdout, fitted to the terminal."""
    for line in size_text(report, terminal_width(), verbose=verbose).splitlines():
        out(line, style="bold" if line and not line.startswith(" ") else None)


def terminal_width() -> int:
    """Return the width of the terminal, or WIDTH if stdout is not a terminal."""
    columns = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    return max(NARROWEST, min(columns, 140))


def size_text(report: SizeReport, width: int = WIDTH, *, verbose: bool = False) -> str:
    """Format the report.

    Args:
        verbose: include small parts and changes.
    """
    lines = [cut(clean(line).replace("\n", " "), width) for line in _lines(report, width, verbose=verbose)]
    return "\n".join(lines) + "\n"


def _lines(report: SizeReport, width: int, *, verbose: bool) -> Iterator[str]:
    yield f"{report.image} ({report.platform}): {words.headline(report)}"
    yield f"  {words.counted(report)}"
    yield from _wrapped(words.base_line(report.base), width)
    if report.totals.hidden:
        yield f"  {size(report.totals.hidden)} hidden: later layers replace or remove these files"
    yield from _groups(report, _BAR if width >= 80 else _BAR // 2)
    yield from _parts(report, verbose=verbose)
    yield from _layers(report)
    yield from _waste(report, width, verbose=verbose)
    if report.unknown:
        yield ""
        yield "Unknown"
        for line in report.unknown:
            yield from _wrapped(line, width)
    if report.against is not None:
        yield from _against(report, report.against, verbose=verbose)


def _groups(report: SizeReport, longest: int) -> Iterator[str]:
    rows = words.groups(report)
    yield ""
    yield "Size by purpose (unpacked)"
    total, most = report.totals.unpacked, max((count for _, count, _ in rows), default=0)
    for group, count, files in rows:
        bar = "█" * round(longest * count / most) if most else ""
        yield (
            f"  {words.GROUPS[group]:<20} {size(count):>8} {words.share(count, total):>5}  "
            f"{bar or '▏':<{longest}}  {count_of(files, 'file')}"
        )


def _parts(report: SizeReport, *, verbose: bool) -> Iterator[str]:
    total = report.totals.unpacked
    shown, rest = _folded(report.parts, total, verbose=verbose)
    yield ""
    yield "Size by package or folder (unpacked, largest first)"
    rows = [
        (words.title(part), size(part.bytes), words.share(part.bytes, total), words.GROUPS[part.group],
         words.sorts_line(part)) for part in shown
    ]  # fmt: skip
    if rest:
        left = sum(part.bytes for part in rest)
        rows.append((count_of(len(rest), "smaller item"), size(left), words.share(left, total), "", "-v lists all"))
    yield from columns(rows, right={1, 2})


def _folded(parts: Sequence[Part], total: int, *, verbose: bool) -> tuple[Sequence[Part], Sequence[Part]]:
    if verbose:
        return parts, ()
    worth = [part for part in parts[:_MOST_ROWS] if part.bytes >= _SMALL * total]
    rest = parts[len(worth) :]
    return (worth, rest) if len(rest) > 1 else (parts, ())


def _layers(report: SizeReport) -> Iterator[str]:
    yield ""
    yield "Layers (lowest first)"
    rows = [("", "to pull", "unpacked", "files", "")]
    rows.extend(
        (
            str(number),
            words.amount(layer.compressed),
            size(layer.unpacked),
            f"{layer.files:,}",
            ("base: " if layer.base else "") + words.step(layer),
        )
        for number, layer in enumerate(report.layers, 1)
    )
    yield from columns(rows, right={0, 1, 2, 3})
    yield from words.largest_layer(report)


def _waste(report: SizeReport, width: int, *, verbose: bool) -> Iterator[str]:
    yield ""
    if not report.waste:
        yield "No unneeded files found."
        return
    total = sum(waste.bytes for waste in report.waste)
    yield f"May not be needed: up to {size(total)} unpacked"
    all_of_them = verbose or len(report.waste) == _MOST_WASTES + 1
    shown = report.waste if all_of_them else report.waste[:_MOST_WASTES]
    for waste in shown:
        yield from _wrapped(f"{size(waste.bytes):>8}  {waste.what}", width, hang=12)
        yield from _wrapped(f"{'':8}  -> {waste.advice}", width, hang=15)
        yield f"{'':12}{waste.where[0]}" + (", ..." if len(waste.where) > 1 else "") if waste.where else ""
    if more := report.waste[len(shown) :]:
        total = sum(waste.bytes for waste in more)
        yield f"  {size(total):>8}  in {count_of(len(more), 'smaller item')}; -v lists all"


def _against(report: SizeReport, comparison: Comparison, *, verbose: bool) -> Iterator[str]:
    yield ""
    pull, unpacked = words.signed(comparison.compressed), words.signed(comparison.unpacked)
    yield f"Compared with {comparison.other}: {pull} total pull size, {unpacked} unpacked"
    yield f"  {words.pull_line(comparison)}"
    yield from _pulled(report, comparison)
    shown = comparison.changes if verbose else comparison.changes[:_MOST_ROWS]
    rows = [
        (words.signed(change.grown), change.name, words.how_changed(change), words.GROUPS[change.group])
        for change in shown
    ]
    more = comparison.changes[len(shown) :]
    if more:
        rows.append((words.signed(sum(change.grown for change in more)), count_of(len(more), "smaller change"), "", ""))
    if not rows:
        yield "  no package or folder changed its size or version"
    yield from columns(rows, right={0})


def _pulled(report: SizeReport, comparison: Comparison) -> Iterator[str]:
    """List the layers to pull, largest first."""
    pulled = [(number, report.layers[number - 1]) for number in comparison.pulled]
    pulled.sort(key=lambda pair: (-(pair[1].compressed or pair[1].unpacked), pair[0]))
    rows = [(words.amount(layer.compressed), f"layer {number}", words.step(layer)) for number, layer in pulled]
    if len(rows) > _MOST_ROWS:
        rows[_MOST_ROWS:] = [("", f"{len(rows) - _MOST_ROWS} more", "")]
    if rows:
        yield from columns(rows, right={0})
        yield "  changes (unpacked)"


def _wrapped(text: str, width: int, hang: int = 2) -> Iterator[str]:
    """Wrap with an indent of two columns, and of `hang` from the second line on."""
    yield from textwrap.wrap(
        clean(text), width, initial_indent="  ", subsequent_indent="  " + " " * (hang - 2),
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
