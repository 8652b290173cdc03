"""Arrays in and out of the model. Nothing is rounded, truncated or guessed."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from serving.errors import InvalidRequest, NotFinite

Arrays = dict[str, np.ndarray]
FITS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "U": "U"}  # array kind: accepted kinds of JSON values


def size(low: int, high: int | None = None) -> msgspec.Meta:
    """The length of an axis, for the type of a request."""
    return msgspec.Meta(min_length=low, max_length=high)


@dataclass(frozen=True)
class Tensor:
    """An input of the model.

    Attributes:
        shape: None for an axis of any length.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]


def to_arrays(payload: Mapping[str, object], inputs: Mapping[str, Tensor]) -> Arrays:
    """The arrays of a request. Raises InvalidRequest for the caller's mistakes."""
    if set(payload) != set(inputs):
        raise InvalidRequest(f"expected exactly these inputs: {', '.join(inputs)}")
    return {name: to_array(payload[name], tensor, f"$.{name}") for name, tensor in inputs.items()}


def to_array(values: object, tensor: Tensor, path: str) -> np.ndarray:
    """The array of an input. Raises InvalidRequest for the caller's mistakes."""
    try:
        given = np.asarray(values)
    except ValueError:
        raise InvalidRequest("expected lists of equal lengths", path) from None
    pairs = zip(tensor.shape, given.shape, strict=False)
    if len(tensor.shape) != given.ndim or any(wanted not in (None, length) for wanted, length in pairs):
        shape = [length or "any" for length in tensor.shape]
        raise InvalidRequest(f"expected the shape {shape}, got {list(given.shape)}", path)
    dtype = tensor.dtype
    if given.size == 0 or given.dtype.kind not in FITS[dtype.kind]:
        raise InvalidRequest(f"expected {dtype} values", path)
    with np.errstate(over="ignore"):
        array = given.astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(f"expected finite numbers in the range of {dtype}", path)
    if dtype.kind in "iu" and given.dtype != dtype and not (array == given).all():
        raise InvalidRequest(f"expected numbers in the range of {dtype}", path)
    return array


def finite(outputs: Arrays) -> Arrays:
    """The outputs. Raises NotFinite for NaN and infinity."""
    for name, array in outputs.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFinite(f"the model output `{name}` contains NaN or infinity")
    return outputs
