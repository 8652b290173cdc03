"""The content of an image's layers, and which layers a change affects, with real wheels and a real engine."""

import json
import os
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.build.preflight import unproven_name
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.toy import MODEL, YAML, toy

pytestmark = pytest.mark.docker
TAG = f"mlship-test-layers:{uuid.uuid4().hex[:8]}"
UNPROVEN = unproven_name(TAG)
ASKED = "fastapi\nnumpy\npackaging==25.0\npython-dateutil\n"
WEIGHTED = YAML.replace("  load: model:load\n", "  load: model:load\n  weights: [weights.txt]\n")
USES = "import dateutil.parser\nimport numpy\n"


def docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(300)).stdout


@pytest.fixture(scope="module", autouse=True)
def _images_go() -> Iterator[None]:
    yield
    subprocess.run(("docker", "rmi", "--force", TAG, UNPROVEN), capture_output=True, check=False, timeout=limit(60))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = toy(tmp_path_factory.mktemp("layers"), requirements_in=ASKED, model_py=USES + MODEL)
    done = mlship("lock", cwd=repo)
    assert done.code == 0, done.stderr
    return repo


@pytest.fixture
def repo(locked: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(locked, tmp_path / "toy"))


def built(repo: Path) -> dict[str, str]:
    """The digest of each layer as pushed, by the instruction that created it."""
    done = mlship("build", "--tag", TAG, "--no-smoke", cwd=repo)
    assert done.code == 0, done.stderr
    config = json.loads(docker("image", "inspect", UNPROVEN))[0]
    history = docker("history", "--no-trunc", "--format", "{{json .}}", UNPROVEN).splitlines()
    made = [json.loads(line) for line in reversed(history)]
    steps = [step["CreatedBy"] for step in made if makes_layer(step["CreatedBy"])]
    layers = config["RootFS"]["Layers"]
    names = [f"base {number}" for number in range(len(layers) - len(steps))] + steps
    return dict(zip((f"{number} {name}" for number, name in enumerate(names)), layers, strict=True))


def makes_layer(step: str) -> bool:
    return step.startswith(("RUN ", "COPY ", "WORKDIR "))


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    assert list(before) == list(after)
    return [name.partition(" ")[2] for name in before if before[name] != after[name]]


def test_a_source_edit_changes_only_the_code_layer(repo: Path) -> None:
    before = built(repo)
    (repo / "model.py").write_text((repo / "model.py").read_text() + "# edited\n")
    assert changed(before, built(repo)) == ["COPY /layers/code/ / # buildkit"]


def test_times_and_modes_of_a_checkout_change_nothing(repo: Path) -> None:
    before = built(repo)
    for path in repo.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o640)
    assert built(repo) == before


def test_a_version_bump_changes_one_layer_and_new_weights_another(repo: Path) -> None:
    (repo / "mlship.yaml").write_text(WEIGHTED)
    before = built(repo)
    (repo / "weights.txt").write_text("4.0\n5.0\n")
    weighted = built(repo)
    assert changed(before, weighted) == ["COPY /layers/weights/ / # buildkit"]
    (repo / "requirements.in").write_text(ASKED.replace("25.0", "24.2"))
    done = mlship("lock", cwd=repo)
    assert "~ packaging 25.0 -> 24.2" in done.stderr, done.stderr
    assert changed(weighted, built(repo)) == ["COPY /layers/light/bucket-2/ / # buildkit"]


def contents(tmp_path: Path) -> set[str]:
    """All paths of the image's file system."""
    container = docker("create", UNPROVEN).strip()
    try:
        subprocess.run(
            ("docker", "export", "--output", tmp_path / "all.tar", container), check=True, timeout=limit(120)
        )
    finally:
        docker("rm", container)
    with tarfile.open(tmp_path / "all.tar") as tar:
        return {member.name for member in tar}


def test_bytecode_exists_only_for_imported_modules(repo: Path, tmp_path: Path) -> None:
    built(repo)
    found = contents(tmp_path)
    site = "opt/venv/lib/python3.11/site-packages"
    assert f"{site}/numpy/__pycache__/__init__.cpython-311.pyc" in found
    assert f"{site}/dateutil/parser/__pycache__/_parser.cpython-311.pyc" in found
    assert f"{site}/fastapi/applications.py" in found
    assert not any(path.startswith(f"{site}/fastapi/") and path.endswith(".pyc") for path in found)
    assert any(path.endswith("json/__pycache__/decoder.cpython-311.pyc") for path in found)
    assert "app/__pycache__/model.cpython-311.pyc" in found


def test_tests_headers_and_installers_are_not_shipped(repo: Path, tmp_path: Path) -> None:
    built(repo)
    packages = {path for path in contents(tmp_path) if "/site-packages/" in path}
    assert not [path for path in packages if path.endswith((".h", ".a", "uv_cache.json"))]
    left = {path.partition("/tests/")[0].rpartition("/site-packages/")[2] for path in packages if "/tests/" in path}
    assert left == {"numpy"}, "numpy's own code names numpy.tests, and no other tests"
    assert not [path for path in contents(tmp_path) if "/pip/" in path or path.endswith("/.lock")]


def test_files_to_keep_are_kept(repo: Path, tmp_path: Path) -> None:
    (repo / "mlship.yaml").write_text(YAML + "keep: ['numpy/*/tests/*', '*.h']\n")
    built(repo)
    found = contents(tmp_path)
    assert any("/numpy/linalg/tests/" in path for path in found)
    assert any(path.endswith("numpy/arrayobject.h") for path in found)


def test_smoke_reports_removed_files_and_no_recompilation(repo: Path) -> None:
    done = mlship("build", "--tag", TAG, "--json", cwd=repo)
    assert done.code == 0, done.stdout + done.stderr
    smoke = json.loads(done.stdout)["smoke"]
    assert smoke["figures"]["left_out"] > 1_000_000
    (check,) = (check for check in smoke["checks"] if check["id"] == "model.compiled")
    assert check["status"] == "pass"


def test_imports_missing_from_the_trace_are_reported(repo: Path) -> None:
    (repo / "model.py").write_text("import fastapi\n" + (repo / "model.py").read_text())
    done = mlship("build", "--tag", TAG, cwd=repo)
    assert done.code == 0, done.stdout + done.stderr
    assert "`mlship lock --trace`" in done.stdout
    traced = mlship("lock", "--trace", cwd=repo)
    assert traced.code == 0, traced.stderr
    assert "compile all bytecode" not in traced.stderr  # nothing is, before it is known what is imported
    assert "`mlship lock --trace`" not in mlship("build", "--tag", TAG, cwd=repo).stdout


def test_a_server_that_does_not_start_does_not_prevent_a_lock(repo: Path) -> None:
    (repo / "server.py").write_text("raise SystemExit('no such thing')\n")
    done = mlship("lock", "--trace", cwd=repo)
    assert done.code == 0
    assert "the server could not be traced: the server exited with code 1" in done.stderr
    assert "no such thing" in done.stderr
