"""Render a size report as a self-contained HTML page with a treemap and tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlship.render import render_page
from mlship.report.size import words
from mlship.report.size.treemap import Rect, squarify
from mlship.size.report import SORTS, Part, SizeReport, Sort
from mlship.units import count_of, cut, size

FRAME = Rect(0, 0, 1200, 640)
_LETTER = 6.9  # average letter width of labels, in map units
_LINE = 15.0
_MARGIN = 6.0
_SMALLEST = 0.0004  # share of the image; smaller parts share one tile


@dataclass(frozen=True)
class Cell:
    """One kind of file in a tile; `label` is empty if it would not fit or would cover the tile's label."""

    rect: Rect
    sort: Sort | None
    label: str = ""


@dataclass(frozen=True)
class Tile:
    """A part in the map.

    Attributes:
        hint: text shown on hover.
        labels: lines that fit in the tile.
    """

    group: str
    rect: Rect
    hint: str
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class _Bytes:
    """The content of a tile before layout."""

    name: str
    title: str
    bytes: int
    hint: str
    sorts: tuple[tuple[Sort, int], ...] = ()


def size_page(report: SizeReport) -> str:
    """Render the page. Values from the image are escaped and never become markup."""
    return render_page(
        "size.html.j2",
        report=report,
        words=words,
        size=size,
        frame=FRAME,
        tiles=tuple(tiles(report)),
        borders=tuple(frame for _, _, frame in _frames(report)),
        groups=words.groups(report),
        sorts=SORTS,
    )


def tiles(report: SizeReport) -> Iterator[Tile]:
    """Lay out the image: area is proportional to unpacked size, and tiles of a group are adjacent."""
    for group, inside, frame in _frames(report):
        rects = squarify([each.bytes for each in inside], frame)
        yield from (_tile(group, each, rect) for each, rect in zip(inside, rects, strict=True) if rect.area)


def _frames(report: SizeReport) -> Iterator[tuple[str, list[_Bytes], Rect]]:
    """Yield each group with its parts and frame, largest first."""
    groups: list[tuple[str, list[_Bytes]]] = [(group, _bytes_of(report, group)) for group, _, _ in words.groups(report)]
    if report.totals.hidden:
        hidden = report.totals.hidden
        groups.append(("hidden", [_Bytes("hidden", "hidden", hidden, "replaced or removed by later layers")]))
    groups.sort(key=lambda pair: -sum(each.bytes for each in pair[1]))
    frames = squarify([sum(each.bytes for each in inside) for _, inside in groups], FRAME)
    for (group, inside), frame in zip(groups, frames, strict=True):
        yield group, inside, frame


def _bytes_of(report: SizeReport, group: str) -> list[_Bytes]:
    """Return the parts of a group, with small parts combined."""
    least = _SMALLEST * report.totals.unpacked
    parts = [part for part in report.parts if part.group == group]
    found = [_part(part) for part in parts if part.bytes >= least]
    small = [part for part in parts if 0 < part.bytes < least]
    if small:
        total = sum(part.bytes for part in small)
        found.append(
            _Bytes(
                f"{len(small)} more",
                count_of(len(small), "smaller item"),
                total,
                ", ".join(words.title(part) for part in small[:20]),
            )
        )
    return sorted(found, key=lambda each: -each.bytes)


def _part(part: Part) -> _Bytes:
    hint = f"{count_of(part.files, 'file')}: {words.sorts_line(part)}"
    return _Bytes(part.name, words.title(part), part.bytes, hint, tuple(words.sorts_by_size(part)))


def _tile(group: str, each: _Bytes, rect: Rect) -> Tile:
    areas = squarify([count for _, count in each.sorts], rect)
    cells = [
        Cell(area, sort, "" if area.x == rect.x and area.y == rect.y else _cell_label(sort, count, area))
        for area, (sort, count) in zip(areas, each.sorts, strict=True)
        if area.area
    ]
    return Tile(
        group=group,
        rect=rect,
        hint=f"{each.title}: {size(each.bytes)} unpacked ({each.hint})",
        labels=tuple(_labels(each, rect)),
        cells=tuple(cells or [Cell(rect, None)]),
    )


def _cell_label(sort: Sort, count: int, rect: Rect) -> str:
    letters = _letters(rect)
    fitting = (text for text in (f"{sort} {size(count)}", sort) if len(text) <= letters)
    return next(fitting, "") if rect.height >= _LINE + 2 * _MARGIN else ""


def _letters(rect: Rect) -> int:
    """Return the number of letters that fit on a line."""
    return int((rect.width - 2 * _MARGIN) / _LETTER)


def _labels(each: _Bytes, rect: Rect) -> Iterator[str]:
    """Yield the title, shortened to fit, and the size; nothing if the tile is too small."""
    letters = _letters(rect)
    if rect.height < _LINE + _MARGIN:
        return
    title = each.title if len(each.title) <= letters else _fit(each.name, letters)
    if title:
        yield title
        if rect.height >= 2 * _LINE + _MARGIN and len(size(each.bytes)) <= letters:
            yield size(each.bytes)


def _fit(title: str, letters: int) -> str:
    """Shorten a path at its start and any other title at its end."""
    if len(title) <= letters:
        return title
    if letters < 4:
        return ""
    return f"…{title[1 - letters :]}" if title.startswith("/") else cut(title, letters)
