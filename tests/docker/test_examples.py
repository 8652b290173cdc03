"""Build each example without a GPU from its bare repository to a proven image, with a user's commands."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.command import Command, mlship
from tests.helpers.examples import Example, examples
from tests.helpers.judges import program, trivy_image
from tests.helpers.patience import limit

pytestmark = pytest.mark.docker
BUILT = [example for example in examples() if not example.gpu]


@dataclass(frozen=True)
class Built:
    example: Example
    repo: Path
    tag: str
    build: Command


@pytest.fixture(scope="module", params=BUILT, ids=lambda example: example.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """init, lock, build; the image stays as cache for the next run, under a name of its own."""
    example: Example = request.param
    repo = example.with_weights(tmp_path_factory.mktemp("examples"))
    tag = f"mlship-test-example/{example.name}:latest"
    assert mlship("init", "--yes", cwd=repo).code == 0
    locked = mlship("lock", cwd=repo)
    assert locked.code == 0, locked.stderr
    return Built(example, repo, tag, mlship("build", "--tag", tag, "--json", cwd=repo, seconds=example.max_seconds))


def inside(built: Built, *command: str) -> str:
    run = ("docker", "run", "--rm", "--network=none", "--entrypoint", command[0], built.tag, *command[1:])
    return subprocess.run(run, capture_output=True, text=True, timeout=limit(60), check=False).stdout


def test_is_proven(built: Built) -> None:
    assert built.build.code == 0, built.build.stderr + built.build.stdout
    report = json.loads(built.build.stdout)
    status = {check["id"]: check["status"] for check in report["smoke"]["checks"]}
    assert "fail" not in status.values()
    for proven in ("model.load", "model.warm", "model.finite", "serve.ready", "serve.predict", "serve.malformed"):
        assert status[proven] == "pass", (proven, report)
    assert {status["serve.sigterm"], status["serve.inflight"]} == {"pass"}
    assert report["smoke"]["device"] == "cpu"
    if (built.repo / "golden.json").exists():
        assert status["model.golden"] == "pass"


def test_a_build_without_changes_is_fast(built: Built) -> None:
    again = mlship("build", "--tag", built.tag, "--no-smoke", "--json", cwd=built.repo)
    assert json.loads(again.stdout)["image_id"] == json.loads(built.build.stdout)["image_id"]


def test_a_second_init_and_lock_change_nothing(built: Built) -> None:
    before = {path: path.read_bytes() for path in built.repo.rglob("*") if path.is_file()}
    assert mlship("init", "--yes", cwd=built.repo).code == 0
    assert mlship("lock", "--check", cwd=built.repo).code == 0
    after = {path: path.read_bytes() for path in built.repo.rglob("*") if path.is_file()}
    assert after == before


def test_image_is_not_root_and_cannot_write_app_or_venv(built: Built) -> None:
    assert inside(built, "id", "-u").strip() == "1001"
    assert inside(built, "find", "/app", "/opt/venv", "-writable", "-not", "-type", "l", "-print").strip() == ""
    assert inside(built, "find", "/app", "/opt/venv", "-not", "-user", "root", "-print").strip() == ""


def test_image_has_no_build_tools(built: Built) -> None:
    found = inside(
        built, "sh", "-c", "for p in gcc cc pip pip3 curl git uv; do command -v $p; done; ls /wheelhouse /uv.txt"
    )
    assert found == ""


INSTALLED = """
import importlib.metadata as metadata, sys
venv = [path for path in sys.path if "/opt/venv" in path]
print(*(f"{found.name}=={found.version}" for found in metadata.distributions(path=venv)))
"""


def test_the_audit_finds_nothing(built: Built) -> None:
    audit = mlship("audit", "--strict", built.tag, cwd=built.repo)
    assert audit.code == 0, audit.stdout + audit.stderr


@pytest.mark.may_skip
def test_trivy_finds_nothing(built: Built, tmp_path: Path) -> None:
    program("trivy")
    archive = tmp_path / "image.tar"
    subprocess.run(["docker", "save", "--output", archive, built.tag], check=True, timeout=limit(300))
    assert trivy_image(archive).found == frozenset()


def test_image_has_exactly_the_lock(built: Built) -> None:
    installed = {normal(pin) for pin in inside(built, "python", "-c", INSTALLED).split()}
    lock = next(path for name in ("requirements.lock", "requirements.txt") if (path := built.repo / name).exists())
    lines = lock.read_text().splitlines()
    assert installed == {normal(line.split()[0]) for line in lines if "==" in line and line[0] not in "# "}
    assert not any(pin.startswith("pip==") for pin in installed)


def normal(pin: str) -> str:
    name, _, version = pin.partition("==")
    return f"{name.lower().replace('_', '-').replace('.', '-')}=={version}"
