"""The least that a Python server can do: raw ASGI, the model in the event loop, no checks, metrics or logs."""

import msgspec
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.intra_op_num_threads = 1
session = ort.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
decoder = msgspec.json.Decoder(dict[str, list[list[float]]])
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}


async def app(scope, receive, send) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    pixels = np.asarray(decoder.decode(body)["pixels"], np.float32)
    label, probabilities = session.run(None, {"pixels": pixels})
    answer = json_bytes(label, probabilities)
    await send({**HEAD, "headers": [*HEAD["headers"], (b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})


def json_bytes(label: np.ndarray, probabilities: np.ndarray) -> bytes:
    return msgspec.json.encode({"label": label.tolist(), "probabilities": probabilities.tolist()})
