"""Folders of pages are shipped, and a template that Flask would not find is a step; nothing is said that is unsure."""

from itertools import product
from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

FLASK = """
import os
from flask import Flask, render_template
PAGES = "pages"
app = Flask(__name__{arguments})
@app.route("/", methods=["GET", "POST"])
def index(): return render_template("index.html")
"""


@pytest.mark.parametrize(
    ("argument", "folder"),
    [
        ("template_folder='../pages'", "pages"),
        ("template_folder=PAGES", "web/pages"),
        ("static_folder='assets', template_folder='../pages'", "pages"),
        ("template_folder=os.path.join(os.path.dirname(__file__), '..', 'pages')", "pages"),
        ("template_folder=os.path.join(os.path.dirname(__file__), 'pages')", "web/pages"),
    ],
)
def test_named_folders_are_shipped(tmp_path: Path, argument: str, folder: str) -> None:
    code = FLASK.format(arguments=f", {argument}")
    found = detect(write(tmp_path, {"web/app.py": code, f"{folder}/index.html": "<form>", "pages.md": ""}))
    assert {"web", folder.split("/", maxsplit=1)[0]} == set(found.source)
    assert not any("Flask looks" in step for step in scaffold(found).todo)


def test_static_files_of_fastapi_are_shipped(tmp_path: Path) -> None:
    code = "from fastapi import FastAPI\napp = FastAPI()\napp.mount('/', StaticFiles(directory='dist/web'))\n"
    found = detect(write(tmp_path, {"main.py": code, "dist2/x": "", "front/a.js": "", "public/web/a.js": ""}))
    assert found.source == ("main.py",)
    (tmp_path / "main.py").write_text(code.replace("dist/web", "public/web"))
    assert detect(tmp_path).source == ("main.py", "public/web")


def test_a_template_elsewhere_is_a_step_and_moving_it_is_enough(tmp_path: Path) -> None:
    for number, (folder, place) in enumerate(product(["", "web/"], ["index.html", "pages/index.html", None])):
        repo = write(tmp_path / str(number), {f"{folder}app.py": FLASK.format(arguments="")})
        write(repo, {place: "<form>"} if place else {})
        target = f"{folder}templates/index.html"
        (step,) = (step for step in scaffold(detect(repo)).todo if "Flask looks" in step)
        start = f"Move `{place}` to `{target}`" if place else f"Add `{target}`"
        assert step == f"{start}, where Flask looks for what `{folder}app.py` renders in line 7."
        write(repo, {target: "<form>"})
        assert not any("Flask looks" in step for step in scaffold(detect(repo)).todo)


def test_a_folder_that_is_computed_is_no_step(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": FLASK.format(arguments=", template_folder=os.environ['PAGES']"), "index.html": ""})
    assert not any("Flask looks" in step for step in scaffold(detect(tmp_path)).todo)
