"""Open Inference Protocol v2 (KServe, Triton): JSON, and the binary tensor extension.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import numpy as np

from serving.errors import InvalidRequest
from serving.schema import to_plain
from serving.tensors import Arrays, Tensor, to_array

DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "u2", "UINT32": "u4", "UINT64": "u8", "INT8": "i1", "INT16": "i2",
    "INT32": "i4", "INT64": "i8", "FP16": "f2", "FP32": "f4", "FP64": "f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in DATATYPES.items()}
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


def decode(body: bytes, header: str | None) -> tuple[InferRequest, Arrays]:
    """The request and its arrays. With the header Inference-Header-Content-Length, raw tensors follow the JSON."""
    end = len(body)
    if header is not None:
        if not header.isdecimal() or len(header) > 15 or int(header) > end:
            raise InvalidRequest("Inference-Header-Content-Length is not a length within the body")
        end = int(header)
    try:
        request = _decoder.decode(body[:end])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidRequest(message, path.rstrip("`") or "$") from None
    arrays: Arrays = {}
    for number, given in enumerate(request.inputs):
        path = f"$.inputs[{number}]"
        if given.name in arrays:
            raise InvalidRequest(f"duplicate input `{given.name}`", path)
        size = given.parameters.get("binary_data_size")
        if size is None:
            arrays[given.name] = _from_json(given, path)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(body) - end:
            raise InvalidRequest("binary_data_size is not a length within the body", path)
        arrays[given.name] = _from_bytes(given, body[end : end + size], path)
        end += size
    if header is not None and end != len(body):
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
    if given.datatype != "BYTES":
        dtype = _dtype(given, path)
        if len(raw) != math.prod(given.shape) * dtype.itemsize:
            raise InvalidRequest(f"expected {math.prod(given.shape) * dtype.itemsize} bytes, got {len(raw)}", path)
        if dtype.kind == "b" and any(byte > 1 for byte in raw):
            raise InvalidRequest("expected BOOL values, 0 or 1", path)
        return _shaped(given, np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False), path)
    texts, place = [], 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        if place + 4 + length > len(raw):
            raise InvalidRequest("a text is longer than the tensor", path)
        try:
            texts.append(raw[place + 4 : place + 4 + length].decode())
        except UnicodeDecodeError:
            raise InvalidRequest("a text is not UTF-8", path) from None
        place += 4 + length
    return _shaped(given, np.asarray(texts, dtype=object), path)


def _dtype(given: Input, path: str) -> np.dtype:
    if given.datatype not in DATATYPES:
        raise InvalidRequest(f"unsupported datatype; expected BYTES or one of {', '.join(DATATYPES)}", path)
    return np.dtype(DATATYPES[given.datatype])


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
            raw.append(_to_bytes(array))
            tensors.append({**tensor, "parameters": {"binary_data_size": len(raw[-1])}})
        else:
            data = _texts(array) if tensor["datatype"] == "BYTES" else array.ravel().tolist()
            tensors.append({**tensor, "data": data})
    named = {"id": request.id} if request.id else {}
    head = msgspec.json.encode({**model, **named, "outputs": tensors})
    return b"".join((head, *raw)), len(head) if raw else None


def _to_bytes(array: np.ndarray) -> bytes:
    if datatype(array.dtype) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [value.encode() for value in _texts(array)]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _texts(array: np.ndarray) -> list[str]:
    """The elements as text; maps, such as the probabilities of a classifier, as JSON."""
    elements = map(to_plain, array.ravel().tolist())
    return [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in elements]


def datatype(dtype: np.dtype) -> str:
    """The protocol's name of a type; texts and objects are BYTES."""
    return _NAMES.get(dtype, "BYTES")


def metadata(inputs: Mapping[str, Tensor], example: Arrays, *, batches: bool) -> dict[str, object]:
    """The tensors of a model; the outputs are described by those of the sample."""
    given = [(name, tensor.dtype, [-1 if n is None else n for n in tensor.shape]) for name, tensor in inputs.items()]
    arrays = {name: np.asarray(output) for name, output in example.items()}
    returned = [
        (name, a.dtype, [-1 if batches else len(a), *a.shape[1:]] if a.ndim else []) for name, a in arrays.items()
    ]
    return {"platform": "python", "inputs": [*map(_described, given)], "outputs": [*map(_described, returned)]}


def _described(tensor: tuple[str, np.dtype, list[int]]) -> dict[str, object]:
    name, dtype, shape = tensor
    return {"name": name, "datatype": datatype(dtype), "shape": shape}
