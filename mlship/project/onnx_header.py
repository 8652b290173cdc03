"""The header of an ONNX file: inputs, outputs and external data files.

The `onnx` package reads the whole file and takes a quarter of a second to import. This walks the protobuf framing
instead: fields are skipped by their length, and weights are never read.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
_IR_VERSION, _GRAPH, _OPSETS = 1, 7, 8
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13

ELEMENTS = {
    1: "float",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "double",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}

Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        element: ONNX's element type, such as float; None if it is not a plain tensor.
        shape: None for a dimension that varies; None as a whole if the file does not say.
    """

    name: str
    element: str | None
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        dimensions = "?" if self.shape is None else ",".join("N" if d is None else str(d) for d in self.shape)
        return f"{self.name} {self.element or 'no tensor'}[{dimensions}]"


@dataclass(frozen=True)
class OnnxHeader:
    """Inputs, outputs and data files of a model.

    Attributes:
        external: files with its tensors, relative to the model's folder, as the model names them.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    external: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"


def read_onnx(path: Path) -> OnnxHeader | None:
    """The header of an ONNX model; None if the file is something else, damaged or cut short."""
    # IndexError and ValueError: a length beyond the end of the file, so it is not protobuf.
    with (
        path.open("rb") as file,
        suppress(IndexError, ValueError),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return _model(_Wire(data))
    return None


class _Wire:
    """Protobuf's framing over a memory-mapped file, so only the visited pages are read."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.all: Span = (0, len(data))

    def fields(self, span: Span) -> Iterator[tuple[int, int, Span]]:
        """Number, wire type and extent of each field; raises ValueError if the framing does not fit exactly."""
        position, end = span
        while position < end:
            key, position = self._varint(position)
            number, wire = key >> 3, key & 7
            start, position = self._extent(wire, position)
            if position > end or number == 0:
                raise ValueError("a field extends beyond its message")
            yield number, wire, (start, position)

    def messages(self, span: Span, number: int) -> Iterator[Span]:
        """Extents of the length-delimited fields of one number."""
        return (s for n, wire, s in self.fields(span) if n == number and wire == _BYTES)

    def texts(self, span: Span, number: int) -> Iterator[str]:
        """Strings of one field number."""
        return (self._data[start:end].decode() for start, end in self.messages(span, number))

    def numbers(self, span: Span, number: int) -> Iterator[int]:
        """Integers of one field number."""
        return (self._varint(s[0])[0] for n, wire, s in self.fields(span) if n == number and wire == _VARINT)

    def _extent(self, wire: int, position: int) -> Span:
        if wire == _VARINT:
            return position, self._varint(position)[1]
        if wire == _BYTES:
            length, start = self._varint(position)
            return start, start + length
        if wire in (_FIXED64, _FIXED32):
            return position, position + (8 if wire == _FIXED64 else 4)
        raise ValueError("not a wire type of protobuf 3")

    def _varint(self, position: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
        raise ValueError("an unterminated number")


def _model(wire: _Wire) -> OnnxHeader | None:
    fields = list(wire.fields(wire.all))
    graphs = [span for number, kind, span in fields if number == _GRAPH and kind == _BYTES]
    present = {number for number, _, _ in fields}
    if len(graphs) != 1 or not present <= _MODEL_FIELDS or not {_IR_VERSION, _OPSETS} <= present:
        return None
    initializers = list(wire.messages(graphs[0], _INITIALIZER))
    constants = {name for tensor in initializers for name in wire.texts(tensor, _TENSOR_NAME)}
    external = {place for tensor in initializers for place in _locations(wire, tensor)}
    inputs = tuple(t for span in wire.messages(graphs[0], _INPUT) if (t := _tensor(wire, span)).name not in constants)
    outputs = tuple(_tensor(wire, span) for span in wire.messages(graphs[0], _OUTPUT))
    return OnnxHeader(inputs, outputs, tuple(sorted(external))) if outputs else None


def _locations(wire: _Wire, tensor: Span) -> Iterator[str]:
    for entry in wire.messages(tensor, _TENSOR_EXTERNAL):
        if "location" in wire.texts(entry, 1):
            yield from wire.texts(entry, 2)


def _tensor(wire: _Wire, value: Span) -> Tensor:
    name = next(wire.texts(value, 1), "")
    for kind in wire.messages(value, 2):
        for tensor in wire.messages(kind, 1):
            element = ELEMENTS.get(next(wire.numbers(tensor, 1), 0))
            shape = next(wire.messages(tensor, 2), None)
            return Tensor(name, element, None if shape is None else _shape(wire, shape))
    return Tensor(name, None, None)


def _shape(wire: _Wire, shape: Span) -> tuple[int | None, ...]:
    sizes = (next(wire.numbers(dimension, 1), None) for dimension in wire.messages(shape, 1))
    return tuple(size if size and size < 1 << 63 else None for size in sizes)
