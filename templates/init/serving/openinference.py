"""Open Inference Protocol v2 (KServe, Triton): JSON, and the binary tensor extension.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import math
from typing import Annotated, Any

import msgspec
import numpy as np

from serving.errors import InvalidRequest
from serving.schema import invalid, to_plain
from serving.tensors import Arrays, Tensor, texts_from, to_array, to_bytes

_TYPES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64"
DATATYPES = {name.replace("float", "fp").upper(): np.dtype(name) for name in _TYPES.split()}  # such as FP32
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
Length = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Input(msgspec.Struct):
    """A tensor of a request."""

    name: str
    shape: list[Length]
    datatype: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    parameters: dict[str, Any] = {}


class Output(msgspec.Struct):
    """A tensor that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Input]
    outputs: list[Output] = []
    id: str = ""
    parameters: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(InferRequest)


def decode(body: bytes, header: str) -> tuple[InferRequest, Arrays]:
    """The request and its arrays. With the header Inference-Header-Content-Length, raw tensors follow the JSON."""
    end = len(body)
    if header:
        if not header.isdecimal() or len(header) > 15 or int(header) > end:
            raise InvalidRequest("Inference-Header-Content-Length is not a length within the body")
        end = int(header)
    try:
        request = _decoder.decode(body[:end])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid(error) from None
    arrays: Arrays = {}
    for number, given in enumerate(request.inputs):
        path = f"$.inputs[{number}]"
        if given.name in arrays:
            raise InvalidRequest(f"duplicate input `{given.name}`", path)
        size = given.parameters.get("binary_data_size")
        if size is None:
            arrays[given.name] = _from_json(given, path)
        elif not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(body) - end:
            raise InvalidRequest("binary_data_size is not a length within the body", path)
        else:
            arrays[given.name] = _from_bytes(given, body[end : end + size], path)
            end += size
    if header and end != len(body):
        raise InvalidRequest("the body does not end with the last tensor")
    return request, arrays


def _from_json(given: Input, path: str) -> np.ndarray:
    texts = given.datatype == "BYTES"
    if not texts and b'"' in bytes(given.data):  # NumPy would pad each text to the longest
        raise InvalidRequest("expected numbers", f"{path}.data")
    try:
        array = np.asarray(msgspec.json.decode(given.data), dtype=object if texts else None)
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise InvalidRequest("expected lists of equal lengths", f"{path}.data") from None
    if not texts:
        flat = array.ravel()
        array = to_array(flat, Tensor(_dtype(given, path), flat.shape), f"{path}.data")
    return _shaped(given, array, path)


def _from_bytes(given: Input, raw: bytes, path: str) -> np.ndarray:
    if given.datatype == "BYTES":
        return _shaped(given, texts_from(raw, path), path)
    dtype = _dtype(given, path)
    if len(raw) != (expected := math.prod(given.shape) * dtype.itemsize):
        raise InvalidRequest(f"expected {expected} bytes, got {len(raw)}", path)
    if dtype.kind == "b" and any(byte > 1 for byte in raw):
        raise InvalidRequest("expected BOOL values, 0 or 1", path)
    return _shaped(given, np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False), path)


def _dtype(given: Input, path: str) -> np.dtype:
    if given.datatype not in DATATYPES:
        raise InvalidRequest(f"unsupported datatype; expected BYTES or one of {', '.join(DATATYPES)}", path)
    return DATATYPES[given.datatype]


def _shaped(given: Input, array: np.ndarray, path: str) -> np.ndarray:
    if array.size != math.prod(given.shape):  # the data may be flat
        raise InvalidRequest(f"the shape {given.shape} needs {math.prod(given.shape)} values, got {array.size}", path)
    try:
        return array.reshape(given.shape)
    except ValueError as error:  # too many axes, or too long
        raise InvalidRequest(str(error), path) from None


def encode(request: InferRequest, outputs: Arrays, model: dict[str, str]) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if raw tensors follow."""
    asked = {output.name: output.parameters for output in request.outputs} or dict.fromkeys(outputs, {})
    if unknown := asked.keys() - outputs.keys():
        raise InvalidRequest(f"unknown outputs: {', '.join(sorted(unknown))}", "$.outputs")
    always = request.parameters.get("binary_data_output") is True
    raw: list[bytes] = []
    tensors = []
    for name, parameters in asked.items():
        array = np.asarray(outputs[name])
        tensor = {"name": name, "shape": array.shape, "datatype": datatype(array.dtype)}
        if parameters.get("binary_data", always) is True:
            raw.append(to_bytes(_texts(array) if tensor["datatype"] == "BYTES" else array))
            tensors.append({**tensor, "parameters": {"binary_data_size": len(raw[-1])}})
        else:
            data = _texts(array) if tensor["datatype"] == "BYTES" else array.ravel().tolist()
            tensors.append({**tensor, "data": data})
    head = msgspec.json.encode({**model, **({"id": request.id} if request.id else {}), "outputs": tensors})
    return b"".join((head, *raw)), len(head) if raw else None


def _texts(array: np.ndarray) -> list[str]:
    """The elements as text; maps, such as the probabilities of a classifier, as JSON."""
    elements = map(to_plain, array.ravel().tolist())
    return [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in elements]


def datatype(dtype: np.dtype) -> str:
    """The protocol's name of a type; texts and objects are BYTES."""
    return _NAMES.get(dtype, "BYTES")
