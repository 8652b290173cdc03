"""Build and prove a small image on each supported Python whose base image is available."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.engine.base import Engine
from mlship.errors import MlshipError
from mlship.project.base import base_reference
from mlship.project.config import PYTHONS
from mlship.project.load import load_config
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.toy import YAML, toy

DISTROS = ("bookworm", "trixie")
TAG = "mlship-test-python/{}:latest"


@pytest.fixture(params=PYTHONS)
def repo(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """The toy repository on the first Debian release with a base image for this Python."""
    version: str = request.param
    for distro in DISTROS:
        folder = tmp_path / distro
        folder.mkdir()
        repo = toy(folder, mlship_yaml=f'{YAML}python: "{version}"\nbase: {{distro: {distro}}}\n')
        try:
            engine.resolve(base_reference(load_config(repo)))
        except MlshipError:
            continue
        yield repo
        tag = TAG.format(version)
        subprocess.run(("docker", "rmi", "--force", tag), capture_output=True, check=False, timeout=limit(60))
        return
    pytest.skip(f"no base image python:{version}-slim-{{{','.join(DISTROS)}}} can be had here")


@pytest.mark.may_skip
def test_is_built_and_proven(repo: Path) -> None:
    version = load_config(repo).python
    locked = mlship("lock", cwd=repo)
    assert locked.code == 0, locked.stderr
    tag = TAG.format(version)
    done = mlship("build", "--tag", tag, "--json", cwd=repo)
    assert done.code == 0, done.stderr + done.stdout
    assert {check["status"] for check in json.loads(done.stdout)["smoke"]["checks"]} <= {"pass", "skip"}
    run = ("docker", "run", "--rm", "--network=none", "--entrypoint=python", tag, "--version")
    said = subprocess.run(run, capture_output=True, text=True, check=True, timeout=limit(60)).stdout
    assert said.startswith(f"Python {version}.")
