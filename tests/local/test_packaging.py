"""mlship finds its templates in a wheel, an editable install and a checkout."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from mlship.resources import read_template
from tests.helpers.patience import limit

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build like a release: an sdist, then the wheel from it."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=limit(120))
    return next(out.glob("*.whl"))


def test_checkout_finds_its_templates() -> None:
    assert "FROM" in read_template("Dockerfile.j2")


def test_wheel_holds_what_it_should(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"mlship/{path.relative_to(ROOT)}" for path in (ROOT / "templates").rglob("*") if path.is_file()}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mlship").rglob("*.py")}
    facts = {str(path.relative_to(ROOT)) for path in (ROOT / "mlship/data").rglob("*.toml")}
    assert facts
    assert templates | modules | facts <= names
    assert not [name for name in names if name.startswith(("tests", "examples", "scripts"))]


def test_wheel_renders_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Install only the wheel in a new environment; its dependencies come from this one, without a download."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--quiet",
            "install",
            "--no-deps",
            "--no-index",
            "--target",
            str(site),
            str(wheel),
        ],
        check=True,
        timeout=120,
    )
    here = next(path for path in sys.path if path.endswith("site-packages"))
    script = "import mlship.resources as r; print(r.__file__); print(len(r.read_template('Dockerfile.j2')))"
    code = f"import sys; sys.path.append({here!r}); {script}"
    done = subprocess.run(
        [python, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path, timeout=limit(60)
    )
    where, length = done.stdout.split()
    assert where.startswith(str(site))
    assert int(length) == len(read_template("Dockerfile.j2"))
    repo = tmp_path / "repo"
    repo.mkdir()
    shutil.copy(ROOT / "examples/digits-onnx/repo/model.onnx", repo)
    command = f"import sys; sys.path.append({here!r}); from mlship.__main__ import main; main()"
    init = [str(python), "-I", "-c", command, "init", "--yes", "-C", str(repo)]
    subprocess.run(init, check=True, capture_output=True, cwd=tmp_path, timeout=limit(60))
    assert "serving.model:load" in (repo / "mlship.yaml").read_text()
    assert (repo / "serving/app.py").is_file()
