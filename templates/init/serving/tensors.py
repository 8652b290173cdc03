"""Arrays in and out of the model. Nothing is rounded, truncated or guessed."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from serving.errors import InvalidRequest, NotFinite

Arrays = dict[str, np.ndarray]
FITS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "O"}  # array kind: accepted kinds of JSON values


def size(low: int, high: int | None = None) -> msgspec.Meta:
    """The length of an axis, for the type of a request."""
    return msgspec.Meta(min_length=low, max_length=high)


@dataclass(frozen=True)
class Tensor:
    """An input of the model.

    Attributes:
        dtype: object for text; NumPy's own type pads each text to the longest.
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
    texts = tensor.dtype.kind == "O"
    try:
        given = np.asarray(values, dtype=object if texts else None)
    except ValueError:
        raise InvalidRequest("expected lists of equal lengths", path) from None
    pairs = zip(tensor.shape, given.shape, strict=False)
    if len(tensor.shape) != given.ndim or any(wanted not in (None, length) for wanted, length in pairs):
        shape = [length or "any" for length in tensor.shape]
        raise InvalidRequest(f"expected the shape {shape}, got {list(given.shape)}", path)
    dtype = tensor.dtype
    fits = given.dtype.kind in FITS[dtype.kind] and not (texts and any(type(one) is not str for one in given.flat))
    if given.size == 0 or not fits:
        raise InvalidRequest(f"expected {'text' if texts else dtype} values", path)
    with np.errstate(over="ignore"):
        array = given.astype(dtype, copy=False)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidRequest(f"expected finite numbers in the range of {dtype}", path)
    if dtype.kind in "iu" and given.dtype != dtype and not (array == given).all():
        raise InvalidRequest(f"expected numbers in the range of {dtype}", path)
    return array


def texts_from(raw: bytes, path: str) -> np.ndarray:
    """The texts in bytes, each after its length. Raises InvalidRequest for the caller's mistakes."""
    texts, place = [], 0
    while place < len(raw):
        start, place = place + 4, place + 4 + int.from_bytes(raw[place : place + 4], "little")
        if place > len(raw):
            raise InvalidRequest("a text is longer than the tensor", path)
        try:
            texts.append(raw[start:place].decode())
        except UnicodeDecodeError:
            raise InvalidRequest("a text is not UTF-8", path) from None
    return np.asarray(texts, dtype=object)


def to_bytes(values: np.ndarray | list[str]) -> bytes:
    """Numbers in little-endian order, or texts, each after its length."""
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in map(str.encode, values))


def finite(outputs: Arrays) -> Arrays:
    """The outputs. Raises NotFinite for NaN and infinity."""
    for name, array in outputs.items():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise NotFinite(f"the model output `{name}` contains NaN or infinity")
    return outputs
