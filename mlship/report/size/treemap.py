"""Squarified treemap: rectangles with areas proportional to values. Pure.

Bruls, Huizing, van Wijk: Squarified Treemaps (2000), https://www.win.tue.nl/~vanwijk/stm.pdf.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rect:
    """A rectangle; y grows downwards, as in SVG."""

    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height


def squarify(values: Sequence[float], frame: Rect) -> list[Rect]:
    """Fill the frame with one rectangle per value, in order.

    Args:
        values: non-negative values; descending order gives the squarest rectangles.
    """
    total = sum(values)
    if not total or not frame.area:
        return [Rect(frame.x, frame.y, 0, 0) for _ in values]
    areas = [value / total * frame.area for value in values]
    placed: list[Rect] = []
    while len(placed) < len(areas):
        row = _row(areas[len(placed) :], min(frame.width, frame.height))
        rest = sum(areas[len(placed) + len(row) :])
        rects, frame = _lay(row, frame, last=not rest)
        placed.extend(rects)
    return placed


def _row(areas: Sequence[float], side: float) -> Sequence[float]:
    """Return the leading areas of a row; adding the next one would make the row less square."""
    count = 1
    while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
        count += 1
    return areas[:count]


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest aspect ratio in the row; 1 is a square."""
    depth = sum(row) / side if side else 0
    lengths = [area / depth for area in row if area and depth]
    return max((max(length / depth, depth / length) for length in lengths if length), default=0)


def _lay(row: Sequence[float], frame: Rect, *, last: bool) -> tuple[list[Rect], Rect]:
    """Place a row along the shorter side of the frame, and return what is left of it; the last row fills the rest."""
    if frame.width < frame.height:
        laid, rest = _lay(row, _turned(frame), last=last)
        return [_turned(rect) for rect in laid], _turned(rest)
    total, before, laid = sum(row), 0.0, list[Rect]()
    depth = frame.width if last else min(frame.width, total / frame.height) if frame.height else 0.0
    for area in row:
        start, length = (before / total * frame.height, area / total * frame.height) if total else (0.0, 0.0)
        before += area
        laid.append(Rect(frame.x, frame.y + start, depth, length))
    return laid, Rect(frame.x + depth, frame.y, frame.width - depth, frame.height)


def _turned(rect: Rect) -> Rect:
    return Rect(rect.y, rect.x, rect.height, rect.width)
