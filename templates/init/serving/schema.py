"""Requests and responses as JSON: strict on the way in, never NaN on the way out."""

import math
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from pathlib import PurePath

import msgspec

from serving.errors import InvalidRequest, NotFinite
from serving.model import Request

_LISTS = (Sequence, AbstractSet, ValuesView, Iterator)  # the list of another iterable may lose data, as a table's
_decoder = msgspec.json.Decoder(Request)
_fields = msgspec.structs.fields(Request) if isinstance(Request, type) and issubclass(Request, msgspec.Struct) else ()


def decode(body: bytes) -> object:
    """Parse and validate a body in one pass; an object becomes a dict of the fields that are set, by JSON name."""
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(request, msgspec.Struct):
        return request
    values = ((field.encode_name, getattr(request, field.name)) for field in _fields)
    return {name: value for name, value in values if value is not msgspec.UNSET}


def invalid(error: Exception) -> InvalidRequest:
    """The error of msgspec, with the path of the field apart."""
    message, _, path = str(error).partition(" - at `")
    return InvalidRequest(message, path.rstrip("`") or "$")


def encode(outputs: object) -> bytes:
    """The body of a response with outputs that are plain already."""
    return msgspec.json.encode({"outputs": outputs})


def to_plain(value: object) -> object:
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
