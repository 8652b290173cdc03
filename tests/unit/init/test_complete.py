"""A second `mlship init`: it completes what it left open, and nothing that a person wrote; advice ends."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mlship.cli.app import app
from mlship.init.complete import complete, keys_of, open_line
from mlship.project.load import load_config, load_unfinished
from tests.helpers.repos import onnx_bytes, write

COLUMNS = Path(__file__).parents[2] / "fixtures/convert/columns.joblib"


def init(repo: Path) -> str:
    done = CliRunner().invoke(app, ["init", "--yes", "-C", str(repo)])
    assert done.exit_code == 0, done.output
    return done.stderr


def test_a_loader_that_was_written_is_filled_in_and_gets_its_server(tmp_path: Path) -> None:
    repo = write(tmp_path, {"classify.py": "import numpy\n\ndef score(x):\n    return numpy.sum(x)\n"})
    assert "Write a function `load()`" in init(repo)
    (repo / "mlship.yaml").write_text((repo / "mlship.yaml").read_text().replace("python: ", "# mine\npython: "))
    write(repo, {"model.py": "import numpy\ndef load():\n    return numpy.sum\n", "sample.json": "[1]"})
    said = init(repo)
    assert "completed  mlship.yaml: load, sample, command, source" in said
    assert "serving/: the server around it" in said
    assert "To do" not in said
    config = load_config(repo, {})
    assert (config.model.load, config.model.sample) == ("model:load", "sample.json")
    assert (config.source, config.requirements.input) == (("model.py", "serving"), "serving/requirements.in")
    text = (repo / "mlship.yaml").read_text()
    assert "# mine" in text
    assert "FILL IN" not in text
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    assert "completed" not in init(repo)
    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before


def test_a_converted_model_gets_its_server_and_says_what_its_requirements_lack(tmp_path: Path) -> None:
    repo = write(tmp_path, {"requirements.txt": "scikit-learn\n"})
    shutil.copyfile(COLUMNS, repo / "model.joblib")
    assert "mlship convert model.joblib model.onnx --sample rows.json" in init(repo)
    (repo / "model.onnx").write_bytes(onnx_bytes())
    said = init(repo)
    assert "completed  mlship.yaml: load, sample, command, source" in said
    text = (repo / "mlship.yaml").read_text()
    assert (load_config(repo, {}).model.weights, "FILL IN" in text) == (("model.onnx",), False)
    listed = said.split("Add these lines to `serving/requirements.in`.\n")[1].split("\n\n")[0].split()
    assert {"onnxruntime", "uvicorn"} <= set(listed)
    with (repo / "serving/requirements.in").open("a") as file:
        file.write("\n".join(listed) + "\n")
    assert "To do" not in init(repo)


def test_pickles_that_a_person_allowed_stay(tmp_path: Path) -> None:
    repo = write(tmp_path, {"requirements.txt": "scikit-learn\n"})
    shutil.copyfile(COLUMNS, repo / "model.joblib")
    init(repo)
    text = (repo / "mlship.yaml").read_text()
    (repo / "mlship.yaml").write_text(text.replace("reason: WHY", "reason: ours"))
    (repo / "model.onnx").write_bytes(onnx_bytes())
    init(repo)
    assert load_config(repo, {}).model.weights == ("model.joblib",)


def test_the_requirements_of_the_new_server_are_locked_too(tmp_path: Path) -> None:
    repo = write(tmp_path, {"x.py": "import numpy\n", "requirements.txt": "numpy\n"})
    init(repo)
    assert load_unfinished(repo, {})[0].requirements.input == "requirements.txt"
    write(repo, {"model.py": "import numpy\ndef load():\n    return numpy.sum\n", "sample.json": "[1]"})
    init(repo)
    assert load_config(repo, {}).requirements.input == "serving/requirements.in"
    assert "-r ../requirements.txt" in (repo / "serving/requirements.in").read_text()


def test_a_key_that_a_person_filled_in_is_done_and_stays(tmp_path: Path) -> None:
    repo = write(tmp_path, {"x.py": "import numpy\n"})
    init(repo)
    file = repo / "mlship.yaml"
    file.write_text(file.read_text().replace("# load: package.module:function", "load: x:make"))
    write(repo, {"model.py": "import numpy\ndef load():\n    return numpy.sum\n"})
    said = init(repo)
    assert "Write a function" not in said
    assert "load: x:make" in file.read_text()


def test_open_places_are_named_with_their_line(tmp_path: Path) -> None:
    server = (
        "from flask import Flask, request\nimport pickle\napp = Flask(__name__)\nm = pickle.load(open('m.pkl', 'rb'))\n"
    )
    home = "@app.route('/')\ndef home(): return ''\n"
    route = "@app.route('/predict', methods=['POST'])\ndef p(): return request.form['age']\n"
    repo = write(tmp_path, {"app.py": server + home + route, "m.pkl": b"\x80\x04K\x01."})
    said = " ".join(init(repo).split())
    text = (repo / "mlship.yaml").read_text()
    for key in ("allow_pickle", "request"):
        assert f"(mlship.yaml, line {open_line(text, (key,))})" in said
    assert "#     form: {age: VALUE}" in text
    filled = (
        text.replace("# allow_pickle:", "allow_pickle:")
        .replace("  #   - path", "    - path")
        .replace("  #     sha", "      sha")
        .replace("  #     reason: WHY", "      reason: we made it")
    )
    for line in ("smoke:", "  request:", "    method", "    path", "    form"):
        filled = filled.replace(f"# {line}", line)
    (repo / "mlship.yaml").write_text(filled.replace("VALUE", "3"))
    config = load_config(repo, {})
    assert config.model.load is None
    assert config.smoke.request is not None
    assert config.smoke.request.form == {"age": "3"}
    assert config.serve.ready == "/"
    assert "To do" not in init(repo)


@pytest.mark.slow
@given(
    st.sets(st.sampled_from(["model.py", "sample.json", "app.py", "model.onnx", "m.pkl", "requirements.txt"])),
    st.data(),
)
def test_a_second_run_without_edits_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], data: st.DataObject
) -> None:
    contents: dict[str, str | bytes] = {
        "model.py": "import numpy\ndef load():\n    return numpy.sum\n",
        "sample.json": "[1]",
        "app.py": "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/predict')\ndef p(x: int): ...\n",
        "model.onnx": onnx_bytes(),
        "m.pkl": b"\x80\x04K\x01.",
        "requirements.txt": "numpy\n",
    }
    repo = write(tmp_path_factory.mktemp("r"), {name: contents[name] for name in sorted(names)})
    init(repo)
    later = data.draw(st.sets(st.sampled_from(sorted(contents))))
    write(repo, {name: contents[name] for name in sorted(later - names)})
    first = init(repo)
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    again = init(repo)
    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before
    assert "completed" not in again
    assert "To do" in first or "To do" not in again


@given(st.text(), st.text(), st.text())
def test_any_text_is_kept_unless_an_open_place_stands_in_it(text: str, rendered: str, unfinished: str) -> None:
    result, filled = complete(text, rendered, {"key": unfinished})
    assert filled or result == text
    assert isinstance(keys_of(text), frozenset)
