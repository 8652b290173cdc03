"""The header of an ONNX file: inputs, outputs and external data files.

The `onnx` package reads the whole file and takes a quarter of a second to import. This walks the protobuf framing
instead: fields are skipped by their length, and weights are never read.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlship.project.structure.cursor import BROKEN, Buffer
from mlship.project.structure.messages import walk_onnx
from mlship.project.structure.protobuf import BYTES, VARINT, Span, fields, varint
from mlship.project.structure.schemas import structure_table

_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13
_DOMAIN = {"Node": 7, "Function": 10}
_STANDARD = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model.

    Attributes:
        element: ONNX's element type, such as float; None if it is not a plain tensor.
        shape: None for a dimension that varies; None as a whole if the file does not say.
        first_axis: name of the first dimension if it varies, empty if it has none; None if it is fixed.
    """

    name: str
    element: str | None
    shape: tuple[int | None, ...] | None
    first_axis: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        dimensions = "?" if self.shape is None else ",".join("N" if d is None else str(d) for d in self.shape)
        return f"{self.name} {self.element or 'no tensor'}[{dimensions}]"


@dataclass(frozen=True)
class OnnxHeader:
    """Inputs, outputs and data files of a model.

    Attributes:
        external: files with its tensors, relative to the model's folder, as the model names them, and the size that
            each has at least.
        domains: of the operators that neither ONNX nor the file itself defines.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    external: dict[str, int]
    domains: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"


def read_onnx(path: Path) -> OnnxHeader | None:
    """The header of an ONNX model; None if the file is something else, damaged or cut short."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _model(data)
    except BROKEN:
        return None


def _model(data: Buffer) -> OnnxHeader:
    external: dict[str, int] = {}
    domains: dict[str, set[str]] = {"Node": set(), "Function": set()}

    def visit(message: str, span: Span) -> None:
        if message in domains:
            domains[message].update(_texts(data, span, _DOMAIN[message]))
        if message == "Tensor" and (place := _place(data, span)):
            external[place[0]] = max(external.get(place[0], 0), place[1])

    walk_onnx(data, visit)
    graph = next(_messages(data, (0, len(data)), _GRAPH))
    constants = {n for t in _messages(data, graph, _INITIALIZER) for n in _texts(data, t, _TENSOR_NAME)}
    inputs = tuple(t for span in _messages(data, graph, _INPUT) if (t := _tensor(data, span)).name not in constants)
    outputs = tuple(_tensor(data, span) for span in _messages(data, graph, _OUTPUT))
    foreign = domains["Node"] - domains["Function"] - _STANDARD
    return OnnxHeader(inputs, outputs, dict(sorted(external.items())), tuple(sorted(foreign)))


def _messages(data: Buffer, span: Span, number: int) -> Iterator[Span]:
    """Extents of the length-delimited fields of one number."""
    return (extent for n, wire, extent in fields(data, span) if n == number and wire == BYTES)


def _texts(data: Buffer, span: Span, number: int) -> Iterator[str]:
    return (data[start:end].decode() for start, end in _messages(data, span, number))


def _numbers(data: Buffer, span: Span, number: int) -> Iterator[int]:
    return (varint(data, s[0])[0] for n, wire, s in fields(data, span) if n == number and wire == VARINT)


def _place(data: Buffer, tensor: Span) -> tuple[str, int] | None:
    """The file that holds a tensor, and where in it the tensor ends."""
    entries = [[next(_texts(data, e, n), "") for n in (1, 2)] for e in _messages(data, tensor, _TENSOR_EXTERNAL)]
    found = dict(entries)
    if "location" not in found:
        return None
    sizes = [int(found.get(key) or 0) for key in ("offset", "length")]
    if min(sizes) < 0:
        raise ValueError("a negative offset")
    return found["location"], sum(sizes)


def _tensor(data: Buffer, value: Span) -> Tensor:
    name = next(_texts(data, value, 1), "")
    for kind in _messages(data, value, 2):
        for tensor in _messages(data, kind, 1):
            element = structure_table().elements.get(next(_numbers(data, tensor, 1), 0))
            shape = next(_messages(data, tensor, 2), None)
            if shape is None:
                return Tensor(name, element, None)
            return Tensor(name, element, _shape(data, shape), _first_axis(data, shape))
    return Tensor(name, None, None)


def _shape(data: Buffer, shape: Span) -> tuple[int | None, ...]:
    sizes = (next(_numbers(data, dimension, 1), None) for dimension in _messages(data, shape, 1))
    return tuple(size if size and size < 1 << 63 else None for size in sizes)


def _first_axis(data: Buffer, shape: Span) -> str | None:
    first = next(_messages(data, shape, 1), None)
    if first is None or next(_numbers(data, first, 1), 0):
        return None
    return next(_texts(data, first, 2), "")
