"""A server runs in the folder that its code expects, whatever the repository is called and holds."""

import posixpath
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.found import Detection, ExistingServer
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

FLASK = "from flask import Flask\nimport pickle\napp = Flask(__name__)\nmodel = pickle.load(open({!r}, 'rb'))\n"
PICKLE = b"\x80\x04N."


def server_of(repo: Path, files: dict[str, str | bytes]) -> tuple[Detection, ExistingServer]:
    write(repo, files)
    found = detect(repo)
    assert found.server
    return found, found.server


@pytest.mark.parametrize("path", ["m.pkl", "./m.pkl", "models/m.pkl"])
@pytest.mark.parametrize("folder", ["ml", "a/b"])
def test_a_server_runs_where_its_files_are(tmp_path: Path, folder: str, path: str) -> None:
    found, server = server_of(
        tmp_path, {f"{folder}/app.py": FLASK.format(path), f"{folder}/{path.removeprefix('./')}": PICKLE}
    )
    assert server.command[:4] == ("env", f"--chdir={folder}", "gunicorn", "app:app")
    assert "it runs in `" in server.why
    assert found.python_path is None
    assert found.weights.named == (f"{folder}/{path.removeprefix('./')}",)


@pytest.mark.parametrize("folder", ["", "src/", "api/"])
def test_the_settings_of_gunicorn_are_not_the_server(tmp_path: Path, folder: str) -> None:
    docker = f"FROM python:3.11\nWORKDIR /a\nCOPY {folder or '.'} .\nCMD gunicorn -c gunicorn_conf.py app:app\n"
    code = "from flask import Flask\napp = Flask('x')\n@app.post('/predict')\ndef p(): ...\n"
    conf = "bind = '0.0.0.0:8000'\n"
    _, server = server_of(tmp_path, {"Dockerfile": docker, f"{folder}app.py": code, f"{folder}gunicorn_conf.py": conf})
    assert (server.path, server.routes.predict) == (f"{folder}app.py", "/predict")
    assert {"gunicorn_conf.py", "app:app"} <= {*server.command}


def test_an_absent_file_is_asked_for_in_the_folder(tmp_path: Path) -> None:
    docker = "FROM python:3.11\nCMD python3 app.py\n"
    found, _ = server_of(tmp_path, {"Dockerfile": docker, "web/app.py": FLASK.format("models/m.pkl")})
    assert found.weights.named == ("web/models/m.pkl",)
    assert found.weights.absent[0].path == "web/models/m.pkl"


def test_a_server_that_opens_files_from_the_root_runs_there(tmp_path: Path) -> None:
    _, server = server_of(tmp_path, {"ml/app.py": FLASK.format("ml/m.pkl"), "ml/m.pkl": PICKLE})
    assert server.command[:2] == ("gunicorn", "ml.app:app")


def test_a_written_command_keeps_its_folder_if_one_file_is_opened_from_it(tmp_path: Path) -> None:
    code = FLASK.format("ml/m.pkl") + "other = pickle.load(open('written-later.pkl', 'rb'))\n"
    _, server = server_of(tmp_path, {"Procfile": "web: gunicorn app:app\n", "ml/app.py": code, "ml/m.pkl": PICKLE})
    assert server.command[:2] == ("gunicorn", "app:app")


def test_modules_below_the_root_are_found_from_the_folder(tmp_path: Path) -> None:
    code = FLASK.format("m.pkl") + "from ml.features import scale\n"
    found, server = server_of(tmp_path, {"ml/app.py": code, "ml/m.pkl": PICKLE, "ml/features.py": "scale = 1\n"})
    assert server.command[:4] == ("env", "--chdir=ml", "gunicorn", "ml.app:app")
    assert found.python_path == "/app"


@pytest.mark.parametrize("folder", ["fastapi", "code", "flask", "platform", "xgboost"])
def test_a_folder_that_another_module_hides_is_entered(tmp_path: Path, folder: str) -> None:
    _, server = server_of(tmp_path, {f"{folder}/main.py": "from flask import Flask\napp = Flask(__name__)\n"})
    assert server.command[:4] == ("env", f"--chdir={folder}", "gunicorn", "main:app")


def test_the_command_of_a_dockerfile_runs_where_its_module_is(tmp_path: Path) -> None:
    docker = "FROM python:3.11\nCOPY ./web /srv\nWORKDIR /srv\nCMD python3 app.py\n"
    found, server = server_of(
        tmp_path, {"Dockerfile": docker, "web/app.py": FLASK.format("m.pkl"), "web/m.pkl": PICKLE, "web/train.py": ""}
    )
    assert server.command[:4] == ("env", "--chdir=web", "python3", "app.py")
    assert server.path == "web/app.py"
    assert found.weights.named == ("web/m.pkl",)


