"""Which file the lock starts from, what a new one says, and that nothing is left out without a word."""

import json
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.init.detect import detect
from mlship.init.generated import SERVER_NEEDS
from mlship.init.scaffold import Scaffold, keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from tests.helpers.repos import onnx_bytes, write

LOADER = "import numpy\nimport redis\ndef load(): ..."
PROJECT = "[project]\nname='x'\nrequires-python='>=3.11'\ndependencies=['numpy>=1', 'pytest']\n"
EXTRAS = "optional-dependencies={cache=['redis>=5'], gpu=['cupy'], dev=['ruff']}\n"
LOCK = "requires-python='>=3.11'\n[[package]]\nname='numpy'\nversion='1.26.4'\n"


def planned(repo: Path, files: dict[str, str | bytes]) -> Scaffold:
    return keep_existing(scaffold(detect(write(repo, files))), repo)


def texts(found: Scaffold) -> dict[str, str]:
    return {file.path: file.text for file in found.files}


def test_one_of_the_extras_that_exclude_each_other_is_required(tmp_path: Path) -> None:
    extras = "optional-dependencies={cpu=['redis==5', 'redis[c]==5'], cuda=['redis==5+cu1', 'hiredis']}\n"
    text = texts(planned(tmp_path, {"m.py": LOADER, "pyproject.toml": PROJECT + extras}))["requirements.in"]
    assert "redis==5  # imported by the served code\nredis[c]==5  # imported by the served code\n" in text
    assert "\n# Extra `cuda`, left out; uncomment what the server needs:\n# redis==5+cu1\n# hiredis\n" in text


def test_no_password_is_copied_from_an_address(tmp_path: Path) -> None:
    address = "a @ git+https://bob:hunter2@host/a.git"
    project = PROJECT + "optional-dependencies={more=['b @ https://t0ken@host/b.zip', 'c @ git+ssh://git@host/c']}\n"
    files: dict[str, str | bytes] = {"m.py": LOADER, "pyproject.toml": project.replace("=[", f"=['{address}',", 1)}
    found = planned(tmp_path, files)
    text = texts(found)["requirements.in"]
    assert "c @ git+ssh://git@host/c" in text
    assert "hunter2" not in text
    assert "t0ken" not in text
    for name in "ab":
        note = f"pyproject.toml: `{name}` not copied, because its address contains a password"
        assert note in found.notes


def test_the_generated_server_has_no_pins_of_other_files(tmp_path: Path) -> None:
    old = PROJECT.replace("numpy>=1", "uvicorn==0.1")
    files: dict[str, str | bytes] = {"m.py": LOADER, "requirements.txt": "redis\n", "pyproject.toml": old}
    lines = [line for text in texts(planned(tmp_path, files)).values() for line in text.splitlines()]
    assert any(line.startswith("uvicorn") for line in lines)
    assert not any(line.startswith("uvicorn==0.1") for line in lines)


def test_a_new_file_says_what_it_leaves_out(tmp_path: Path) -> None:
    text = texts(planned(tmp_path, {"m.py": LOADER, "pyproject.toml": PROJECT + EXTRAS}))["requirements.in"]
    assert text.splitlines()[1:] == [
        "# From pyproject.toml:",
        "numpy>=1",
        "redis>=5  # imported by the served code",
        "# Development packages, left out; uncomment what the server needs:",
        "# pytest",
        "# Extra `gpu`, left out; uncomment what the server needs:",
        "# cupy",
        "# Groups for development: dev, left out.",
        "# For the server:",
        *SERVER_NEEDS,
    ]


def test_the_versions_of_a_lock_file_are_constraints(tmp_path: Path) -> None:
    found = planned(tmp_path, {"m.py": LOADER, "pyproject.toml": PROJECT, "uv.lock": LOCK})
    files = texts(found)
    assert "-c requirements-constraints.txt" in files["requirements.in"].splitlines()
    assert files["requirements-constraints.txt"].splitlines()[1:] == ["numpy==1.26.4"]
    why = next(file.why for file in found.files if file.path == "requirements-constraints.txt")
    assert why == "the versions in uv.lock, which the lock starts from"


