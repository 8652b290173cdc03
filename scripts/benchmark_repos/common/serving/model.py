"""The model that every contestant serves: ONNX with separate weights, and the imports of a real service."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pandas as pd
from safetensors.numpy import load_file
from scipy.special import entr
from sklearn.utils import check_array

REVISION = "0"
WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


class Digits:
    """Handwritten digits; `predict` takes {"pixels": [[...]]} and returns nested lists."""

    def __init__(self, weights: Path) -> None:
        self._session = ort.InferenceSession(weights / "model.onnx", providers=["CPUExecutionProvider"])
        self._table = load_file(weights / "table.safetensors")["table"]

    def predict(self, request: dict) -> dict:
        frame = pd.DataFrame(request["pixels"])
        pixels = check_array(frame.to_numpy(np.float32))
        label, probabilities = self._session.run(None, {"pixels": pixels})
        return {
            "label": label.tolist(),
            "probabilities": probabilities.tolist(),
            "entropy": entr(probabilities).sum(axis=1).tolist(),
            "row": [int(self._table[value, 0]) for value in label],
        }


def load(weights: Path = WEIGHTS) -> Digits:
    return Digits(weights)
