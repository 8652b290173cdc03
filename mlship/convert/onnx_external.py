"""Moves the tensors of an ONNX file into a second file, which the runtime maps instead of copying it.

https://github.com/onnx/onnx/blob/main/docs/ExternalData.md; field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mlship.errors import CheckFailed, UsageError
from mlship.project.structure.cursor import BROKEN, Buffer
from mlship.project.structure.protobuf import BYTES, VARINT, Span, fields

_GRAPH, _INITIALIZER = 7, 5
_RAW, _EXTERNAL, _LOCATION = 9, 13, 14
_SMALLEST = 1024  # bytes; smaller tensors stay, as in onnx.save
_PAGE = 4096  # a mapping starts at a page
Field = tuple[int, int, bytes]


@dataclass
class _Writer:
    """Writes tensors one after the other, each at the start of a page."""

    file: IO[bytes]
    name: str
    moved: int = 0
    at: int = field(default=0)

    def add(self, data: bytes) -> list[Field]:
        """Write a tensor; returns the fields that say where it is."""
        start = -(-self.at // _PAGE) * _PAGE
        self.file.write(b"\0" * (start - self.at) + data)
        self.at = start + len(data)
        self.moved += 1
        rows = {"location": self.name, "offset": str(start), "length": str(len(data))}
        entries = [_field(1, BYTES, key.encode()) + _field(2, BYTES, value.encode()) for key, value in rows.items()]
        return [*((_EXTERNAL, BYTES, entry) for entry in entries), (_LOCATION, VARINT, b"\1")]


def write_external(source: Path, shown: str, target: Path, data: Path, name: str) -> int:
    """Write the model with its tensors in `data`, which it names `name`; returns how many were moved.

    Raises:
        UsageError: there is nothing to move.
    """
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as model:
        with data.open("wb") as tensors:
            writer = _Writer(tensors, name)
            converted = b"".join(_model(model, writer, shown))
        if not writer.moved:
            raise UsageError(
                f"`{shown}` has no tensor of {_SMALLEST} bytes or more in itself",
                hint="use it as it is: there is nothing to move",
            )
        target.write_bytes(converted)
    return writer.moved


def _model(model: Buffer, writer: _Writer, shown: str) -> Iterator[bytes]:
    for number, wire, span in fields(model, (0, len(model))):
        if number != _GRAPH:
            yield _field(number, wire, model[span[0] : span[1]])
            continue
        graph = b"".join(
            _tensor(model, inner, writer, shown) if n == _INITIALIZER else _field(n, w, model[inner[0] : inner[1]])
            for n, w, inner in fields(model, span)
        )
        yield _field(number, wire, graph)


def _tensor(model: Buffer, span: Span, writer: _Writer, shown: str) -> bytes:
    rows = [(n, w, model[s[0] : s[1]]) for n, w, s in fields(model, span)]
    if any(n == _EXTERNAL for n, _, _ in rows):
        raise UsageError(f"`{shown}` has tensors in other files already", hint="use it as it is")
    raw = b"".join(value for n, _, value in rows if n == _RAW)
    if len(raw) >= _SMALLEST:
        rows = [row for row in rows if row[0] not in (_RAW, _LOCATION)] + writer.add(raw)
    return _field(_INITIALIZER, BYTES, b"".join(_field(*row) for row in rows))


def _field(number: int, wire: int, value: bytes) -> bytes:
    return _varint(number << 3 | wire) + (_varint(len(value)) if wire == BYTES else b"") + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


def compare_external(source: Path, target: Path, data: Path) -> None:
    """Read both models and compare them field by field, and every moved tensor bit for bit.

    Raises:
        CheckFailed: they differ in more than where tensors are.
    """
    with source.open("rb") as one, target.open("rb") as two, data.open("rb") as three:
        before = mmap.mmap(one.fileno(), 0, access=mmap.ACCESS_READ)
        after = mmap.mmap(two.fileno(), 0, access=mmap.ACCESS_READ)
        with before, after, mmap.mmap(three.fileno(), 0, access=mmap.ACCESS_READ) as tensors:
            try:
                same = all(
                    left == right
                    for left, right in zip(_flat(before, None, ""), _flat(after, tensors, data.name), strict=True)
                )
            except (ValueError, *BROKEN):
                same = False
    if not same:
        raise CheckFailed("the model differs after the conversion", hint="report this with the file")


def _flat(model: Buffer, tensors: Buffer | None, name: str) -> Iterator[tuple[object, ...]]:
    """All fields of a model, with those of its graph and its tensors, however these are stored."""
    for number, wire, span in fields(model, (0, len(model))):
        if number != _GRAPH:
            yield number, wire, model[span[0] : span[1]]
            continue
        for n, w, inner in fields(model, span):
            if n == _INITIALIZER:
                yield "tensor", *_content(model, inner, tensors, name)
            else:
                yield "graph", n, w, model[inner[0] : inner[1]]


def _content(model: Buffer, span: Span, tensors: Buffer | None, name: str) -> tuple[object, ...]:
    rows = [(n, w, model[s[0] : s[1]]) for n, w, s in fields(model, span)]
    raw = b"".join(value for n, _, value in rows if n == _RAW)
    entries = [value for n, _, value in rows if n == _EXTERNAL]
    if entries and tensors is not None:
        pairs = ({n: entry[s[0] : s[1]] for n, _, s in fields(entry, (0, len(entry)))} for entry in entries)
        place = {pair[1]: pair[2] for pair in pairs}
        located = [value for n, _, value in rows if n == _LOCATION]
        if (place[b"location"], located) != (name.encode(), [b"\1"]):
            raise ValueError("another place")
        raw = tensors[int(place[b"offset"]) : int(place[b"offset"]) + int(place[b"length"])]
    kept = sorted(row for row in rows if row[0] not in (_RAW, _EXTERNAL, _LOCATION))
    return *kept, raw
