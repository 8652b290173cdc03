"""`mlship register` and `mlship models`, as a user runs them."""

import json
import math
from hashlib import sha256
from pathlib import Path

import pytest

from mlship.project.onnx_header import read_onnx
from tests.helpers.command import mlship_in_process
from tests.helpers.trained import COMMIT, trained

FIRST = f"digits/{COMMIT}/20261129T024409Z"
SECOND = f"digits/{COMMIT}/20261130T024409Z"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def test_register_list_show_compare_and_pull(tmp_path: Path, store: str) -> None:
    one = trained(tmp_path / "one")
    changed = {"metrics": {"accuracy": 0.95}, "packages": {"numpy": "2.3.6", "pandas": "3.0.0"}}
    two = trained(tmp_path / "two", seed=1, created="2026-11-30T02:44:09+00:00", **changed)
    done = mlship_in_process("register", "--store", store, cwd=one)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (
        f"registered {FIRST}\n"
        f"  model.safetensors: file://{store}/models/{FIRST}/model.safetensors\n"
        f"  sample.json: file://{store}/models/{FIRST}/sample.json\n"
        f"  golden.json: file://{store}/models/{FIRST}/golden.json\n"
    )
    again = mlship_in_process("register", "--store", store, cwd=one)
    assert again.stdout.startswith(f"already registered: {FIRST}\n")
    assert mlship_in_process("register", "--store", store, "--parent", "digits", cwd=two).code == 0
    assert mlship_in_process("models", "ls", "--store", store, cwd=tmp_path).stdout == f"{FIRST}\n{SECOND}\n"
    shown = mlship_in_process("models", "show", "digits", "--store", store, cwd=tmp_path).stdout
    assert shown.startswith(f"{SECOND}\n  commit        {COMMIT}\n")
    assert f"  parent        {FIRST}\n" in shown
    found = json.loads(mlship_in_process("models", "show", FIRST, "--store", store, "--json", cwd=tmp_path).stdout)
    assert found["registration"]["golden"] == "golden.json"
    diff = mlship_in_process("models", "diff", FIRST, SECOND, "--store", store, cwd=tmp_path).stdout
    assert "package   numpy: 2.3.5 → 2.3.6\npackage   pandas: none → 3.0.0\nfile      golden.json: sha256:" in diff
    assert "metric    accuracy: 0.9 → 0.95\n" in diff
    assert mlship_in_process("models", "diff", FIRST, FIRST, "--store", store, cwd=tmp_path).stdout == "no difference\n"
    done = mlship_in_process("models", "pull", FIRST, "--store", store, "--into", "out", cwd=tmp_path)
    assert (done.code, done.stdout) == (0, f"pulled {FIRST} into out\n")
    assert (tmp_path / "out/model.safetensors").read_bytes() == (one / "model/model.safetensors").read_bytes()


def test_another_model_in_the_place_of_one(tmp_path: Path, store: str) -> None:
    mlship_in_process("register", "--store", store, cwd=trained(tmp_path / "one"))
    done = mlship_in_process("register", "--store", store, cwd=trained(tmp_path / "two", seed=1))
    assert done.code == 1
    assert f"error: {store} has another model as {FIRST}; registered models never change" in done.stderr
    assert f"hint: compare them: `mlship models show {FIRST} --store {store}`" in done.stderr


def test_a_dirty_checkout_is_registered_with_a_warning(tmp_path: Path, store: str) -> None:
    dirty = trained(tmp_path / "one", git={"commit": COMMIT, "dirty": True})
    done = mlship_in_process("register", "--store", store, cwd=dirty)
    assert (done.code, "warning: the training code had changes that are not committed" in done.stderr) == (0, True)


def test_a_model_that_changed_after_the_training(tmp_path: Path, store: str) -> None:
    repo = trained(tmp_path / "one")
    other = trained(tmp_path / "two", seed=1) / "model/model.safetensors"
    (repo / "model/model.safetensors").write_bytes(other.read_bytes())
    done = mlship_in_process("register", "--store", store, cwd=repo)
    assert (done.code, "is not the file that `model/metadata.json` describes" in done.stderr) == (1, True)