def test_a_lock_beside_a_handwritten_file_is_not_ignored(tmp_path: Path) -> None:
    named: dict[str, str | bytes] = {"m.py": LOADER, "requirements.txt": "numpy\n", "sample.json": "[1]"}
    files = texts(planned(tmp_path, named | {"uv.lock": LOCK}))
    assert files["serving/requirements.in"].splitlines()[1:3] == [
        "-r ../requirements.txt", "-c ../requirements-constraints.txt",
    ]  # fmt: skip
    assert parse_config(files["mlship.yaml"]).requirements.input == "serving/requirements.in"


def test_a_pin_that_contradicts_the_requirements_is_no_constraint(tmp_path: Path) -> None:
    other = LOCK + "[[package]]\nname='pip'\nversion='24.0'\n"
    files = texts(planned(tmp_path, {"m.py": LOADER, "requirements.txt": "numpy>=2\n", "uv.lock": other}))
    assert files["requirements-constraints.txt"].splitlines()[1:] == ["pip==24.0"]


def test_a_lock_for_another_python_is_said(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "m.py": LOADER, "Pipfile": "[packages]\nnumpy='*'\n[requires]\npython_version='3.8'",
        "Pipfile.lock": '{"_meta": {"requires": {"python_version": "3.8"}}, "default": {"x": {"version": "==1"}}}',
    }  # fmt: skip
    found = planned(tmp_path, files)
    assert "requirements-constraints.txt" not in texts(found)
    assert found.notes[0] == "the versions in `Pipfile.lock` are for Python 3.8, so they are not used for Python 3.11"
    assert found.notes[1].startswith(
        "`Pipfile` does not name `redis`; `mlship lock` warns if no other package brings it"
    )


def test_development_packages_of_a_users_file_are_named(tmp_path: Path) -> None:
    found = planned(tmp_path, {"app.py": "import flask", "requirements.txt": "flask\npytest\n\njupyter\n"})
    (note,) = found.notes
    assert "development packages: pytest (line 2), jupyter (line 4)" in note


def test_a_requirements_file_for_developers_gives_way_to_the_project(tmp_path: Path) -> None:
    lines = "-e .\npytest\nruff\n"
    text = PROJECT.replace(", 'pytest'", "")
    files = texts(planned(tmp_path, {"m.py": LOADER, "requirements.txt": lines, "pyproject.toml": text}))
    assert files["requirements.in"].splitlines()[1:3] == ["# From pyproject.toml:", "numpy>=1"]


def test_debian_packages_of_cog_are_listed_with_their_origin(tmp_path: Path) -> None:
    cog = "build:\n  python_packages: [numpy]\n  system_packages: [ffmpeg, '$(rm)', libgl1]\n"
    text = texts(planned(tmp_path, {"m.py": LOADER, "cog.yaml": cog, "sample.json": "[1]"}))["mlship.yaml"]
    config = parse_config(text)
    assert set(config.system.run) >= {"ffmpeg", "libgl1"}
    assert "cog.yaml lists it" in text


def test_a_second_run_keeps_the_constraints(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"m.py": LOADER, "pyproject.toml": PROJECT, "uv.lock": LOCK, "sample.json": "[1]"}
    write_scaffold(tmp_path, planned(tmp_path, files).files)
    assert planned(tmp_path, {}).files == ()


def test_several_projects_are_a_choice_of_the_user(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"{name}/requirements.txt": "numpy" for name in ("blur", "resnet")}
    with pytest.raises(UsageError, match="holds several projects") as caught:
        detect(write(tmp_path, files))
    assert caught.value.hint == "run `mlship init -C FOLDER` with one of `blur`, `resnet`"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("m.py", LOADER),
        ("app.py", "import fastapi\napp = fastapi.FastAPI()\n@app.post('/x')\ndef x(): ..."),
        ("cog.yaml", "predict: 'm.py:Predictor'"),
    ],
)
def test_what_serves_at_the_top_settles_which_project_to_ship(tmp_path: Path, path: str, text: str) -> None:
    """A loader, a server or a predictor is enough."""
    files: dict[str, str | bytes] = {f"{name}/requirements.txt": "numpy" for name in ("blur", "resnet")}
    files |= {"m.py": "class Predictor:\n def predict(self): ...", path: text}
    assert detect(write(tmp_path, files)).root == tmp_path


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"train.py": "import torch"}, "found no server that `init` knows, and no model files, in {}"),
        ({"cog.yaml": "predict: 'p.py:Predictor'"}, "`p.py:Predictor` (cog.yaml) runs the model; `load()` can"),
        ({"a b.ipynb": "{}"}, "`jupyter nbconvert --to script 'a b.ipynb'`"),
    ],
)
def test_a_repository_with_nothing_to_serve(tmp_path: Path, files: dict[str, str | bytes], note: str) -> None:
    found = detect(write(tmp_path, files))
    assert any(note.format(found.name) in one for one in found.notes)