def test_a_command_that_changes_its_folder_itself_is_kept(tmp_path: Path) -> None:
    _, server = server_of(
        tmp_path, {"Procfile": "web: gunicorn --chdir web app:app\n", "web/app.py": FLASK.format("x")}
    )
    assert server.command[:3] == ("gunicorn", "--chdir", "web")


def test_the_other_server_objects_are_not_the_chosen_one(tmp_path: Path) -> None:
    flask = "from flask import Flask\napp = Flask(__name__)\n"
    docker = "FROM python:3.11\nCMD gunicorn api:app\n"
    found, _ = server_of(tmp_path, {"Dockerfile": docker, "app.py": flask, "api.py": flask})
    assert "found 2 server objects; using that of the command, not app:app" in found.notes
    assert scaffold(found).files


@pytest.mark.parametrize("folder", ["4-onnx", "my-app", "class"])
def test_a_folder_that_python_cannot_import_from_is_entered(tmp_path: Path, folder: str) -> None:
    _, server = server_of(tmp_path, {f"{folder}/serve.py": "from flask import Flask\napp = Flask(__name__)\n"})
    assert server.command[:4] == ("env", f"--chdir={folder}", "gunicorn", "serve:app")
    assert server.why.endswith(f"because Python cannot import from `{folder}`")


def test_other_files_that_models_are_in_count(tmp_path: Path) -> None:
    code = (
        "from flask import Flask\nimport cv2\napp = Flask(__name__)\ndef f():\n    cv2.CascadeClassifier('face.xml')\n"
    )
    _, server = server_of(tmp_path, {"backend/app.py": code, "backend/face.xml": "<x/>"})
    assert server.command[:2] == ("env", "--chdir=backend")


@pytest.mark.parametrize(("folder", "depth"), [("src", 1), ("web", 1), ("a/b", 1), ("a/b", 2)])
def test_paths_out_of_the_folder_say_that_the_server_runs_there(tmp_path: Path, folder: str, depth: int) -> None:
    path = "../" * depth + "models/m.pkl"
    place = posixpath.normpath(f"{folder}/{path}")
    others: dict[str, str | bytes] = {f"{folder}/m.pkl": PICKLE, "other/m.pkl": PICKLE}
    found, server = server_of(tmp_path, {f"{folder}/app.py": FLASK.format(path), place: PICKLE, **others})
    assert server.command[:4] == ("env", f"--chdir={folder}", "gunicorn", "app:app")
    assert found.weights.named == (place,)


def test_a_path_out_of_the_repository_is_no_step(tmp_path: Path) -> None:
    found, server = server_of(tmp_path, {"app.py": FLASK.format("../m.pkl")})
    assert server.command[0] == "gunicorn"
    assert found.weights.absent == ()


def test_a_file_beside_a_folder_of_its_name_hides_the_folder(tmp_path: Path) -> None:
    app = "from flask import Flask\napp = Flask(__name__)\n"
    files: dict[str, str | bytes] = {
        "app/app.py": f"{app}@app.post('/predict')\ndef p(): pass\n",
        "app.py": "import streamlit\n",
    }
    found, server = server_of(tmp_path, files)
    assert server.command[:4] == ("env", "--chdir=app", "gunicorn", "app:app")
    assert [need.line for need in found.imports.known] == ["flask"]
    assert found.source == ("app",)


@pytest.mark.parametrize("place", ["app/main.py", "main.py", "src/main.py"])
def test_code_that_imports_from_src_by_name_runs_at_the_root(tmp_path: Path, place: str) -> None:
    app = "from fastapi import FastAPI\nfrom src.schema import Payload\nfrom src.ml import load\napp = FastAPI()\n"
    files: dict[str, str | bytes] = {"src/schema.py": "import pydantic", "src/ml/__init__.py": "import joblib"}
    found, server = server_of(tmp_path, files | {place: app, "tests/test_app.py": "from src.main import app"})
    assert server.command[1] == f"{place.removesuffix('.py').replace('/', '.')}:app"
    assert found.python_path is None
    assert set(found.source) == {"src", place.split("/", maxsplit=1)[0]}
    assert {need.line for need in found.imports.known} == {"fastapi", "joblib", "pydantic"}


