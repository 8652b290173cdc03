"""The model of the peers: the ONNX file, and onnxruntime as its guide sets it up."""

import numpy as np
import onnxruntime as ort


class Digits:
    def __init__(self) -> None:
        self._session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])

    def predict(self, request: dict) -> dict:
        pixels = np.asarray(request["pixels"], np.float32)
        label, probabilities = self._session.run(None, {"pixels": pixels})
        return {"label": label.tolist(), "probabilities": probabilities.tolist()}


def load() -> Digits:
    return Digits()
