"""`mlship convert` with the real libraries: scikit-learn to ONNX and skops, Keras to ONNX."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from mlship.project.formats import identify
from tests.helpers.command import mlship

pytestmark = pytest.mark.docker
FIXTURES = Path(__file__).parents[1] / "fixtures/convert"
COLUMNS = FIXTURES / "columns.joblib"
ROWS = [{"age": 31.5, "city": "a"}, {"age": 20.0, "city": "elsewhere"}]


def test_scikit_learn_becomes_onnx_with_the_libraries_of_its_training(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    content = COLUMNS.read_bytes()
    file = {"sha256": sha256(content).hexdigest(), "size": len(content)}
    record = {"schema": 1, "packages": {"numpy": "1.26.3", "scikit-learn": "1.3.2"}, "files": {COLUMNS.name: file}}
    (tmp_path / "metadata.json").write_text(json.dumps(record))
    (tmp_path / "out").mkdir()
    arguments = (str(COLUMNS), "out/model.onnx", "--sample", "rows.json", "--record", "metadata.json", "--json")
    done = mlship("convert", *arguments, cwd=tmp_path)
    assert done.code == 0, done.stderr
    compared = json.loads(done.stdout)["outputs"]
    assert (compared["outputs"], compared["rows"]) == (["predict", "predict_proba"], 2)
    assert compared["versions"].items() >= {"scikit-learn": "1.3.2", "numpy": "1.26.3"}.items()
    written = json.loads((tmp_path / "out/metadata.json").read_text())
    assert (list(written["files"]), written["converted"]["sha256"]) == (["model.onnx"], file["sha256"])

    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    table = {"age": np.array([[31.5], [20.0]], np.float32), "city": np.array([["a"], ["elsewhere"]], object)}
    labels, probabilities = session.run(None, table)
    assert list(labels) == ["no", "yes"]  # as scikit-learn says
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_scikit_learn_becomes_skops(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    done = mlship("convert", str(COLUMNS), "model.skops", "--sample", "rows.json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "compared on 2 rows of the sample: the same bit for bit" in done.stdout
    assert identify(tmp_path / "model.skops") == "skops"


def test_a_sample_of_another_model_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"age": 31.5, "country": "a"}]')
    done = mlship("convert", str(COLUMNS), "model.skops", "--sample", "rows.json", cwd=tmp_path)
    assert (done.code, "`predict` of the model refuses the sample" in done.stderr) == (2, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_keras_becomes_onnx(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('{"one": [[1, 2, 3], [0, 0, 1]], "two": [[1, 2], [0.5, -1]]}')
    done = mlship("convert", str(FIXTURES / "two.keras"), "model.onnx", "--sample", "rows.json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "compared on 2 rows of the sample: largest difference" in done.stdout
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    one, two = np.ones((5, 3), np.float32), np.ones((5, 2), np.float32)
    assert [output.shape for output in session.run(None, {"one": one, "two": two})] == [(5, 3), (5, 1)]


def test_keras_2_becomes_onnx(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[[1, 2, 3], [0.5, 0, -1]]")
    done = mlship("convert", str(FIXTURES / "legacy.h5"), "model.onnx", "--sample", "rows.json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert "tf-keras 2." in done.stdout
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    [found] = session.run(None, {session.get_inputs()[0].name: np.ones((4, 3), np.float32)})
    assert (found.shape, np.allclose(found.sum(axis=1), 1)) == ((4, 2), True)