@pytest.mark.parametrize(
    ("files", "command", "runs"),
    [
        ({"service/main.py": ""}, "uvicorn app.main:app --port 80", "service.main:app"),
        ({"service/main.py": "", "app/main.py": "x = 1\n"}, "uvicorn app.main:app", "app.main:app"),
        ({"service/main.py": "", "app/main.py": "not Python"}, "uvicorn app.main:app", "app.main:app"),
        ({"service/main.py": "", "a/web.py": ""}, "uvicorn app.main:app", "service.main:app"),
        ({"service/main.py": ""}, "uvicorn app.main:other", "app.main:other"),
        ({"service/main.py": ""}, "uvicorn mlflow.server:app", "mlflow.server:app"),
        ({"service/main.py": ""}, "uvicorn mlflow:app", "mlflow:app"),
    ],
)
def test_a_command_names_the_module_as_it_is_here(
    tmp_path: Path, files: dict[str, str], command: str, runs: str
) -> None:
    """`COPY service app` in a Dockerfile, or one that was left behind when a folder got another name."""
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    code: dict[str, str | bytes] = {path: text or app for path, text in files.items()}
    _, server = server_of(tmp_path, {"Dockerfile": f"FROM python:3.11\nCMD {command}\n", **code})
    assert server.command[:2] == ("uvicorn", runs)
    assert ("for `app.main:app`, which is not here" in server.why) == (runs == "service.main:app")


@pytest.mark.parametrize("imports", ["app.lib", "svc.lib"])
def test_code_that_imports_itself_by_its_name_in_an_image_is_to_be_moved(tmp_path: Path, imports: str) -> None:
    app = f"from fastapi import FastAPI\nimport {imports}\napp = FastAPI()\n"
    docker = "FROM python:3.11\nCOPY svc app\nCMD uvicorn app.main:app\n"
    _, server = server_of(tmp_path, {"Dockerfile": docker, "svc/main.py": app, "svc/lib.py": ""})
    assert server.command[1] == "svc.main:app"
    assert any("Move the code into a folder `app`" in step for step in server.steps) == (imports == "app.lib")


def test_a_command_that_several_modules_may_be_meant_by_is_for_the_user_to_correct(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    docker = "FROM python:3.11\nCMD uvicorn app.main:app\n"
    found, server = server_of(tmp_path, {"Dockerfile": docker, "a/main.py": app, "b/main.py": app})
    assert server.command[:2] == ("uvicorn", "app.main:app")
    (step,) = (one for one in server.steps if "serve.command" in one)
    assert step == "Correct `serve.command`: `app.main:app` is not here, but `a.main:app`, `b.main:app` are."
    assert not any("using that of the command" in note for note in found.notes)


def test_a_command_in_another_image_s_folders_runs_at_the_root_if_its_files_are_there(tmp_path: Path) -> None:
    """`COPY src/api ./api` in a Dockerfile, and a model beside it."""
    docker = 'FROM python:3.11\nCMD ["gunicorn", "api.app:app"]\n'
    files: dict[str, str | bytes] = {
        "Dockerfile": docker,
        "src/__init__.py": "",
        "src/api/app.py": FLASK.format("models/m.pkl"),
    }
    found, server = server_of(tmp_path, files | {"models/m.pkl": PICKLE})
    assert server.command[:2] == ("gunicorn", "api.app:app")
    assert found.python_path == "src"
    assert found.weights.named == ("models/m.pkl",)
    write(tmp_path, {"src/models/m.pkl": PICKLE})
    moved = detect(tmp_path)
    assert moved.server
    assert moved.server.command[:3] == ("env", "--chdir=src", "gunicorn")


@pytest.mark.parametrize(("init", "imported"), [("", "flask"), (None, "flask"), ("", "datasets")])
def test_a_package_with_the_name_of_its_framework_is_entered(tmp_path: Path, init: str | None, imported: str) -> None:
    files: dict[str, str | bytes] = {f"{imported}/server.py": "from flask import Flask\napp = Flask(__name__)\n"}
    files |= {} if init is None else {f"{imported}/__init__.py": init}
    _, server = server_of(tmp_path, files)
    assert (server.command[1] == f"--chdir={imported}") == (imported == "flask")


def test_a_script_at_the_root_comes_before_one_of_its_name_below_src(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    files: dict[str, str | bytes] = {"src/app.py": "X = 1\n", "src/lib.py": "x = 1\n"}
    docker = "FROM python:3.11\nCMD python app.py\n"
    _, server = server_of(tmp_path, {"Dockerfile": docker, "app.py": f"import lib\n{app}", **files})
    assert (server.path, server.command) == ("app.py", ("python", "app.py"))
    assert server.modules == ("app", "lib")


@pytest.mark.parametrize("script", ["wsgi.py", "src/wsgi.py"])
def test_a_script_below_src_runs_where_its_command_finds_it(tmp_path: Path, script: str) -> None:
    app = "from fastapi import FastAPI\nimport lib\napp = FastAPI()\n"
    docker = f"FROM python:3.11\nCOPY src .\nCMD python {script}\n"
    _, server = server_of(tmp_path, {"Dockerfile": docker, "src/wsgi.py": app, "src/lib.py": "x = 1\n"})
    folder = () if script == "src/wsgi.py" else ("env", "--chdir=src")
    assert server.command == (*folder, "python", script)
    assert server.path == "src/wsgi.py"
