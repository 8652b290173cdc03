"""Train a classifier of handwritten digits and export it to ONNX.

    pip install -r requirements-train.txt && python train.py

Writes three files next to this script: ``model.onnx``, ``sample.json`` (one request) and
``golden.json`` (the model's answer to it).
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler

HERE = Path(__file__).parent
SEED = 0
PIXELS = 64  # 8 x 8, each from 0 to 16
SAMPLE_ROWS = 2
LEAST_ACCURACY = 0.97

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


def train(pixels: Floats, labels: Labels) -> Pipeline:
    """Scale the pixels to 0..1 and fit a small neural network."""
    network = MLPClassifier(hidden_layer_sizes=(128, 64), max_iter=400, random_state=SEED)
    return make_pipeline(MinMaxScaler(), network).fit(pixels, labels)


def export(model: Pipeline) -> bytes:
    """Return the model as ONNX: ``pixels`` in, ``label`` and ``probabilities`` out."""
    onnx_model = convert_sklearn(
        model,
        name="digits",
        initial_types=[("pixels", FloatTensorType([None, PIXELS]))],
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    return onnx_model.SerializeToString(deterministic=True)


def predict(onnx_model: bytes, pixels: Floats) -> dict[str, NDArray[np.generic]]:
    """Run the exported model as a server does; return every output by name."""
    session = ort.InferenceSession(onnx_model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def write_json(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write named arrays as nested lists."""
    lists = {name: array.tolist() for name, array in arrays.items()}
    path.write_text(json.dumps(lists) + "\n", encoding="utf-8")


def main() -> None:
    """Train, export, check the export on unseen digits, and write the files."""
    data, target = load_digits(return_X_y=True)
    pixels, labels = data.astype(np.float32), target.astype(np.int64)
    train_pixels, test_pixels, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=0.25, random_state=SEED, stratify=labels
    )

    onnx_model = export(train(train_pixels, train_labels))
    accuracy = float(np.mean(predict(onnx_model, test_pixels)["label"] == test_labels))
    print(f"accuracy of the ONNX model on {len(test_labels)} unseen digits: {accuracy:.3f}")
    if accuracy < LEAST_ACCURACY:
        raise SystemExit(f"refusing to export: accuracy is below {LEAST_ACCURACY}")

    sample = test_pixels[:SAMPLE_ROWS]
    (HERE / "model.onnx").write_bytes(onnx_model)
    write_json(HERE / "sample.json", {"pixels": sample})
    write_json(HERE / "golden.json", predict(onnx_model, sample))


if __name__ == "__main__":
    main()
