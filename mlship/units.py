"""Durations, sizes, counts and lists as a person reads them. Pure."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST, _MOST = 6 << 20, 16384 << 30


def duration(seconds: float) -> str:
    """A duration in a readable unit: <0.1 ms, 0.31 ms, 12 ms, 1.2 s, 40 s."""
    if 0 < seconds < 0.0001:
        return "<0.1 ms"
    return f"{_figures(seconds * 1000)} ms" if seconds < 0.9995 else f"{_figures(seconds)} s"


def size(count: int) -> str:
    """Bytes in binary units: 512 KiB, 91 MiB, 2 GiB."""
    units = ("B", "KiB", "MiB", "GiB")
    power = min(max(count.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{_figures(count / 1024**power)} {units[power]}"


def bytes_of(text: str) -> int:
    """Parse a memory limit such as 512m or 2g into bytes.

    Raises:
        ValueError: not a size, or outside the range that Docker accepts.
    """
    if not re.fullmatch(r"[1-9][0-9]{0,11}[kmg]", text):
        raise ValueError(f"{text!r} is not a size such as 512m or 2g")
    count = int(text[:-1]) * _FACTORS[text[-1]]
    if not _LEAST <= count <= _MOST:
        raise ValueError(f"{text!r} is not a valid memory limit: Docker accepts 6m to 16384g")
    return count


def few(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are: `a, b, c and 2 more`."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def first_rows(rows: Iterable[str], most: int, more: str = "and {} more") -> list[str]:
    """The first rows, and a last one that counts the others."""
    every = list(rows)
    return [*every[:most], *([more.format(len(every) - most)] if len(every) > most else [])]


def count_of(count: int, word: str) -> str:
    """`1 file`, `1,024 files`."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def cut(text: str, width: int) -> str:
    """The text in at most `width` characters, with an ellipsis where its end is missing."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def columns(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> Iterator[str]:
    """Lines of a table, indented by two columns; `right` are the numbers of columns that are aligned right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        pairs = zip(row, widths, strict=True)
        cells = [cell.rjust(width) if at in right else cell.ljust(width) for at, (cell, width) in enumerate(pairs)]
        yield f"  {'  '.join(cells)}".rstrip()


def _figures(value: float) -> str:
    return f"{value:.2g}" if value < 9.95 else f"{value:.0f}"
