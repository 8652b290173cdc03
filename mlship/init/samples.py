"""A sample request made up from an ONNX model's input shapes, where they leave nothing open but the batch. Pure."""

import json
from math import prod
from typing import TypeAlias

from mlship.project.onnx_header import OnnxHeader, Tensor

_LARGEST = 200_000  # numbers in the file

Nested: TypeAlias = "float | int | bool | str | list[Nested]"


def made_up_sample(header: OnnxHeader) -> str | None:
    """JSON with zeros for every input; None where a shape or a type does not say enough."""
    shapes = {tensor.name: _shape(tensor) for tensor in header.inputs}
    if not shapes or None in shapes.values() or any(_zero(tensor) is None for tensor in header.inputs):
        return None
    if sum(prod(shape) for shape in shapes.values() if shape is not None) > _LARGEST:
        return None
    values = {t.name: _filled(shape, zero) for t in header.inputs
              if (shape := shapes[t.name]) is not None and (zero := _zero(t)) is not None}  # fmt: skip
    return json.dumps(values) + "\n"


def _shape(tensor: Tensor) -> list[int] | None:
    """One for the batch, and for the length of a sequence; an open height or width is nobody's guess."""
    if tensor.shape is None:
        return None
    free = 2 if len(tensor.shape) <= 2 else 1
    known = all(size is not None for size in tensor.shape[free:])
    return [size or 1 for size in tensor.shape] if known else None


def _zero(tensor: Tensor) -> float | bool | str | None:
    match tensor.element:
        case "float" | "double" | "float16":
            return 0.0
        case "bool":
            return False
        case "string":
            return "text"
        case str() as element if "int" in element:
            return 0
        case _:
            return None


def _filled(shape: list[int], zero: float | bool | str) -> Nested:
    value: Nested = zero
    for size in reversed(shape):
        value = [value] * size
    return value
