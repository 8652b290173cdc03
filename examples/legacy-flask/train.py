"""Create repo/models/wine.onnx, and a sample request from wines that it was not trained on.

pip install scikit-learn==1.9.1 skl2onnx==1.20.0 && python train.py
"""

import json
from pathlib import Path

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

REPO = Path(__file__).resolve().parent / "repo"
SEED = 0


def main() -> None:
    """Train on three quarters of the data, check on the rest, export."""
    data, cultivars = load_wine(return_X_y=True)
    train_data, test_data, train_cultivars, test_cultivars = train_test_split(
        data.astype(np.float32), cultivars, test_size=0.25, random_state=SEED, stratify=cultivars
    )
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train_data, train_cultivars)
    print(f"accuracy on {len(test_data)} unseen wines: {model.score(test_data, test_cultivars):.3f}")
    onnx_model = convert_sklearn(
        model,
        name="wine",
        initial_types=[("measurements", FloatTensorType([None, data.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": 18, "ai.onnx.ml": 3},
    )
    (REPO / "models" / "wine.onnx").write_bytes(onnx_model.SerializeToString(deterministic=True))
    request = {"wines": [[round(float(value), 2) for value in wine] for wine in test_data[:2]]}
    (REPO / "examples" / "request.json").write_text(json.dumps(request) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
