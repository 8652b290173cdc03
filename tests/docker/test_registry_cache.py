"""A new runner with a registry cache builds an identical image; a remote builder sends its image to be tested here."""

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from _bench_engine import NEEDED, alone, engine

from mlship.build.preflight import unproven_name
from tests.helpers.command import Command, mlship
from tests.helpers.patience import limit
from tests.helpers.remote_builder import remote_builder
from tests.helpers.toy import MODEL, toy
from tests.helpers.wheels import write_wheel

pytestmark = pytest.mark.docker
TAG = f"mlship-test-cache:{uuid.uuid4().hex[:8]}"
UNPROVEN = unproven_name(TAG)
GROUPS = ("install-heavy", "heavy-packages", "install-light", "python-modules")


@pytest.fixture
def fresh(registry: str) -> Iterator[Mapping[str, str]]:
    """The environment of a new engine without a build cache."""
    if os.geteuid() != 0 or not all(map(shutil.which, NEEDED)):
        pytest.skip(f"a second engine needs root and {', '.join(NEEDED)}")
    folder = tempfile.TemporaryDirectory(prefix="mlship-test-engine-", ignore_cleanup_errors=True)
    with folder as name, alone(), engine(Path(name) / "own", registry) as own:
        yield own.env


def test_a_new_runner_uses_the_cache_for_all_groups(
    fresh: Mapping[str, str], registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A version of its own: no test before this one has put its group into the engine's cache.
    version = f"1.{uuid.uuid4().int % 10**9}"
    needs = f"numpy\n./wheels/own-{version}-py3-none-any.whl\n"
    repo = toy(tmp_path, requirements_in=needs, model_py="import numpy\nimport own\n" + MODEL)
    write_wheel(repo / "wheels", "own", version)
    cache = f"{registry}/mlship-test/cache:{uuid.uuid4().hex[:8]}"
    assert mlship("lock", cwd=repo).code == 0
    built = mlship("build", "--no-smoke", "--json", "--tag", TAG, "--cache-to", cache, cwd=repo)
    assert built.code == 0, built.stderr
    _remove_images()

    with monkeypatch.context() as runner:
        for name, value in fresh.items():
            runner.setenv(name, value)
        again = _from_cache(repo, cache)
    assert again.code == 0, again.stderr
    steps = [line for line in again.stderr.splitlines() if any(words in line for words in GROUPS)]
    assert len(steps) >= len(GROUPS)
    assert not [line for line in steps if not line.endswith("CACHED")], again.stderr
    assert json.loads(again.stdout)["image_id"] == json.loads(built.stdout)["image_id"]

    # The same engine's BuildKit as a remote builder: it cannot run the image, so the engine here gets it and tests it.
    with remote_builder(tmp_path, fresh) as far:
        proven = mlship("build", "--json", "--tag", TAG, "--builder", far, cwd=repo)
    _remove_images()
    assert proven.code == 0, proven.stderr
    report = json.loads(proven.stdout)
    assert (report["proven"], report["image_id"]) == (True, json.loads(built.stdout)["image_id"])
    assert report["largest"]["what"] == "numpy"


def _from_cache(repo: Path, cache: str) -> Command:
    (repo / "model.py").write_text("import numpy\nimport own\n" + MODEL)  # another file time, the same text
    options = ("--no-smoke", "--json", "--progress", "plain")
    return mlship("build", *options, "--tag", TAG, "--cache-from", cache, cwd=repo)


def _remove_images() -> None:
    subprocess.run(("docker", "rmi", "--force", TAG, UNPROVEN), capture_output=True, check=False, timeout=limit(60))
