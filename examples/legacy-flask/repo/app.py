"""A small HTTP service around models/wine.onnx, which identifies the cultivar of a wine."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

MODEL_PATH = Path(__file__).parent / "models" / "wine.onnx"
MEASUREMENTS = 13


class WineModel:
    """The model, and the conversion of requests to its input."""

    def __init__(self, path: Path) -> None:
        self._session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])

    def predict(self, payload: object) -> dict[str, list[object]]:
        """Answer ``{"wines": [[13 measurements], ...]}``. A ValueError describes an invalid payload."""
        cultivars, probabilities = self._session.run(None, {"measurements": read_wines(payload)})
        return {"cultivars": cultivars.tolist(), "probabilities": probabilities.tolist()}


def read_wines(payload: object) -> np.ndarray:
    """Return the measurements of the payload, one row for each wine."""
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
    """Report that the model is loaded; otherwise the import of this module would have failed."""
    return jsonify(status="ok")


@app.post("/predict")
def predict() -> Response:
    """Classify the wines of the request."""
    return jsonify(model.predict(request.get_json()))


@app.errorhandler(ValueError)
def bad_request(error: ValueError) -> tuple[Response, int]:
    """Describe the invalid payload."""
    return jsonify(error=str(error)), 400


@app.errorhandler(HTTPException)
def http_error(error: HTTPException) -> tuple[Response, int]:
    """Answer errors in JSON instead of HTML."""
    return jsonify(error=error.description), error.code or 500
