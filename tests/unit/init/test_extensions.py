"""Compiled modules of the repository: their wheel is a step, and no index is asked for them."""

from pathlib import Path

import pytest

from mlship.init.detect import detect
from mlship.init.scaffold import scaffold
from tests.helpers.repos import write

LOADER = "{}\ndef load(): return lambda request: _fast.run(request)\n"
MATURIN = "[project]\nname = 'fast'\n[tool.maturin]\nmodule-name = 'fast._fast'\n"


@pytest.mark.parametrize(
    ("files", "statement", "name"),
    [
        ({"setup.py": "setup(ext_modules=[Extension('_fast', ['a.c'])])"}, "import _fast", "_fast"),
        ({"setup.py": "e = Pybind11Extension(\n  name='fast._fast')\n"}, "from fast import _fast", "fast._fast"),
        ({"pyproject.toml": MATURIN}, "from fast import _fast", "fast._fast"),
    ],
)
def test_a_compiled_module_is_a_step_until_its_wheel_is_required(
    tmp_path: Path, files: dict[str, str | bytes], statement: str, name: str
) -> None:
    write(tmp_path, {"m.py": LOADER.format(statement), "fast/__init__.py": "", "sample.json": "[1]", **files})
    planned = scaffold(detect(tmp_path))
    (step,) = planned.todo
    assert f"compiles `{name}`" in step
    assert "pip wheel --no-deps --wheel-dir wheels ." in step
    wheel = "wheels/fast-1.0-cp311-cp311-linux_x86_64.whl"
    write(tmp_path, {"requirements.in": f"./{wheel}\nfastapi\nuvicorn\n", wheel: b""})
    assert scaffold(detect(tmp_path)).todo == ()


def test_an_extension_that_no_served_code_imports_is_no_step(tmp_path: Path) -> None:
    write(tmp_path, {"m.py": LOADER.format("import numpy"), "setup.py": "Extension('_fast', [])", "sample.json": "[1]"})
    assert scaffold(detect(tmp_path)).todo == ()
