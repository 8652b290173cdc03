"""Images for smoke tests with a real engine."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mlship.engine.base import BuildRequest, Engine
from tests.helpers.patience import limit

NAME = f"mlship-test-smoke-{uuid4().hex[:8]}"  # of this process: other tests may run at the same time


@contextmanager
def built(engine: Engine, context: Path, dockerfile: str) -> Iterator[str]:
    """Build this Dockerfile on mlship's base under a unique name; removed afterwards."""
    mirror = os.environ.get("MLSHIP_BASE_MIRROR")
    base = f"{mirror}/library/python:3.11-slim-bookworm" if mirror else "python:3.11-slim-bookworm"
    tag = f"{NAME}-{uuid4().hex[:8]}:1"
    text = dockerfile.replace("BASE", base)
    engine.build(BuildRequest(text, "", context, engine.info().platform, tag=tag), lambda _event: None)
    try:
        yield tag
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], capture_output=True, check=True, timeout=limit(60))


def containers() -> set[str]:
    """Containers of this process's images only."""
    command = ["docker", "ps", "--all", "--format", "{{.Image}} {{.ID}}", "--filter", "label=dev.mlship.run"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit(60)).stdout
    return {line for line in listed.splitlines() if line.startswith(NAME)}


def quiet(_: str) -> None:
    pass
