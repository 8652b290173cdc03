"""Which model files belong to the image: what the code names, wherever it is; no guesses."""

import subprocess
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from tests.helpers.repos import onnx_bytes, safetensors, write

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
    assert scaffold(found).todo[0] == (
        "Download what the code loads: `w/m.pkl` (app.py, line 4). "
        "To let `mlship build` do that, add it to `model.sources`."
    )


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


@pytest.mark.parametrize(
    "arguments", ["repo_id=settings.REPO, filename=settings.FILE", "os.environ['REPO'], 'm.joblib'"]
)
def test_downloads_of_a_name_that_is_set_elsewhere_are_said(tmp_path: Path, arguments: str) -> None:
    code = f"from fastapi import FastAPI\nimport os, joblib\napp = FastAPI()\nm = hf_hub_download({arguments})\n"
    write(tmp_path, {"app.py": code})
    assert "a model that the call does not name (app.py, line 4)" in scaffold(detect(tmp_path)).todo[0]
    write(
        tmp_path,
        {"app.py": code.replace("m = hf_hub_download(", "m = hf_hub_download(local_files_only=True, repo_id=")},
    )
    assert "Hugging Face" not in scaffold(detect(tmp_path)).todo[0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("pipeline('ner')", True),
        ("pipeline(task='text-classification')", True),
        ("pipeline('Hello you')", False),
        ("pipeline('cat')", False),
    ],
)
def test_the_default_model_of_a_task_is_a_download(tmp_path: Path, call: str, said: bool) -> None:
    code = f"from fastapi import FastAPI\nfrom transformers import pipeline\napp = FastAPI()\nm = {call}\n"
    steps = scaffold(detect(write(tmp_path, {"app.py": code}))).todo
    assert any("a model that the call does not name (app.py, line 4)" in step for step in steps) == said


def test_what_trainings_logged_is_not_shipped_with_a_server_that_names_none_of_it(tmp_path: Path) -> None:
    run = "mlruns/0/ab12/artifacts/model/python_model.pkl"
    files: dict[str, str | bytes] = {"app.py": "from flask import Flask\napp = Flask('x')\n", run: b"\x80\x04N."}
    found = detect(write(tmp_path, files))
    assert (found.weights.named, found.weights.why) == ((), "no model files of a known format found outside of mlruns")
    write(tmp_path, {"app.py": SERVER.format(run)})
    assert detect(tmp_path).weights.named == (run,)
    (tmp_path / "app.py").unlink()
    assert [one.path for one in detect(tmp_path).weights.refused] == [run]


@pytest.mark.parametrize("code", ["", "tf.train.Saver().restore(session, 'model/net.ckpt')"])
def test_a_checkpoint_of_tensorflow_is_there_but_not_identified(tmp_path: Path, code: str) -> None:
    ends = (".index", ".data-00000-of-00001", ".meta")
    files: dict[str, str | bytes] = {
        **{f"model/net.ckpt{end}": b"\x01\xff\x02" for end in ends},
        **{f"saved/variables/variables{end}": b"\x01\xff\x02" for end in ends},
        "model/checkpoint": 'model_checkpoint_path: "net.ckpt"',
        "predict.py": f"import tensorflow as tf\ndef load():\n    {code or 'pass'}\n    return tf.Session()\n",
    }
    found = detect(write(tmp_path, files))
    assert (found.weights.why, found.weights.absent) == ("no model files of a known format found", ())
    assert any(
        note.startswith("TensorFlow checkpoints, which mlship cannot check: `model/net.ckpt`;") for note in found.notes
    )


