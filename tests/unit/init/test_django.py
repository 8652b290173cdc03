"""A Django project is served as a whole, from its own folder; nothing is said about routes, which are not read."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

GATEWAY = """
import os
from django.core.{kind} import get_{kind}_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_.settings")
application = get_{kind}_application()
"""
PROJECT: dict[str, str | bytes] = {
    "manage.py": "import django",
    "site_/__init__.py": "",
    "site_/settings.py": "INSTALLED_APPS = ['scores']",
    "site_/urls.py": "from scores import views",
    "scores/views.py": "import joblib\nmodel = joblib.load('scores/model.pkl')\n",
    "scores/templates/home.html": "<form>",
    "scores/tests.py": "import pytest",
    "scores/model.pkl": b"\x80\x04N.",
}


@pytest.mark.parametrize(("kind", "server"), [("wsgi", "gunicorn"), ("asgi", "uvicorn")])
@pytest.mark.parametrize("folder", ["", "web/"])
def test_a_project_runs_in_its_folder(tmp_path: Path, kind: str, server: str, folder: str) -> None:
    write(tmp_path, {f"{folder}{path}": content for path, content in PROJECT.items()})
    write(tmp_path, {f"{folder}site_/{kind}.py": GATEWAY.format(kind=kind), "other.py": "import torch"})
    found = detect(tmp_path)
    assert found.server
    moved = ("env", "--chdir=web") if folder else ()
    assert found.server.command[: len(moved) + 2] == (*moved, server, f"site_.{kind}:application")
    assert found.weights.named == (f"{folder}scores/model.pkl",)
    assert {need.line for need in found.imports.known} == {"django", "joblib"}
    assert set(found.source) == ({"web"} if folder else {"scores", "site_"})
    assert {server, "django"} <= set(found.server.needs)
    assert not any("no health route" in note or "no POST route" in note for note in found.notes)
    assert any("routes of Django are not read" in note for note in found.notes)
    steps = scaffold(found).todo
    assert {key for key in ("live", "ready", "predict") if any(f"`serve.{key}`" in one for one in steps)} == {
        "live",
        "ready",
        "predict",
    }


def test_another_server_that_predicts_comes_first(tmp_path: Path) -> None:
    api = "from fastapi import FastAPI\napp = FastAPI()\n@app.post('/predict')\ndef p(x: dict): return x\n"
    write(tmp_path, PROJECT | {"site_/wsgi.py": GATEWAY.format(kind="wsgi"), "main.py": api})
    found = detect(tmp_path)
    assert found.server
    assert found.server.command[1] == "main:app"
