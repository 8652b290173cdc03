"""A model is served with the libraries that it was trained with, or the build is refused."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from mlship.build.prepare import prepare
from mlship.errors import CheckFailed, MlshipError, UsageError
from mlship.files import sha256_file
from mlship.lock.record import Trace, read_record
from mlship.lock.skew import Skew, skews
from mlship.project.metadata import TrainingFeature, TrainingStatistics
from mlship.project.training import Training, read_training
from mlship.resources import template_root
from tests.helpers.locked_repos import locked
from tests.helpers.model_files import npy
from tests.helpers.toy import YAML, toy

HASH = f" --hash=sha256:{'a' * 64}\n"
VERSIONS = st.from_regex(r"(1!)?[0-9]{1,2}(\.[0-9]{1,2}){0,3}(rc[0-9])?(\.post[0-9])?(\+cu[0-9]{3})?", fullmatch=True)


def training(packages: dict[str, str], imported: dict[str, str] | None = None) -> Training:
    return Training.model_validate({"schema": 1, "packages": packages, "imported": imported})


def one(name: str, locked_version: str, trained: Training, modules: tuple[str, ...] | None = None) -> Skew | None:
    served = None if modules is None else {name: modules}
    return next(iter(skews(trained, [(name, locked_version)], served)), None)


@pytest.mark.parametrize(
    ("trained", "locked_version", "breaks"),
    [
        ("1.1.5", "1.3.0", True),  # pandas
        ("1.26.4", "2.0.0", True),
        ("1.7.0", "1.7.2", False),
        ("2.9.0+cu128", "2.9.0+cpu", None),
        ("2.9", "2.9.0", None),
        ("1.0rc1", "1.0", False),
        ("2.4.0-unsupported", "2.4.0", True),
        ("1!2.0", "2.0", True),
    ],
)
def test_major_and_minor_versions_break(trained: str, locked_version: str, breaks: bool | None) -> None:
    skew = one("pandas", locked_version, training({"pandas": trained}))
    assert (skew and skew.breaks) is breaks


@given(trained=VERSIONS, locked_version=VERSIONS)
def test_no_skew_means_the_same_public_version(trained: str, locked_version: str) -> None:
    skew = one("a", locked_version, training({"a": trained}))
    one_release, other_release = (Version(Version(text).public) for text in (trained, locked_version))
    assert (skew is None) == (one_release == other_release)
    assert one("a", trained, training({"a": trained})) is None


def test_only_what_training_and_server_import_counts() -> None:
    trained = training(
        {"uvicorn": "0.30.0", "pandas": "1.1.5", "numpy": "1.26.0"}, {"pandas": "pandas", "numpy": "numpy"}
    )
    pins = [("uvicorn", "0.40.0"), ("pandas", "1.3.0"), ("numpy", "2.0.0"), ("h11", "0.16.0")]
    found = skews(trained, pins, {"uvicorn": ["uvicorn"], "pandas": ["pandas"], "h11": ["h11"]})
    assert [skew.name for skew in found] == ["pandas"]


def test_modules_that_another_package_brought_count() -> None:
    trained = training({"opencv-python": "4.10.0.84"}, {"cv2": "opencv-python"})
    skew = one("opencv-python-headless", "4.12.0.88", trained, ("cv2",))
    assert str(skew) == "opencv-python-headless (in training, opencv-python): trained with 4.10.0.84, locked 4.12.0.88"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A locked repository whose server imports pandas."""
    repo = toy(tmp_path, mlship_yaml=YAML.replace("model:", "model:\n  metadata: metadata.json", 1))
    (repo / "metadata.json").write_text("{}")
    locked(repo, f"pandas==1.3.0{HASH}")
    trace = Trace({"pandas": {"pandas": "__init__"}}, {})
    replace(read_record(repo), trace=trace).write(repo)
    return repo


def write(repo: Path, **more: object) -> None:
    content = {"schema": 1, "packages": {"pandas": "1.3.0"}, "imported": {"pandas": "pandas"}, **more}
    (repo / "metadata.json").write_text(json.dumps(content))


def refusal(repo: Path) -> MlshipError:
    with pytest.raises((CheckFailed, UsageError)) as caught:
        prepare(repo)
    return caught.value


