"""The drift metrics of the generated server: inputs and outputs beside the statistics of the training."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers.generated_server import initialised, served
from tests.helpers.repos import onnx_bytes

Samples = dict[tuple[str, ...], float]


def training(values: NDArray[np.float32]) -> dict[str, object]:
    """The statistics of a feature."""
    deciles = np.quantile(values, np.linspace(0.1, 0.9, 9)).tolist()
    return {"deciles": deciles, "mean": float(values.mean()), "variance": float(values.var())}


def samples(page: str, *labels: str) -> Samples:
    """The samples of a metrics page, by name and the values of some labels."""
    every = (one for family in text_string_to_metric_families(page) for one in family.samples)
    return {(one.name, *(one.labels.get(label, "") for label in labels)): one.value for one in every}


def test_arrays_are_counted_as_numpy_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    trained = random.normal(size=(500, 4)).astype(np.float32)
    statistics: dict[str, dict[str, dict[str, object]]] = {
        "inputs": {f"x[{column}]": training(trained[:, column]) for column in range(4)},
        "outputs": {"y": training(trained.sum(1))},
    }
    files: dict[str, str | bytes] = {
        "model.onnx": onnx_bytes(),
        "metadata.json": json.dumps({"statistics": statistics}),
    }
    repo = initialised(tmp_path, files)
    assert "source: [metadata.json, serving]\n" in (repo / "mlship.yaml").read_text()
    rows = np.concatenate([trained[:30], random.normal(1, 2, (30, 4)).astype(np.float32)])
    with served(repo, MODEL_VERSION="7") as server:
        server.wait("/health/ready", 200)
        for part in np.split(rows, 6):
            assert server.ask("/predict", json.dumps({"x": part.tolist()}).encode())[0] == 200
        assert server.ask("/predict", b'{"x": [[1, 2, 3]]}')[0] == 422  # not counted, like the warm-up
        found = samples(server.ask("/metrics")[1], "model_version", "side", "feature", "le", "bin")
    columns = {("input", f"x[{number}]"): rows[:, number] for number in range(4)}
    for (side, name), values in (columns | {("output", "y"): np.repeat(rows.sum(1), 2)}).items():
        at = ("7", side, name)
        edges = statistics[f"{side}s"][name]["deciles"]
        assert isinstance(edges, list)
        counted = [found["serving_value_bucket", *at, str(edge), ""] for edge in (*edges, "+Inf")]
        assert counted == [*((values <= edge + 1e-6).sum() for edge in edges), len(values)]
        positive, negative = (found[f"serving_value_{sign}_total", *at, "", ""] for sign in ("positive", "negative"))
        assert positive - negative == pytest.approx(values.sum(dtype=float), rel=1e-4)
        squares = (values.astype(float) ** 2).sum()
        assert found["serving_value_squares_total", *at, "", ""] == pytest.approx(squares, rel=1e-4)
        assert found["serving_training_share", *at, "", "9"] == 0.1


PLAIN = """
def load(): return predict

def predict(payload):
    return [{"label": "b", "score": {"shares": payload["shares"]}["shares"][0]}, {"label": "a"}]
"""


def test_nulls_and_the_entropy_of_plain_requests_are_counted(tmp_path: Path) -> None:
    feature = {"deciles": [1, 2], "mean": 1.5, "variance": 1, "null_rate": 0.25, "shares": [0.5, 0.25, 0.25]}
    statistics = {"inputs": {"age": feature, "none": feature}, "outputs": {"score": feature}}
    files: dict[str, str | bytes] = {
        "plain.py": PLAIN,
        "sample.json": '{"age": 1, "shares": [1.0, 0.0]}',
        "metadata.json": json.dumps({"statistics": {**statistics, "probabilities": "score"}, "name": "ages"}),
    }
    repo = initialised(tmp_path, files)
    with served(repo) as server:
        server.wait("/health/ready", 200)
        for age in (0, 1, 1.5, 2, 3):
            assert server.ask("/predict", json.dumps({"age": age, "shares": [0.5]}).encode())[0] == 200
        found = samples(server.ask("/metrics")[1], "feature", "le", "bin")
    ages = [found["serving_value_bucket", "age", edge, ""] for edge in ("1.0", "2.0", "+Inf")]
    assert ages == [2, 4, 5]
    assert found["serving_value_missing_total", "none", "", ""] == 5
    assert found["serving_value_missing_total", "score", "", ""] == 5
    assert found["serving_value_positive_total", "score", "", ""] == 2.5
    assert found["serving_training_share", "age", "", "0"] == 0.5
    assert found["serving_training_null_rate", "age", "", ""] == 0.25
    assert found["serving_prediction_entropy_count", "", "", ""] == 5
