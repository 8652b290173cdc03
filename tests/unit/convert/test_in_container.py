"""What a container converts: its libraries, its verdict, and the program that compares; tests/docker runs it."""

import json
import types
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlship.convert import in_container
from mlship.convert.in_container import ComparedModel, ContainerConversion, convert_in_container, libraries_for
from mlship.convert.run import ConversionOptions, convert
from mlship.engine.base import BuildRequest
from mlship.errors import CheckFailed, MlshipError, UsageError
from mlship.project.formats import identify
from mlship.project.training import Training
from tests.helpers.command import mlship_in_process
from tests.helpers.conversions import no_container
from tests.helpers.fakes import FakeEngine

FIXTURES = Path(__file__).parents[2] / "fixtures/convert"
COLUMNS, TWO = FIXTURES / "columns.joblib", FIXTURES / "two.keras"
ROWS = [{"age": 31.5, "city": "a"}]
COMPARED = {
    "rows": 1,
    "largest": 0.0,
    "tolerance": [0.001, 1e-05],
    "outputs": ["predict"],
    "uncompared": [],
    "trusted": [],
    "versions": {"scikit-learn": "1.3.2"},
}


def _program() -> types.ModuleType:
    """The program of the container, which is no module of the package; its folder gets no bytecode."""
    path = Path(__file__).parents[3] / "templates/convert/program.py"
    module = types.ModuleType("conversion_program")
    exec(compile(path.read_text(), path, "exec"), vars(module))
    return module


PROGRAM = _program()


def onnx_bytes() -> bytes:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def wanted(tmp_path: Path, source: Path = COLUMNS, suffix: str = ".onnx", **recorded: object) -> ContainerConversion:
    sample = tmp_path / "rows.json"
    sample.write_text(json.dumps(ROWS))
    training = Training.model_validate({"schema": 1, "packages": {}, **recorded}) if recorded else None
    return ContainerConversion(source, identify(source), tmp_path / f"model{suffix}", sample, training)


def run(engine: FakeEngine, asked: ContainerConversion) -> ComparedModel:
    return convert_in_container(asked, engine, lambda _event: None)


def engine(report: object, model: bytes | None = None) -> FakeEngine:
    """Writes what the container of a conversion writes."""
    return FakeEngine(files={"report.json": json.dumps(report).encode(), "model.onnx": model or onnx_bytes()})


def test_the_verdict_and_the_model_come_out_of_the_container(tmp_path: Path) -> None:
    asked, fake = wanted(tmp_path), engine(COMPARED)
    assert run(fake, asked) == ComparedModel.model_validate(COMPARED)
    assert asked.target.read_bytes() == onnx_bytes()


def test_only_the_step_that_installs_has_a_network(tmp_path: Path) -> None:
    fake = engine(COMPARED)
    run(fake, wanted(tmp_path))
    [request] = fake.requests
    assert isinstance(request, BuildRequest)
    steps = [step for step in request.dockerfile.split("\nRUN ")[1:] if "pip install" not in step]
    assert len(steps) == 3
    assert all(step.startswith("--network=none") for step in steps)
    assert "USER 65532:65532" in request.dockerfile


@pytest.mark.parametrize(
    ("stage", "kind", "hint"),
    [
        ("load", UsageError, "--record"),
        ("key", UsageError, "--key"),
        ("sample", UsageError, "--sample"),
        ("convert", UsageError, ".skops"),
        ("differs", CheckFailed, "keep the original"),
    ],
)
def test_a_refusal_leaves_no_file(tmp_path: Path, stage: str, kind: type[MlshipError], hint: str) -> None:
    asked = wanted(tmp_path)
    with pytest.raises(kind, match="the reason") as caught:
        run(engine({"error": "the reason", "stage": stage}), asked)
    assert hint in (caught.value.hint or "")
    assert not asked.target.exists()


@pytest.mark.parametrize("report", [None, {}, {**COMPARED, "rows": 0}, {**COMPARED, "outputs": []}, {"error": None}])
def test_without_a_verdict_nothing_is_converted(tmp_path: Path, report: object) -> None:
    asked = wanted(tmp_path)
    with pytest.raises(CheckFailed, match="no report"):
        run(engine(report), asked)
    assert not asked.target.exists()


def test_what_the_container_wrote_has_to_be_of_the_format(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"no \.onnx file"):
        run(engine(COMPARED, COLUMNS.read_bytes()), wanted(tmp_path))


def test_the_library_has_the_version_that_wrote_the_model(tmp_path: Path) -> None:
    libraries = libraries_for(wanted(tmp_path))
    assert libraries.python is None
    assert set(libraries.requirements) == {
        *{"scikit-learn==1.3.2", "numpy<2", "pandas", "joblib", "skl2onnx", "onnxruntime"}
    }
    assert libraries_for(wanted(tmp_path, TWO)).requirements[0] == "keras==3.15.1"


