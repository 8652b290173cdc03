"""Fixtures that need an engine."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.patience import limit
from tests.helpers.private import authority, private

__all__ = ["authority", "private"]


@pytest.fixture(scope="session", autouse=True)
def _one_build_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the builds of several workers apart: a `docker` before the real one on PATH waits for the others' builds.

    Builds that share steps and run side by side fail now and then (https://github.com/moby/buildkit/issues/2303), and
    one such image was seen without the files of a step. Everything else of the tests still runs in parallel.
    """
    real = shutil.which("docker")
    if real is None or "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    lock = tmp_path_factory.getbasetemp().parent / "builds.lock"
    shim = tmp_path_factory.mktemp("bin") / "docker"
    wait = f'exec flock --no-fork {shlex.quote(str(lock))} {real} "$@"'
    builds = '"build "* | "buildx build"* | "buildx bake"*'
    shim.write_text(f'#!/bin/sh\ncase "$* " in {builds}) {wait} ;; esac\nexec {real} "$@"\n')
    shim.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(shim.parent), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def registry() -> Iterator[str]:
    """A local registry that accepts pushes: the one of the stand-ins, or one started from Docker Hub's image."""
    mirror = os.environ.get("MLSHIP_BASE_MIRROR", "")
    if mirror.startswith("127.0.0.1:"):
        yield mirror
        return
    container = docker("run", "--detach", "--publish", "127.0.0.1::5000", "registry:2")
    try:
        yield docker("port", container, "5000/tcp").splitlines()[0]
    finally:
        docker("rm", "--force", "--volumes", container)


def docker(*arguments: str) -> str:
    done = subprocess.run(("docker", *arguments), capture_output=True, text=True, check=True, timeout=limit(300))
    return done.stdout.strip()
