"""Model files whose names the code computes: those that match are shipped, and a pattern without any is a step."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.found import Detection
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

_PICKLE = b"\x80\x04K\x01."


def _detected(root: Path, load: str, *files: str, place: str = "") -> Detection:
    code = f"import joblib, os\nfrom pathlib import Path\nfrom flask import Flask\napp = Flask('x')\n{load}\n"
    code += "@app.post('/predict')\ndef predict(): return str(MODELS)\n"
    write(root, {f"{place}app.py": code})
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_PICKLE)
    return detect(root)


_LOOP = "MODELS = {c: joblib.load(PATH) for c in columns()}"


@pytest.mark.parametrize(
    "path", ["f'{c}_model.pkl'", "c + '_model.pkl'", "'%s_model.pkl' % c", "os.path.join(D, f'{c}_model.pkl')"]
)
def test_all_that_match_are_needed(tmp_path: Path, path: str) -> None:
    load = f"SCALER = joblib.load('scaler.pkl')\n{_LOOP.replace('PATH', path)}"
    found = _detected(tmp_path, load, "a_model.pkl", "b_model.pkl", "scaler.pkl", "other.pkl", "tests/c_model.pkl")
    assert set(found.weights.named) == {"a_model.pkl", "b_model.pkl", "scaler.pkl"}
    assert found.weights.absent == ()


def test_a_known_folder_is_where_they_are(tmp_path: Path) -> None:
    files = ("models/a.pkl", "old/models/c.pkl", "other.pkl", "models/deeper/d.pkl")
    found = _detected(tmp_path, _LOOP.replace("PATH", "f'models/{c}.pkl'"), *files)
    assert found.weights.named == ("models/a.pkl",)


def test_a_folder_beside_the_code_that_runs_there(tmp_path: Path) -> None:
    load = _LOOP.replace("PATH", "f'models/{c}.pkl'")
    found = _detected(tmp_path, load, "service/models/a.pkl", "service/models/b.pkl", place="service/")
    assert found.weights.named == ("service/models/a.pkl", "service/models/b.pkl")
    assert found.server
    assert found.server.place == "service"


def test_each_depth_of_a_recursive_pattern(tmp_path: Path) -> None:
    load = "MODELS = [joblib.load(p) for p in Path('models').rglob('*.pkl')]"
    found = _detected(tmp_path, load, "models/a.pkl", "models/x/y/b.pkl", "models/x/README", "c.pkl")
    assert found.weights.named == ("models/a.pkl", "models/x/y/b.pkl")


@pytest.mark.parametrize("files", [(), tuple(f"models/{number}.pkl" for number in range(101))])
def test_a_pattern_that_nothing_or_too_much_matches_is_a_step(tmp_path: Path, files: tuple[str, ...]) -> None:
    found = _detected(tmp_path, _LOOP.replace("PATH", "f'models/{c}.pkl'"), *files)
    (step,) = [text for text in scaffold(found).todo if "computes" in text]
    assert "`models/*.pkl` (app.py, line 5)" in step


def test_a_pattern_without_a_match_hides_no_other_model(tmp_path: Path) -> None:
    found = _detected(tmp_path, "MODELS = joblib.load(path())\nROW = joblib.load(f'cache/{key}.bin')", "m.pkl")
    assert found.weights.named == ("m.pkl",)
    assert [one.path for one in found.weights.absent] == ["cache/*.bin"]
