"""Imports of the served code that the locked wheels do not bring are said once, with the edit; others never."""

from functools import cache
from itertools import product
from pathlib import Path

import pytest

from mlship.lock.hashes import HashedPin
from mlship.lock.pages import IndexFile
from mlship.lock.served_imports import unprovided_imports
from mlship.project.config import Config
from mlship.project.load import parse_config
from tests.helpers.repos import write

CONFIG = """
name: a
python: "3.11"
model: {{load: "model:load", sample: in.json}}
serve: {{command: [{command}], live: /, ready: /, predict: /}}
source: [.]
env: {{PYTHONPATH: /app/lib}}
"""
WHEELS = {"uvicorn": ("uvicorn/__init__.py",), "six": ("six.py",), "opencv-python": ("cv2/cv2.abi3.so",)}
# Statements of a module, and whether its start fails without `{0}`.
SHAPES = {
    "import {0}": True,
    "from {0} import x": True,
    "import {0}.inner as y": True,
    "if True:\n    import {0}": True,
    "class A:\n    import {0}": True,
    "try:\n    import {0}\nexcept ImportError:\n    raise SystemExit": True,
    "try:\n    import {0}\nexcept ImportError:\n    x = None": False,
    "def f():\n    import {0}": False,
    "async def f():\n    from {0} import x": False,
    "if TYPE_CHECKING:\n    import {0}": False,
    "if __name__ == '__main__':\n    import {0}": False,
    "from . import {0}": False,
    "x = 'import {0}'": False,
}


@cache
def parsed(command: str) -> Config:
    return parse_config(CONFIG.format(command=command))


def pins(*names: str) -> list[HashedPin]:
    return [HashedPin(name, f"{name}==1", (), IndexFile(f"{name}.whl", "https://x/", None)) for name in names]


def warnings(repo: Path, *names: str, command: str = "uvicorn, app:app") -> list[str]:
    locked = pins(*(names or WHEELS))
    return list(
        unprovided_imports(repo, parsed(command), locked, lambda file: WHEELS.get(file.filename.removesuffix(".whl")))
    )


@pytest.mark.slow
def test_only_what_stops_the_start_and_is_nowhere(tmp_path: Path) -> None:
    code: dict[str, str | bytes] = {
        "app.py": "import model",
        "model.py": "import inner",
        "lib/inner.py": "",
        "lib/own/__init__.py": "",
    }
    modules, places = ("joblib", "strange", "six", "json", "own", "cv2"), ("app", "model", "lib/inner", "unused")
    for number, (shape, module, place) in enumerate(product(SHAPES, modules, places)):
        changed: dict[str, str | bytes] = {f"{place}.py": f"{code.get(f'{place}.py', '')!s}\n{shape.format(module)}"}
        found = warnings(write(tmp_path / str(number), code | changed))
        absent = SHAPES[shape] and module in {"joblib", "strange"} and place != "unused"
        assert len(found) == absent, (shape, module, place)
        if absent and module == "joblib":
            assert found == [
                f"`{place}.py` needs `joblib`, which no locked package brings; add `joblib` to `requirements.in`"
            ]


def test_the_package_is_named_only_if_it_is_known(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": "import strange, clip\nimport google.cloud.storage\n"})
    strange, clip, storage = sorted(warnings(tmp_path), key=lambda line: "strange" not in line)[:3]
    assert strange.endswith("`strange`, which no locked package brings; add its package to `requirements.in`")
    assert "openai-clip` or `" in clip
    assert "`google.cloud.storage`" in storage and "add `google-cloud-storage`" in storage  # noqa: PT018


def test_a_pin_without_a_wheel_may_bring_it(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": "import strange"})
    (line,) = warnings(tmp_path, "uvicorn", "old-sdist")
    assert "brings, unless old-sdist does, which cannot be looked into" in line
    (line,) = warnings(tmp_path, "uvicorn", *"abcde")
    assert "brings, unless a or b or c or one of 2 more does, which" in line


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("gunicorn, 'app:app'", ["`serve.command` needs `gunicorn`"]),
        (
            "env, '--chdir=sub', gunicorn, 'app:app'",
            ["`serve.command` needs `gunicorn`", "`sub/app.py` needs `joblib`"],
        ),
        ("python, -m, hypercorn, 'app:app'", ["`serve.command` needs `hypercorn`"]),
        ("python, -m, sub.app", ["`sub/app.py` needs `joblib`"]),
        ("python, sub/app.py", ["`sub/app.py` needs `joblib`"]),
        ("uvicorn, 'sub.app:app'", ["`sub/app.py` needs `joblib`"]),
        ("tritonserver, --http", []),
    ],
)
def test_the_command_names_what_starts(tmp_path: Path, command: str, missing: list[str]) -> None:
    write(tmp_path, {"sub/app.py": "import joblib", "sub/__init__.py": ""})
    assert [line.partition(", which")[0] for line in warnings(tmp_path, command=command)] == missing


def test_known_pins_are_not_looked_into(tmp_path: Path) -> None:
    write(tmp_path, {"model.py": "import six"})
    assert not list(
        unprovided_imports(tmp_path, parsed("uvicorn"), pins("six", "uvicorn"), lambda _: pytest.fail("looked"))
    )


def test_forms_of_fastapi_need_a_package_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "from fastapi import UploadFile\n"})
    (said,) = warnings(tmp_path, "fastapi", "uvicorn")
    assert "`app.py` needs `python_multipart`, which no locked package brings" in said
    assert "add `python-multipart` to" in said
    assert warnings(tmp_path, "fastapi", "uvicorn", "python-multipart") == []
    write(tmp_path, {"app.py": "from fastapi import FastAPI\n"})
    assert warnings(tmp_path, "fastapi", "uvicorn") == []