def test_a_repository_without_a_record(tmp_path: Path, store: str) -> None:
    repo = trained(tmp_path / "one")
    text = (repo / "mlship.yaml").read_text().replace("  metadata: model/metadata.json\n", "")
    (repo / "mlship.yaml").write_text(text)
    done = mlship_in_process("register", "--store", store, cwd=repo)
    assert (done.code, "error: mlship.yaml has no `model.metadata`" in done.stderr) == (2, True)
    assert not Path(store).exists()


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"metrics": {"loss": math.nan}}, "cannot be registered: Out of range float values"),
        ({"statistics": {"y": [1, -math.inf]}}, "cannot be registered: Out of range float values"),
        ({"epochs": math.nan}, "cannot be registered: Out of range float values"),
        ({"created": "2026-03-01T10:00:00"}, "does not say when the model was trained"),
        ({"created": "9999-12-31T23:59:59-12:00"}, "does not say when the model was trained"),
        ({"created": "0001-01-01T00:00:00+14:00"}, "does not say when the model was trained"),
    ],
)
def test_a_record_that_cannot_be_kept(tmp_path: Path, store: str, record: dict[str, object], words: str) -> None:
    """Such as the loss of a training that diverged."""
    done = mlship_in_process("register", "--store", store, cwd=trained(tmp_path / "one", 0, **record))
    assert (done.code, words in done.stderr) == (2, True), done.stderr
    assert not Path(store, "models").exists()


@pytest.mark.parametrize("command", ["ls", "show x", "pull x"])
def test_a_store_that_is_not_there(tmp_path: Path, store: str, command: str) -> None:
    done = mlship_in_process("models", *command.split(), "--store", store, cwd=tmp_path)
    assert (done.code, f"error: no folder `{store}/models`" in done.stderr) == (2, True)


@pytest.mark.parametrize("name", ["/abs", "a**", "**", "*", "[", "../models/digits"])
def test_a_name_is_no_pattern_and_no_path(tmp_path: Path, store: str, name: str) -> None:
    mlship_in_process("register", "--store", store, cwd=trained(tmp_path / "one"))
    assert mlship_in_process("models", "ls", name, "--store", store, cwd=tmp_path).stdout == ""
    shown = mlship_in_process("models", "show", name, "--store", store, cwd=tmp_path)
    assert (shown.code, f"has no model `{name}`" in shown.stderr) == (2, True)


def test_an_onnx_file_says_its_inputs_and_outputs(tmp_path: Path, store: str) -> None:
    model = (Path(__file__).parents[2] / "examples/digits-onnx/repo").rglob("*.onnx")
    repo = trained(tmp_path / "one")
    data = next(model).read_bytes()
    (repo / "model/model.onnx").write_bytes(data)
    record = json.loads((repo / "model/metadata.json").read_text())
    record["files"] = {"model.onnx": {"sha256": sha256(data).hexdigest(), "size": len(data)}}
    (repo / "model/metadata.json").write_text(json.dumps(record))
    argv = ("register", "model/metadata.json", "--name", "digits", "--store", store)
    assert mlship_in_process(*argv, cwd=repo).code == 0
    found = json.loads(mlship_in_process("models", "show", "digits", "--store", store, "--json", cwd=repo).stdout)
    header = read_onnx(repo / "model/model.onnx")
    assert header is not None
    assert [row["name"] for row in found["signature"]["inputs"]] == [tensor.name for tensor in header.inputs]
    assert found["signature"]["outputs"][0]["type"] == header.outputs[0].element


def test_a_record_needs_no_project(tmp_path: Path, store: str) -> None:
    repo = trained(tmp_path / "one")
    (repo / "mlship.yaml").unlink()
    done = mlship_in_process("register", "model/metadata.json", "--store", store, cwd=repo)
    assert (done.code, "hint: add `--name NAME`" in done.stderr) == (2, True)
    done = mlship_in_process("register", "model/metadata.json", "--name", "digits", "--store", store, cwd=repo)
    assert (done.code, done.stdout.startswith(f"registered {FIRST}\n  model.safetensors: ")) == (0, True)
    done = mlship_in_process("register", "none.json", "--name", "digits", "--store", store, cwd=repo)
    assert (done.code, done.stderr.startswith("error: `none.json` does not exist\n")) == (2, True)
