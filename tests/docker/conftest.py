"""Fixtures that need an engine."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.patience import limit
from tests.helpers.private import authority, private

__all__ = ["authority", "private"]


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