@pytest.mark.parametrize(
    ("version", "python"), [("0.22", "3.8"), ("0.23.2", "3.8"), ("1.1.2", "3.9"), ("1.1.3", None), ("1.9.1", None)]
)
def test_an_old_model_gets_a_python_that_has_wheels_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, python: str | None
) -> None:
    monkeypatch.setattr(in_container, "sklearn_of", lambda _path: version)
    libraries = libraries_for(wanted(tmp_path))
    assert (libraries.python, f"scikit-learn=={version}" in libraries.requirements) == (python, True)


def test_an_older_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_container, "sklearn_of", lambda _path: "0.21.3")
    with pytest.raises(UsageError, match=r"scikit-learn 0\.21\.3 wrote"):
        libraries_for(wanted(tmp_path))


def test_a_python_that_debian_trixie_has_no_image_of_comes_with_bookworm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlship.yaml").write_text("name: x\npython: '3.13'\nbase: {distro: trixie, mirror: mirror.example}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLSHIP_BASE_MIRROR", raising=False)
    for python, base in (
        ("3.9.2", "python:3.9-slim-bookworm"),
        ("3.7.1", "python:3.13-slim-trixie"),
        ("3.11 RUN id", "python:3.13-slim-trixie"),
    ):
        fake = engine(COMPARED)
        run(fake, wanted(tmp_path, packages={}, python=python))
        [request] = fake.requests
        assert isinstance(request, BuildRequest)
        assert f"FROM mirror.example/library/{base} " in request.dockerfile


def test_the_record_of_the_training_says_the_other_versions(tmp_path: Path) -> None:
    packages = {
        "numpy": "1.26.4",
        "scikit-learn": "1.3.2",
        "torch": "2.9.0+cu126",
        "onnx": "1.10",
        "own": "local build",
    }
    libraries = libraries_for(wanted(tmp_path, packages=packages, python="3.9.18"))
    assert (libraries.python, libraries.constraints) == ("3.9", ("numpy==1.26.4",))


def test_options_are_refused_before_a_container_starts(tmp_path: Path) -> None:
    for arguments, said in [
        ((str(COLUMNS), "m.onnx"), "can only be converted by its own libraries"),
        ((str(COLUMNS), "m.onnx", "--sample", "absent.json"), "no file `absent.json`"),
        ((str(COLUMNS), "m.safetensors"), "cannot convert"),
        ((str(COLUMNS.parent), "m.onnx", "--sample", "absent.json"), "is a folder"),
        ((str(TWO), "m.skops"), "cannot convert"),
        ((str(TWO), "m.onnx", "--key", "model"), "`--key` is for files that hold more than a model"),
    ]:
        done = mlship_in_process("convert", *arguments, cwd=tmp_path)
        assert (done.code, said in done.stderr) == (2, True), done.stderr


def test_a_pickle_of_another_library_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04\x8c\x02os\x8c\x06getcwd\x93)R.")
    with pytest.raises(UsageError, match="not a torch state dict"):
        convert(path, tmp_path / "a.onnx", ConversionOptions(sample=path), no_container)


@pytest.mark.parametrize(
    ("module", "name", "suffix", "save"),
    [
        ("lightgbm.sklearn", "LGBMClassifier", ".onnx", "model.booster_.save_model("),
        ("lightgbm.basic", "Booster", ".skops", "model.booster_.save_model("),
        ("xgboost.sklearn", "XGBRegressor", ".onnx", "model.save_model("),
        ("catboost.core", "CatBoostClassifier", ".onnx", "model.save_model("),
    ],
)
@pytest.mark.parametrize("pipeline", [False, True])
def test_boosted_trees_are_refused_at_once_with_their_own_format(
    tmp_path: Path, module: str, name: str, suffix: str, save: str, pipeline: bool
) -> None:
    path = tmp_path / "model.joblib"
    text = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name))
    sklearn = b"\x8c\x10_sklearn_version\x8c\x051.5.2\x860" if pipeline else b""
    path.write_bytes(b"\x80\x04" + sklearn + text + b"\x93)R.")
    with pytest.raises(UsageError, match=f"cannot convert to {suffix}") as refused:
        convert(path, tmp_path / f"m{suffix}", ConversionOptions(sample=path), no_container)
    assert f"`{save}'{tmp_path}/model." in refused.value.hint


Numbers: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
numbers = arrays.arrays(
    np.float64,
    arrays.array_shapes(max_dims=3, max_side=4),
    elements=st.floats(allow_nan=True, allow_infinity=True, width=32),
)


@given(numbers)
def test_equal_outputs_pass(before: Numbers) -> None:
    assert PROGRAM.check("predict", before, before.copy(), 1e-3, 1e-5) == 0
    assert PROGRAM.check("predict", before, before.reshape(len(before), -1), 0, 0) == 0


@given(numbers, st.data())
def test_one_other_number_anywhere_is_refused(before: Numbers, data: st.DataObject) -> None:
    place = tuple(data.draw(st.integers(0, side - 1)) for side in before.shape)
    after = before.copy()
    moved = before[place] + max(1e-4, abs(before[place]) * 0.01) if np.isfinite(before[place]) else 0.0
    after[place] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, moved])) if moved else moved
    with pytest.raises(PROGRAM.Refused, match="differs in 1 of"):
        PROGRAM.check("predict", before, after, 1e-3, 1e-5)