def test_a_model_file_that_only_a_string_names_is_asked_for_without_a_guess_at_its_folder(tmp_path: Path) -> None:
    lib = "def score(row, path): ...\nMESSAGE = 'cannot read x.pkl'\nSUFFIX = '.onnx'\nPATTERN = '*.joblib'\n"
    lib += "MODULE, KERAS, ANSWER = 'net.model', 'tensorflow.keras', 'answer.npz'\nopen('log.bin', 'wb')\n"
    code = "from lib import score\nfrom flask import Flask\napp = Flask('x')\nP = DIR / 'm.joblib'\nscore(1, P)\n"
    write(tmp_path, {"app.py": code, "lib.py": lib})
    step = "Find out where the code expects `m.joblib` (app.py), and list it in `model.weights`."
    assert step in scaffold(detect(tmp_path)).todo
    assert detect(tmp_path).weights.named == ()
    write(tmp_path, {"m.safetensors": safetensors()})
    assert not any("m.joblib" in one for one in scaffold(detect(tmp_path)).todo)


@pytest.mark.parametrize(("path", "asks"), [("net/model.py", False), ("net/model/__init__.py", False), ("x.py", True)])
def test_a_module_that_a_loader_is_given_is_no_model_file(tmp_path: Path, path: str, asks: bool) -> None:
    code = "from flask import Flask\napp = Flask('x')\nNet = load_class('net.model')\n"
    steps = scaffold(detect(write(tmp_path, {"app.py": code, path: ""}))).todo
    assert any("`net.model`" in step for step in steps) == asks


def test_requirements_are_no_pickles(tmp_path: Path) -> None:
    write(tmp_path, {"sub/requirements.txt": "torch==2.8.0\nnumpy\n", "m.py": "def load(): return 1"})
    assert detect(tmp_path).weights.named == ()


def test_the_cache_of_the_hub_is_named_by_its_links(tmp_path: Path) -> None:
    cache = "hub/models--org--m"
    write(tmp_path, {f"{cache}/blobs/9f86d0": onnx_bytes(), f"{cache}/snapshots/abc/config.json": "{}"})
    (tmp_path / f"{cache}/snapshots/abc/model.onnx").symlink_to("../../blobs/9f86d0")
    assert detect(tmp_path).weights.named == (f"{cache}/snapshots/abc/model.onnx",)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("modèle.onnx", "mv 'modèle.onnx' modele.onnx"),
        ("x/model (2).onnx", "mv 'x/model (2).onnx' x/model-2-.onnx"),
        ("模型/模型.onnx", "`mkdir -p folder && mv '模型/模型.onnx' folder/model.onnx`"),
    ],
)
def test_a_model_that_cannot_be_shipped_under_its_name_is_refused(tmp_path: Path, name: str, command: str) -> None:
    write(tmp_path, {"photo (1).jpg": "x", "tests/ü.onnx": onnx_bytes(), "notes (2).txt": "text"})
    detect(tmp_path)
    write(tmp_path, {name: onnx_bytes()})
    with pytest.raises(UsageError, match="under its name") as caught:
        detect(tmp_path)
    assert command in caught.value.hint


def test_links_out_of_the_repository_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"repo/a.txt": "", "away.onnx": onnx_bytes(), "weights/w.onnx": onnx_bytes()})
    (tmp_path / "repo/linked.onnx").symlink_to(tmp_path / "away.onnx")
    (tmp_path / "repo/weights").symlink_to("../weights")
    (tmp_path / "repo/broken.onnx").symlink_to("nowhere")
    links = detect(tmp_path / "repo").notes[-1]
    assert links.endswith("lead out of the repository or nowhere: `broken.onnx`, `linked.onnx`, `weights`")


def test_models_in_dvc_are_named(tmp_path: Path) -> None:
    kept = {f"{path}.dvc": "outs:\n" for path in ("a/net.pt", "models", "rows.csv", "here.onnx")}
    found = detect(write(tmp_path, {**kept, "here.onnx": onnx_bytes()}))
    assert "not here but in DVC: `models`, `a/net.pt`; run `dvc pull`, then `mlship init` again" in found.notes


def test_a_model_that_comes_after_the_first_run_is_listed_with_its_loader(tmp_path: Path) -> None:
    def init() -> str:
        planned = keep_existing(scaffold(detect(tmp_path)), tmp_path)
        write_scaffold(tmp_path, planned.files)
        if planned.completed:
            (tmp_path / "mlship.yaml").write_text(planned.completed.text)
        return (tmp_path / "mlship.yaml").read_text()

    init()
    write(tmp_path, {"model.onnx": onnx_bytes()})
    config = parse_config(init())
    assert (config.model.load, config.model.weights) == ("serving.model:load", ("model.onnx",))


