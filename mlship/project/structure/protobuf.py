"""Protobuf, walked by a schema: every field has a known number and wire type, and fills its message exactly.

Fields are skipped by their length, so weights are never read.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TypeAlias

from mlship.project.structure.cursor import Buffer, require
from mlship.project.structure.schemas import structure_table

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIRES = {"varint": VARINT, "fixed64": FIXED64, "bytes": BYTES, "fixed32": FIXED32, "any": -1}
_MOST = 1_000_000  # fields that Python visits; runs of numbers count as one
_DEPTH = 100  # protobuf's own limit
_RUNS = 16  # bytes; in a shorter rest, there is no run
_SHORT = b"(?:" + b"|".join(re.escape(bytes([n])) + b".{%d}" % n for n in range(24)) + b")"

Span: TypeAlias = tuple[int, int]
Visit: TypeAlias = Callable[[str, Span], None]


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, 70, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise ValueError("an unterminated number")


def fields(data: Buffer, span: Span) -> Iterator[tuple[int, int, Span]]:
    """Number, wire type and extent of each field; raises ValueError if the framing does not fit exactly."""
    at, end = span
    while at < end:
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        start = at
        if wire == BYTES:
            length, start = varint(data, at)
            at = start + length
        elif wire == VARINT:
            at = varint(data, at)[1]
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError("not a wire type of protobuf 3")
        require(at <= end and number > 0, "a field extends beyond its message")
        yield number, wire, (start, at)


@cache
def _schema(name: str) -> Mapping[str, Mapping[int, int | str]]:
    """Per message of a format, the wire type of each field by its number, or the message that it holds.

    Number 0: fields of any other number.
    """
    return {
        message: {number: _WIRES.get(kind, kind) for kind, numbers in row.items() for number in numbers}
        for message, row in structure_table().protobuf[name].items()
    }


def walk(data: Buffer, name: str, visit: Visit | None = None) -> None:
    """Check all fields of a file by the schema of a format; `visit` sees each message with its extent."""
    schema, waiting = _schema(name), [("Model", (0, len(data)), 0)]
    count = 0
    while waiting:
        name, span, depth = waiting.pop()
        require(depth < _DEPTH, "too deep")
        if visit:
            visit(name, span)
        rows = schema[name]
        for number, wire, extent in _without_runs(data, span, rows):
            count += 1
            require(count < _MOST, "too many fields")
            kind = rows.get(number, rows.get(0))
            if isinstance(kind, str):
                require(wire == BYTES, "a message of another type")
                waiting.append((kind, extent, depth + 1))
            else:
                require(kind in (wire, -1) or (wire == BYTES and kind in (VARINT, FIXED32, FIXED64)), "unknown field")


def _without_runs(data: Buffer, span: Span, rows: Mapping[int, int | str]) -> Iterator[tuple[int, int, Span]]:
    """The fields; of numbers and short texts that follow each other with one key, only the first."""
    at, end = span
    while at < end:
        for number, wire, extent in fields(data, (at, end)):
            yield number, wire, extent
            at = extent[1]
            if end - at > _RUNS and (wire != BYTES or rows.get(number) == BYTES):
                at = _run(number << 3 | wire).match(data, at, end).end()  # type: ignore[union-attr]  # matches nothing too
                break


@cache
def _run(key: int) -> re.Pattern[bytes]:
    """Many fields with one key."""
    value = {FIXED32: rb".{4}", FIXED64: rb".{8}", VARINT: rb"[\x80-\xff]{0,9}+[\x00-\x7f]", BYTES: _SHORT}[key & 7]
    head = bytearray()
    while key > 0x7F:
        head.append(key & 0x7F | 0x80)
        key >>= 7
    return re.compile(rb"(?:" + re.escape(bytes([*head, key])) + value + rb")*+", re.DOTALL)
