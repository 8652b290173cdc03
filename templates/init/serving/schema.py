"""Requests and responses as JSON: strict on the way in, never NaN on the way out."""

import math
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec

from serving.errors import InvalidRequest, NotFinite
from serving.model import Request

T = TypeVar("T")
_LISTS = (Sequence, AbstractSet, ValuesView, Iterator)  # the list of another iterable may lose data, as a table's
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Request)


def decode(body: bytes) -> Any:
    """Parse and validate a body in one pass; an object becomes a dict of the fields that are set, by JSON name."""
    request = parse(_decoder, body)
    if not isinstance(request, msgspec.Struct):
        return request
    fields = zip(request.__struct_encode_fields__, request.__struct_fields__, strict=True)
    values = ((name, getattr(request, attribute)) for name, attribute in fields)
    return {name: value for name, value in values if value is not msgspec.UNSET}


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body. Raises InvalidRequest with the path of the field."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidRequest(message, path.rstrip("`") or "$") from None


def to_plain(value: object) -> Any:
    """Turn what libraries return into lists, dicts, numbers and text. Raises NotFinite for NaN and infinity."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise NotFinite("the model output contains NaN or infinity")
        return value
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): to_plain(one) for name, one in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, _LISTS) and not isinstance(value, bytes | bytearray):
        return [to_plain(one) for one in value]
    raise TypeError(f"the model returned {type(value).__name__}; return numbers, text, lists, dicts or arrays")