def test_files_that_git_would_not_commit_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"model.onnx": onnx_bytes(), ".gitignore": "*.json\nserving/\n"})
    planned = keep_existing(scaffold(detect(tmp_path)), tmp_path)
    assert not any("git ignores" in note for note in planned.notes)  # no repository of git
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    planned = keep_existing(scaffold(detect(tmp_path)), tmp_path)
    named = "`serving/model.py`, `serving/__init__.py`, `serving/__main__.py` and 17 more"
    assert f"git ignores {named}" in planned.notes[-1]


def test_the_model_that_code_names_is_served(tmp_path: Path) -> None:
    code = "import onnxruntime\nsession = onnxruntime.InferenceSession('models/small.onnx')\n"
    names = ("a.onnx", "model.onnx", "models/small.onnx", "models/big.onnx")
    found = detect(write(tmp_path, {"detect.py": code, **dict.fromkeys(names, onnx_bytes())})).weights
    assert found.native
    assert found.native.path == "models/small.onnx"
    assert found.why == "code names it; not model.onnx, a.onnx, models/big.onnx"


@pytest.mark.parametrize("path", ["'best.onnx'", "os.path.join(os.path.dirname(__file__), 'best.onnx')"])
def test_another_model_is_no_substitute_for_one_that_is_missing(tmp_path: Path, path: str) -> None:
    code = f"import os, onnxruntime\nsession = onnxruntime.InferenceSession({path})\n"
    found = detect(write(tmp_path, {"pkg/detect.py": code, "web/nms.onnx": onnx_bytes()}))
    assert found.native is None
    assert found.weights.named == ()
    assert any("loads files that are not here" in note and "best.onnx" in note for note in found.notes)


def test_a_server_without_its_model_ships_no_other(tmp_path: Path) -> None:
    code = SERVER.format("m/x.onnx")
    found = detect(write(tmp_path, {"app.py": code, "final.pkl": PICKLE})).weights
    assert (found.named, [one.path for one in found.absent]) == (("m/x.onnx",), ["m/x.onnx"])


def test_a_saved_model_is_its_folder(tmp_path: Path) -> None:
    parts = {
        "m/1/saved_model.pb": b"\x08\x01\x12\x02\n\x00",
        "m/1/variables/variables.index": b"x",
        "other.pb": b"\x08\x01\x12",
    }
    found = detect(write(tmp_path, {**parts, "train.py": "import tensorflow"}))
    assert found.weights.named == ("m/1",)
    assert found.framework.value == "tensorflow"
    assert 'tf.saved_model.load("m/1")' in "".join(scaffold(found).todo)


def test_tensors_that_a_served_model_lacks_are_a_step(tmp_path: Path) -> None:
    code = "import onnxruntime, fastapi\napp = fastapi.FastAPI()\ns = onnxruntime.InferenceSession('m/a.onnx')\n"
    write(tmp_path, {"app.py": code, "m/a.onnx": onnx_bytes(external="a.onnx.data")})
    found = detect(tmp_path)
    assert [(one.path, one.where) for one in found.weights.absent] == [("m/a.onnx.data", "tensors of `m/a.onnx`")]
    assert "Download what the code loads: `m/a.onnx.data` (tensors of `m/a.onnx`)." in scaffold(found).todo[0]
    write(tmp_path, {"m/a.onnx.data": b"\0" * 32})
    assert detect(tmp_path).weights.absent == ()


@pytest.mark.parametrize(
    ("body", "loads"),
    [("return Net()", False), ("n = Net()\n    n.load_state_dict(x)\n    return n", True), ("return _load()", True)],
)
def test_a_function_that_builds_an_untrained_network_is_no_loader(tmp_path: Path, body: str, loads: bool) -> None:
    write(tmp_path, {"model.py": f"import torch\ndef build_model(size=3):\n    {body}\n"})
    assert (detect(tmp_path).loader.value == "model:build_model") == loads
