"""Docker and bake build an exported folder without mlship, to the layers of `mlship build`."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.build.preflight import unproven_name
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.toy import MODEL, YAML, toy

pytestmark = pytest.mark.docker
TAG = f"mlship-test-export:{uuid.uuid4().hex[:8]}"
WEIGHTS = "weights 1.txt"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    changed = YAML.replace("  load: model:load\n", f"  load: model:load\n  weights: [{WEIGHTS}]\n")
    changed = changed.replace(", weights.txt]", "]\nsystem: {run: [libmagic1]}")
    repo = toy(tmp_path_factory.mktemp("export"), mlship_yaml=changed, model_py=MODEL.replace("weights.txt", WEIGHTS))
    (repo / "weights.txt").rename(repo / WEIGHTS)
    yield repo
    names = (TAG, unproven_name(TAG), f"{TAG}-plain", "toy:dev")
    subprocess.run(("docker", "rmi", "--force", *names), capture_output=True, check=False, timeout=limit(60))


def docker(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ("docker", *arguments), capture_output=True, text=True, cwd=cwd, env=env, check=False, timeout=limit(500)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def layers(tag: str, cwd: Path) -> list[str]:
    (image,) = json.loads(docker("image", "inspect", tag, cwd=cwd))
    found: list[str] = image["RootFS"]["Layers"]
    return found


def test_the_folder_gives_the_same_layers(repo: Path, tmp_path: Path) -> None:
    assert mlship("lock", cwd=repo).code == 0
    built = mlship("build", "--no-smoke", "--tag", TAG, cwd=repo)
    assert built.code == 0, built.stderr
    expected = layers(unproven_name(TAG), repo)

    folder, secrets = tmp_path / "out", tmp_path / "secrets"
    done = mlship("export", str(folder), "--secrets", str(secrets), cwd=repo)
    assert done.code == 0, done.stderr
    ids = sorted(path.name for path in secrets.iterdir())
    given = [word for name in ids for word in ("--secret", f"id={name},src={secrets / name}")]
    plain = ("build", "--no-cache", "--provenance=false", "--tag", f"{TAG}-plain", *given, ".")
    docker(*plain, cwd=folder, env={**os.environ, "SOURCE_DATE_EPOCH": "315532800"})
    assert layers(f"{TAG}-plain", folder) == expected

    settings = [word for name in ids for word in ("--set", f"*.secrets=id={name},src={secrets / name}")]
    docker("buildx", "bake", *settings, cwd=folder)
    assert layers("toy:dev", folder) == expected
