"""Requests with zeros, in the shape of a model's inputs."""

import json
from math import prod
from typing import TypeAlias

from mlship.project.onnx_header import OnnxHeader, Tensor

Nested: TypeAlias = "float | int | bool | str | list[Nested]"
_LARGEST_SAMPLE = 200_000  # numbers in the file


def made_up_sample(header: OnnxHeader) -> str | None:
    """JSON with zeros for every input; None if a shape or type is unknown or too large."""
    shapes = {tensor.name: _shape(tensor) for tensor in header.inputs}
    if not shapes or None in shapes.values() or any(_zero(tensor) is None for tensor in header.inputs):
        return None
    if sum(prod(shape) for shape in shapes.values() if shape is not None) > _LARGEST_SAMPLE:
        return None
    values = {t.name: _filled(shape, zero) for t in header.inputs
              if (shape := shapes[t.name]) is not None and (zero := _zero(t)) is not None}  # fmt: skip
    return json.dumps(values) + "\n"


def zeros(shape: list[int]) -> Nested:
    """Nested lists of zeros."""
    return _filled(shape, 0.0)


def _shape(tensor: Tensor) -> list[int] | None:
    """Use 1 for an open batch size or sequence length; other open dimensions have no sensible default."""
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
