"""TorchServe and uvicorn's worker class are named where a repository uses them, and nowhere else."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from tests.helpers.repos import onnx_bytes, write

FASTAPI = "from fastapi import FastAPI\n\napp = FastAPI()\n"
HANDLER = "from ts.torch_handler.base_handler import BaseHandler\n\n\nclass Handler(BaseHandler): ...\n"


def said(tmp_path: Path, files: dict[str, str | bytes], word: str) -> list[str]:
    return [note for note in detect(write(tmp_path, {"model.onnx": onnx_bytes(), **files})).notes if word in note]


@pytest.mark.parametrize(
    "files",
    [
        {"Procfile": "web: gunicorn main:app -k uvicorn.workers.UvicornWorker\n"},
        {"Dockerfile": 'FROM python:3.12\nCMD ["gunicorn", "main:app", "-k", "uvicorn.workers.UvicornH11Worker"]\n'},
        {"deploy/gunicorn_conf.py": 'worker_class = "uvicorn.workers.UvicornWorker"\n'},
        {"start.sh": "exec gunicorn main:app --worker-class=uvicorn.workers.UvicornWorker\n"},
    ],
)
def test_the_worker_class_of_uvicorn(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    (note,) = said(tmp_path, {"main.py": FASTAPI, **files}, "uvicorn-worker")
    assert note.startswith(f"`{next(iter(files))}`: `uvicorn.workers` is deprecated")


@pytest.mark.parametrize(
    "files",
    [
        {"Procfile": "web: gunicorn main:app -k uvicorn_worker.UvicornWorker\n"},
        {"start.sh": "# was: -k uvicorn.workers.UvicornWorker\nexec uvicorn main:app\n"},
    ],
)
def test_its_replacement_and_comments_are_fine(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    assert not said(tmp_path, {"main.py": FASTAPI, **files}, "deprecated")


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"handler.py": HANDLER}, "handler.py"),
        ({"requirements.txt": "torch\ntorchserve==0.12.0\n"}, "requirements.txt"),
        ({"Dockerfile": "FROM pytorch/torchserve:0.12.0-cpu\n"}, "Dockerfile"),
        ({"model_store/net.mar": "x"}, "model_store/net.mar"),
    ],
)
def test_torchserve(tmp_path: Path, files: dict[str, str | bytes], place: str) -> None:
    (note,) = said(tmp_path, files, "TorchServe")
    assert note.startswith(f"`{place}`: TorchServe was archived in August 2025")


def test_a_package_of_the_repository_is_not_torchserve(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"ts/__init__.py": "", "ts/io.py": "x = 1\n", "main.py": "from ts.io import x\n"}
    assert not said(tmp_path, files, "TorchServe")
