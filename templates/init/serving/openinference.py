"""Open Inference Protocol v2 (KServe, Triton): JSON, and the binary tensor extension.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from serving.errors import InvalidRequest
from serving.predictor import Predictor
from serving.schema import parse
from serving.tensors import Arrays, to_array

Length = Annotated[int, Meta(ge=0, le=1 << 40)]


class Parameters(msgspec.Struct, frozen=True):
    """What a request, an input or an output may say about raw tensors."""

    binary_data_size: Length | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class Output(msgspec.Struct, kw_only=True):
    """A tensor that is asked for."""

    name: str
    parameters: Parameters = Parameters()


class Input(Output, kw_only=True):
    """A tensor of a request."""

    shape: list[Length]
    datatype: Annotated[str, Meta(pattern="^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BYTES)$")]
    data: msgspec.Raw = msgspec.Raw(b"null")


class InferRequest(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Input]
    outputs: list[Output] = []
    id: str = ""
    parameters: Parameters = Parameters()


_decoder = msgspec.json.Decoder(InferRequest)


def decode(body: bytes, length: str) -> tuple[InferRequest, Arrays]:
    """The request and its arrays. With the header Inference-Header-Content-Length, raw tensors follow the JSON."""
    if length and not (length.isdecimal() and len(length) <= 15 and int(length) <= len(body)):
        raise InvalidRequest("Inference-Header-Content-Length is not a length within the body")
    end = int(length) if length else len(body)
    request = parse(_decoder, body[:end])
    arrays: Arrays = {}
    for number, given in enumerate(request.inputs):
        path, size = f"$.inputs[{number}]", given.parameters.binary_data_size
        if given.name in arrays:
            raise InvalidRequest(f"duplicate input `{given.name}`", path)
        dtype = np.dtype(object if given.datatype == "BYTES" else given.datatype.lower().replace("fp", "float"))
        try:
            values = _from_json(given.data, dtype) if size is None else _from_bytes(body[end : end + size], dtype)
            arrays[given.name] = to_array(values, dtype, f"{path}.data").reshape(given.shape)  # JSON may be flat
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(str(error), path) from None
        end += size or 0
    if end != len(body):
        raise InvalidRequest("the body does not end with the last tensor")
    return request, arrays


def _from_json(data: msgspec.Raw, dtype: np.dtype) -> object:
    if dtype.kind != "O" and b'"' in bytes(data):  # NumPy would pad each text to the longest
        raise ValueError("expected numbers")
    return msgspec.json.decode(data)


def _from_bytes(raw: bytes, dtype: np.dtype) -> object:
    if dtype.kind == "O":
        return [*_texts_from(raw)]
    if dtype.kind == "b" and raw.translate(None, b"\0\1"):
        raise ValueError("expected BOOL values, 0 or 1")
    return np.frombuffer(raw, dtype.newbyteorder("<"))


def _texts_from(raw: bytes) -> Iterator[str]:
    """Texts, each after its length."""
    end = 0
    while end < len(raw):
        start = end + 4
        end = start + int.from_bytes(raw[end:start], "little")
        if end > len(raw):
            raise ValueError("a text is longer than the tensor")
        yield raw[start:end].decode()


def encode(request: InferRequest, outputs: Arrays, model: dict[str, str]) -> tuple[bytes, int | None]:
    """The body of a response, and the length of its JSON if raw tensors follow."""
    asked = {output.name: output.parameters.binary_data for output in request.outputs} or dict.fromkeys(outputs)
    if unknown := asked.keys() - outputs.keys():
        raise InvalidRequest(f"unknown outputs: {', '.join(sorted(unknown))}", "$.outputs")
    raw: list[bytes] = []
    tensors = []
    for name, binary in asked.items():
        array = _texts(outputs[name]) if outputs[name].dtype.kind == "O" else outputs[name]
        tensor = _described(name, array.dtype, array.shape)
        if request.parameters.binary_data_output if binary is None else binary:
            raw.append(_to_bytes(array))
            tensors.append({**tensor, "parameters": {"binary_data_size": len(raw[-1])}})
        else:
            tensors.append({**tensor, "data": array.ravel().tolist()})
    head = msgspec.json.encode({**model, **({"id": request.id} if request.id else {}), "outputs": tensors})
    return b"".join((head, *raw)), len(head) if raw else None


def _texts(array: np.ndarray) -> np.ndarray:
    """Maps, such as the probabilities of a classifier, become JSON."""
    texts = [one if isinstance(one, str) else msgspec.json.encode(one).decode() for one in array.ravel().tolist()]
    return np.asarray(texts, dtype=object).reshape(array.shape)


def _to_bytes(array: np.ndarray) -> bytes:
    """Numbers in little-endian order, or texts, each after its length."""
    if array.dtype.kind == "O":
        return b"".join(len(text).to_bytes(4, "little") + text for text in map(str.encode, array.flat))
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def describe(predictor: Predictor) -> dict[str, object]:
    """The tensors of a model; outputs as those of the sample, with -1 for a length that varies."""
    inputs = [_described(name, one.dtype, one.shape) for name, one in predictor.inputs.items()]
    outputs = []
    for name, array in predictor.example.items():
        shape = (None, *array.shape[1:]) if predictor.batches and array.ndim else array.shape
        outputs.append(_described(name, array.dtype, shape))
    return {"platform": "python", "inputs": inputs, "outputs": outputs}


def _described(name: str, dtype: np.dtype, shape: Sequence[int | None]) -> dict[str, object]:
    datatype = dtype.name.upper().replace("FLOAT", "FP") if dtype.kind in "fiub" else "BYTES"
    return {"name": name, "datatype": datatype, "shape": [-1 if length is None else length for length in shape]}