whole_numbers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5)


@given(whole_numbers, st.integers(1, 50), st.data())
def test_another_class_is_no_small_difference(classes: list[int], distance: int, data: st.DataObject) -> None:
    """Class 94110 is another one than 94103, however near."""
    before = np.array(classes, dtype=np.int64)
    assert PROGRAM.check("predict", before, before.reshape(-1, 1), 1e-3, 1e-5) == 0
    after = before.copy()
    after[data.draw(st.integers(0, len(classes) - 1))] ^= distance
    with pytest.raises(PROGRAM.Refused, match="differs in 1 of"):
        PROGRAM.check("predict", before, after, 1e-3, 1e-5)


def test_the_classes_of_a_classifier_are_whole_numbers() -> None:
    """Labels of a CSV file are often floats."""
    classifier = SimpleNamespace(classes_=np.array([0.0, 94103.0]), predict=lambda _: np.array([94103.0]))
    assert PROGRAM.sklearn_outputs(classifier, None)["predict"].dtype.kind == "i"
    regressor = SimpleNamespace(predict=lambda _: np.array([94103.0]))
    assert PROGRAM.sklearn_outputs(regressor, None)["predict"].dtype.kind == "f"
    binarizer = SimpleNamespace(classes_=np.array([0.0, 1.0]), transform=lambda _: np.array([[1]]))
    assert [*PROGRAM.sklearn_outputs(binarizer, None)] == ["transform"]


@given(st.lists(st.text(), min_size=1), st.data())
def test_one_other_label_is_refused(labels: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(labels) - 1))
    before = PROGRAM.storable(np.array(labels, dtype=object))
    assert PROGRAM.check("predict", before, np.array(labels, dtype=object), 1e-3, 1e-5) == 0
    with pytest.raises(PROGRAM.Refused, match="differs in 1 of"):
        PROGRAM.check(
            "predict",
            before,
            np.array([*labels[:place], labels[place] + "x", *labels[place + 1 :]], dtype=object),
            0,
            0,
        )


@pytest.mark.parametrize("after", [np.zeros((3, 2)), np.zeros(0), np.zeros((1, 4))])
def test_another_shape_is_refused(after: Numbers) -> None:
    with pytest.raises(PROGRAM.Refused, match="has the shape"):
        PROGRAM.check("predict", np.zeros((2, 2)), after, 1e-3, 1e-5)


@pytest.mark.parametrize("rows", [None, [], 3, [[1], [2, 3]], [[[1]]], [[None]], "text"])
def test_a_sample_that_is_no_table_is_refused(rows: object) -> None:
    with pytest.raises(PROGRAM.Refused):
        PROGRAM.table_of(rows)


def test_what_a_library_raises_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_arguments: str) -> None:
        raise KeyError("a layer")

    for action, stage in (("write", "convert"), ("compare", "differs")):
        monkeypatch.setattr(PROGRAM, action, raises)
        PROGRAM.main(action, "model.pkl", str(tmp_path / "report.json"))
        assert json.loads((tmp_path / "report.json").read_text()) == {"error": "KeyError: 'a layer'", "stage": stage}


class _Estimator:
    def predict(self) -> None: ...


@pytest.mark.parametrize(
    ("content", "key"), [(_Estimator(), ""), ({"model": _Estimator()}, "model"), (("x", _Estimator()), "1")]
)
def test_an_estimator_is_found_in_what_was_pickled(content: object, key: str) -> None:
    assert isinstance(PROGRAM.part(content, key), _Estimator)


@pytest.mark.parametrize(
    ("content", "key", "stage"),
    [
        ({"model": _Estimator(), "columns": []}, "", "key"),
        ({"model": _Estimator(), "columns": []}, "columns", "key"),
        (_Estimator(), "model", "key"),
        ({"columns": []}, "", "load"),
        (None, "", "load"),
    ],
)
def test_no_other_part_is_converted(content: object, key: str, stage: str) -> None:
    with pytest.raises(PROGRAM.Refused) as caught:
        PROGRAM.part(content, key)
    assert caught.value.stage == stage


def test_an_output_that_the_converted_model_lacks_is_no_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A skops file whose model has no `predict_proba` any more."""
    written = {"outputs": ["predict", "predict_proba"], "trusted": []}
    (tmp_path / "written.json").write_text(json.dumps(written))
    (tmp_path / "rows.json").write_text("[[1]]")
    np.savez(tmp_path / "arrays.npz", out0=np.zeros(1), out1=np.zeros((1, 2)))
    found = {"predict": np.zeros(1)}
    monkeypatch.setattr(PROGRAM, "loaded", lambda _target: _Estimator())
    monkeypatch.setattr(PROGRAM, "sklearn_outputs", lambda _model, _table: found)
    with pytest.raises(PROGRAM.Refused, match="1 outputs instead of 2"):
        PROGRAM.compare("model.skops", str(tmp_path / "rows.json"), str(tmp_path))
    found["predict_proba"] = np.zeros((1, 2))
    assert PROGRAM.compare("model.skops", str(tmp_path / "rows.json"), str(tmp_path))["rows"] == 1
