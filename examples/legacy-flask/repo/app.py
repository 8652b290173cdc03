"""Which of three cultivars is this wine from? A small HTTP service around models/wine.onnx."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

MODEL_PATH = Path(__file__).parent / "models" / "wine.onnx"
MEASUREMENTS = 13


class WineModel:
    """The model and how a request becomes its input."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(self, payload: object) -> dict[str, list[object]]:
        """Answer ``{"wines": [[13 measurements], ...]}``; a ValueError says what is wrong with the payload."""
        cultivars, probabilities = self._session.run(None, {"measurements": read_wines(payload)})
        return {"cultivars": cultivars.tolist(), "probabilities": probabilities.tolist()}


def read_wines(payload: object) -> np.ndarray:
    """Return the measurements that the payload carries, one row a wine."""
    if not isinstance(payload, dict) or "wines" not in payload:
        raise ValueError('expected {"wines": [[...], ...]}')
    try:
        wines = np.array(payload["wines"], dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError("every wine must be a list of numbers, all of the same length") from None
    if wines.ndim != 2 or wines.shape[1] != MEASUREMENTS:
        raise ValueError(f"expected {MEASUREMENTS} measurements a wine")
    if not np.isfinite(wines).all():
        raise ValueError("measurements must be finite numbers")
    return wines


def load_model() -> WineModel:
    """Load the model."""
    return WineModel(MODEL_PATH)


app = Flask(__name__)
model = load_model()


@app.get("/healthz")
def healthz() -> Response:
    """Tell that the model is loaded: without it this module would not have been imported."""
    return jsonify(status="ok")


@app.post("/predict")
def predict() -> Response:
    """Classify the wines of the request."""
    return jsonify(model.predict(request.get_json()))


@app.errorhandler(ValueError)
def bad_request(error: ValueError) -> tuple[Response, int]:
    """Say what was wrong with the payload."""
    return jsonify(error=str(error)), 400


@app.errorhandler(HTTPException)
def http_error(error: HTTPException) -> tuple[Response, int]:
    """Answer in JSON where Flask would answer in HTML."""
    return jsonify(error=error.description), error.code or 500