def test_a_lock_with_other_libraries_than_the_training_is_refused(repo: Path) -> None:
    write(repo, packages={"pandas": "1.1.5"})
    error = refusal(repo)
    assert error.exit_code == 1
    assert error.message.endswith("so its results may differ:\n- pandas: trained with 1.1.5, locked 1.3.0")
    assert error.hint == (
        "add `pandas==1.1.5` to `requirements.in` and run `mlship lock`, or train again with the locked versions and "
        "replace `metadata.json`"
    )


def test_smaller_differences_are_warnings(repo: Path) -> None:
    write(repo, packages={"pandas": "1.3.5"}, python="3.9.2")
    assert prepare(repo).warnings == (
        "small difference from the training: pandas: trained with 1.3.5, locked 1.3.0",
        "the model was trained with Python 3.9, the image has 3.11",
    )


def test_the_libraries_of_the_training_are_accepted(repo: Path) -> None:
    write(repo, python="3.11.9")
    assert prepare(repo).warnings == ()


def test_a_file_that_the_training_did_not_write_is_refused(repo: Path) -> None:
    weights = repo / "model.npy"
    weights.write_bytes(npy(np.ones(2)))
    digest, size = sha256_file(weights).removeprefix("sha256:"), weights.stat().st_size
    config = (repo / "mlship.yaml").read_text()
    (repo / "mlship.yaml").write_text(config.replace("metadata:", "weights: [model.npy]\n  metadata:"))
    write(repo, files={weights.name: {"sha256": digest, "size": size}})
    assert prepare(repo).warnings == ()
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    assert (
        refusal(repo).message == f"`{weights.name}` is not the file that `metadata.json` describes: its content differs"
    )
    write(repo, files={"other.onnx": {"sha256": digest, "size": size}})
    assert prepare(repo).warnings == (
        f"`metadata.json` does not describe {weights.name}: where they come from is unknown",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not a record of a training"),
        ('{"schema": 2, "packages": {}}', "schema: Input should be 1"),
        ('{"schema": 1}', "packages: Field required"),
        ('{"schema": 1, "packages": {"a b": "1"}}', "'a b' is not a package name"),
        ("{", "is not JSON"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_error(repo: Path, text: str, message: str) -> None:
    (repo / "metadata.json").write_text(text)
    error = refusal(repo)
    assert error.exit_code == 2
    assert message in error.message


@pytest.mark.slow
def feature(values: list[float | None]) -> TrainingFeature | None:
    """What the script says of a column."""
    names: dict[str, object] = {}
    exec((template_root() / "training_record.py").read_text(), names)
    statistics = names["statistics"]
    assert callable(statistics)
    found = statistics({"x": values})
    return TrainingStatistics.model_validate_json(json.dumps(found)).inputs.get("x")


@given(values=st.lists(st.none() | st.floats(-1e6, 1e6) | st.integers(0, 3).map(float), max_size=60))
def test_the_statistics_of_the_script_are_those_of_numpy(values: list[float | None]) -> None:
    there = [value for value in values if value is not None]
    found = feature(values)
    if found is None:
        assert len(set(there)) < 2
        return
    assert found.mean == pytest.approx(np.mean(there))
    assert found.variance == pytest.approx(np.var(there), abs=1e-3)
    assert found.null_rate == pytest.approx(1 - len(there) / len(values))
    shares = np.histogram(there, [-np.inf, *np.nextafter(found.deciles, np.inf), np.inf])[0] / len(there)
    assert found.shares == pytest.approx(shares)


def test_the_script_records_the_process_that_calls_it(tmp_path: Path) -> None:
    """It runs beside a training script, without mlship."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.onnx").write_bytes(b"weights")
    script = tmp_path / "training_record.py"
    script.write_bytes((template_root() / "training_record.py").read_bytes())
    code = """
import yaml
from training_record import record
record("model/metadata.json", files=["model/model.onnx"], metrics={"accuracy": 0.9})
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    written = json.loads((tmp_path / "model/metadata.json").read_text())
    assert written["metrics"] == {"accuracy": 0.9}
    found = read_training(tmp_path / "model/metadata.json", "metadata.json")
    assert found.files["model.onnx"].size == 7
    assert found.imported is not None
    assert found.imported["yaml"] == "pyyaml"
    assert "pydantic" in found.packages
    assert "pydantic" not in found.imported.values()
    assert found.git is None
