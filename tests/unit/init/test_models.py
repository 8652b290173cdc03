"""Which model files belong to the image: what the code names, wherever it is; no guesses."""

import subprocess
from pathlib import Path

from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold
from tests.helpers.repos import onnx_bytes, write

PICKLE = b"\x80\x04N."
SERVER = "from fastapi import FastAPI\nimport joblib\napp = FastAPI()\nmodel = joblib.load('{}')\n"


def test_models_in_folders_for_data_are_found(tmp_path: Path) -> None:
    for folder in ("data", "examples", "serving", "datasets", "notebooks"):
        repo = tmp_path / folder
        write(repo, {f"pkg/{folder}/model.onnx": onnx_bytes(), "pkg/__init__.py": ""})
        assert detect(repo).weights.named == (f"pkg/{folder}/model.onnx",)


def test_files_of_tests_are_no_models_unless_the_code_names_them(tmp_path: Path) -> None:
    write(tmp_path, {"tests/data/x.pkl": PICKLE, "lib.py": "import torch"})
    assert detect(tmp_path).weights.named == ()
    write(tmp_path, {"app.py": SERVER.format("tests/data/x.pkl")})
    assert detect(tmp_path).weights.named == ("tests/data/x.pkl",)


def test_a_server_ships_what_it_names_and_no_other_model(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": SERVER.format("models/a.pkl"), "models/a.pkl": PICKLE, "other/b.pkl": PICKLE})
    found = detect(tmp_path)
    assert found.weights.named == ("models/a.pkl",)
    assert not any("b.pkl" in note for note in found.notes)


def test_a_missing_file_is_a_step_only_if_served_code_loads_it(tmp_path: Path) -> None:
    write(tmp_path, {"lib.py": "import joblib\njoblib.load('m.pkl')\n", ".gitignore": "target\n.env\nwandb\n"})
    found = detect(tmp_path)
    assert found.weights.named == ()
    assert "the code loads files that are not here: `m.pkl` (lib.py, line 2)" in found.notes
    write(tmp_path, {"app.py": SERVER.format("w/m.pkl") + "target = 'target'\nload_dotenv('.env')\n"})
    found = detect(tmp_path)
    assert found.weights.named == ("w/m.pkl",)
    assert scaffold(found).todo[0] == "Download what the code loads: `w/m.pkl` (app.py, line 4)."


def test_pointers_of_git_lfs_come_first(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    write(tmp_path, {"app.py": SERVER.format("m.pkl"), "m.pkl": pointer})
    first = scaffold(detect(tmp_path)).todo[0]
    assert first == "Run `git lfs pull`, then `mlship init` again. Not downloaded yet: `m.pkl`."


def test_models_on_the_hub_have_to_be_shipped(tmp_path: Path) -> None:
    code = (
        "from fastapi import FastAPI\nfrom transformers import pipeline\napp = FastAPI()\nm = pipeline('x', 'org/m')\n"
    )
    write(tmp_path, {"app.py": code})
    assert "`org/m` (app.py, line 4)" in scaffold(detect(tmp_path)).todo[0]


def test_requirements_are_no_pickles(tmp_path: Path) -> None:
    write(tmp_path, {"sub/requirements.txt": "torch==2.8.0\nnumpy\n", "m.py": "def load(): return 1"})
    assert detect(tmp_path).weights.named == ()


def test_the_cache_of_the_hub_is_named_by_its_links(tmp_path: Path) -> None:
    cache = "hub/models--org--m"
    write(tmp_path, {f"{cache}/blobs/9f86d0": onnx_bytes(), f"{cache}/snapshots/abc/config.json": "{}"})
    (tmp_path / f"{cache}/snapshots/abc/model.onnx").symlink_to("../../blobs/9f86d0")
    assert detect(tmp_path).weights.named == (f"{cache}/snapshots/abc/model.onnx",)


def test_models_that_cannot_be_shipped_are_named(tmp_path: Path) -> None:
    write(tmp_path / "repo", {"modèle.onnx": onnx_bytes(), "photo (1).jpg": "x", "x/model (2).onnx": onnx_bytes()})
    write(tmp_path, {"away.onnx": onnx_bytes(), "weights/w.onnx": onnx_bytes()})
    (tmp_path / "repo/linked.onnx").symlink_to(tmp_path / "away.onnx")
    (tmp_path / "repo/weights").symlink_to("../weights")
    (tmp_path / "repo/broken.onnx").symlink_to("nowhere")
    rename, links = detect(tmp_path / "repo").notes[-2:]
    assert rename.startswith("rename `modèle.onnx`, `x/model (2).onnx`: paths in an image may have only ASCII letters")
    assert links.endswith("lead out of the repository or nowhere: `broken.onnx`, `linked.onnx`, `weights`")


def test_files_that_git_would_not_commit_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": onnx_bytes(), ".gitignore": "*.json\nserving/\n"})
    planned = keep_existing(scaffold(detect(tmp_path)), tmp_path)
    assert not any("git ignores" in note for note in planned.notes)  # no repository of git
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    planned = keep_existing(scaffold(detect(tmp_path)), tmp_path)
    assert "git ignores `serving/__init__.py`, `serving/app.py`, `serving/model.py` and 2 more" in planned.notes[-1]