def test_a_shared_package_is_a_requirement_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"shared/pyproject.toml": "[project]\nname='shared'", "shared/shared/__init__.py": ""})
    api = tmp_path / "api"
    found = planned(api, {"m.py": LOADER, "requirements.txt": "-e ../shared\n", "sample.json": "[1]"})
    assert texts(found)["serving/requirements.in"].splitlines()[1] == "-r ../requirements.txt"
    text = "[project]\nname='x'\ndependencies=['numpy', 'shared']\n[tool.uv.sources]\nshared = {path='../shared'}\n"
    found = planned(tmp_path / "other", {"m.py": LOADER, "pyproject.toml": text})
    lines = texts(found)["requirements.in"].splitlines()
    assert lines[2:4] == ["numpy", "../shared"]


def test_a_requirement_for_another_platform_does_not_answer_the_loader(tmp_path: Path) -> None:
    text = "[project]\nname='x'\ndependencies=['onnxruntime; sys_platform == \"win32\"', 'uvicorn', 'numpy']\n"
    found = planned(tmp_path, {"m.onnx": onnx_bytes(), "pyproject.toml": text})
    lines = texts(found)["requirements.in"].splitlines()
    assert lines[lines.index("# For the server:") + 1 :] == sorted({*SERVER_NEEDS, "onnxruntime"} - {"uvicorn"})


def test_imports_that_no_file_names_are_said_unless_a_variant_is_named(tmp_path: Path) -> None:
    code = "import cv2, redis, onnxruntime, joblib\ndef load():\n    return joblib.load\n"
    required = "opencv-python\nonnxruntime-gpu\nredis[hiredis]>=5\n"
    found = planned(tmp_path, {"model.py": code, "requirements.txt": required})
    (note,) = (note for note in found.notes if "does not name" in note)
    assert "`requirements.txt` does not name `joblib`;" in note


@pytest.mark.parametrize("input_", ["api/requirements.txt", "api/requirements.in", "api/setup.py"])
def test_the_lock_never_takes_the_name_of_a_file_at_the_root(tmp_path: Path, input_: str) -> None:
    """The requirements of the served code can lie beside it, while the root has others."""
    code = "from flask import Flask\napp = Flask(__name__)\n"
    listed = "from setuptools import setup\nsetup(install_requires=['flask'])" if input_.endswith(".py") else "flask\n"
    found = planned(tmp_path, {"api/app.py": code, input_: listed, "requirements.txt": "numpy\n"})
    assert "  lock: requirements.lock" in texts(found)["mlship.yaml"]


def test_new_requirements_have_the_versions_of_the_training(tmp_path: Path) -> None:
    record = {
        "schema": 1,
        "packages": {"numpy": "1.26.4", "redis": "7.0", "onnxruntime": "1.22.0+cpu", "uvicorn": "0.20.0"},
        "imported": {"numpy": "numpy", "onnxruntime": "onnxruntime"},
    }
    named: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1.0]]}'}
    files = texts(planned(tmp_path, named | {"metadata.json": json.dumps(record)}))
    lines = files["requirements.in"].splitlines()
    assert {"numpy==1.26.4  # as in the training", "onnxruntime==1.22.0  # as in the training", "uvicorn"} <= {*lines}
    assert parse_config(files["mlship.yaml"]).model.metadata == "metadata.json"


@pytest.mark.parametrize("text", ['{"schema": 1}', "{}", "[1]", '{"config": {}, "packages": {"a": 1}, "schema": 1}'])
def test_other_metadata_is_no_record_of_a_training(tmp_path: Path, text: str) -> None:
    named: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1.0]]}'}
    assert "metadata:" not in texts(planned(tmp_path, named | {"metadata.json": text}))["mlship.yaml"]
