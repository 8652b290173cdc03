"""The steps of the printed pipelines, run as a CI service does: in a bare clone, with mlship installed from a wheel."""

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.toy import toy

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parents[2]
COMMIT = uuid.uuid4().hex


@dataclass(frozen=True)
class Runner:
    """A machine of the CI service: a clone, and the environment of its steps."""

    clone: Path
    environment: dict[str, str]

    def run(self, script: str) -> str:
        done = subprocess.run(
            ("bash", "-e", "-o", "pipefail", "-c", script),
            cwd=self.clone, env=self.environment, capture_output=True, text=True, check=False, timeout=limit(500),
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    argv = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    subprocess.run(argv, check=True, timeout=limit(200))
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repo = toy(tmp_path_factory.mktemp("ci"))
    assert mlship("lock", cwd=repo).code == 0
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "Ship")):
        subprocess.run(("git", *arguments), cwd=repo, check=True, timeout=limit(20))
    return repo


@pytest.fixture
def runner(committed: Path, wheel: Path, registry: str, tmp_path: Path) -> Iterator[Runner]:
    clone, python = tmp_path / "clone", tmp_path / "python"
    subprocess.run(("git", "clone", "-q", str(committed), str(clone)), check=True, timeout=limit(20))
    subprocess.run((sys.executable, "-m", "venv", str(python)), check=True, timeout=limit(60))
    environment = {
        **os.environ,
        "PATH": f"{python}/bin:{os.environ['PATH']}",
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "MLSHIP": str(wheel),
        "REGISTRY": registry,
        "REGISTRY_USER": "ci",
        "REGISTRY_PASSWORD": "secret",
    }
    yield Runner(clone, environment)
    names = "{{.Repository}}:{{.Tag}}"
    images = ("docker", "images", "--format", f"'{names}'", "--filter", f"reference={registry}/*/*/toy")
    subprocess.run(("sh", "-c", f"{' '.join(images)} | xargs -r docker rmi --force"), check=False, timeout=limit(60))


def tags(registry: str, repository: str) -> list[str]:
    with urllib.request.urlopen(f"http://{registry}/v2/{repository}/tags/list", timeout=limit(20)) as answer:
        found: list[str] = json.load(answer)["tags"]
    return sorted(found)


def test_github(committed: Path, runner: Runner, registry: str, tmp_path: Path) -> None:
    workflow = yaml.safe_load(mlship("ci", "github", cwd=committed).stdout)
    summary, commit = tmp_path / "summary.md", uuid.uuid4().hex
    runner.environment.update(
        GITHUB_REPOSITORY=f"Team/{COMMIT[:8]}", GITHUB_SHA=commit, GITHUB_STEP_SUMMARY=str(summary), CI="true"
    )
    printed = ""
    for step in workflow["jobs"]["image"]["steps"]:
        if "run" in step and step.get("if") != "github.event_name != 'push'":
            printed = runner.run(step["run"])
    assert printed.startswith(f"PROVEN on cpu: {registry}/team/{COMMIT[:8]}/toy:{commit}\n")
    assert "PROVEN" in summary.read_text()
    assert {commit, "cache"} <= set(tags(registry, f"team/{COMMIT[:8]}/toy"))


@pytest.mark.parametrize("branch", ["main", "change"])
def test_gitlab(branch: str, committed: Path, runner: Runner, registry: str) -> None:
    job = yaml.safe_load(mlship("ci", "gitlab", cwd=committed).stdout)["image"]
    commit, image = uuid.uuid4().hex, f"{registry}/team/{uuid.uuid4().hex[:8]}"
    runner.environment.update(
        CI_REGISTRY_IMAGE=image, CI_COMMIT_SHA=commit, CI_COMMIT_BRANCH=branch, CI_DEFAULT_BRANCH="main", CI="true"
    )
    printed = "".join(runner.run(line) for line in job["script"])
    pushed = f"PROVEN on cpu: {image}/toy:{commit}\n  digest" in printed
    assert pushed == (branch == "main")
    assert printed.count("PROVEN on cpu") == 1 + pushed
