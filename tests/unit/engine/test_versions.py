"""Engines and docker programs that mlship does not support."""

import os
from pathlib import Path

import pytest

from mlship.engine import connect
from mlship.errors import EngineError


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo buildah 1.33.7", "docker program has no buildx"),
        ("exit 1", "docker program has no buildx"),
        ("echo github.com/docker/buildx v0.11.2 9872040", "buildx 0.11.2 is too old"),
        ("echo github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", "cannot connect to a Docker Engine"),
    ],
)
def test_what_the_docker_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EngineError, match=said):
        connect().info()


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:99999", "foo", "tcp://", "fd://"])
def test_what_is_no_address_of_an_engine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError):
        connect().remove("app")
