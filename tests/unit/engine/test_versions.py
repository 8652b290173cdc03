"""Engines and docker programs that mlship does not support."""

import os
from pathlib import Path

import pytest

from mlship.engine import connect
from mlship.engine.client import image
from mlship.engine.failures import disk_failure, docker_failure
from mlship.errors import EngineError, MlshipError, TransientError, UsageError
from mlship.process import ProcessError


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo buildah 1.33.7", "docker program has no buildx"),
        ("exit 1", "docker program has no buildx"),
        ("kill -SEGV $$", "`docker buildx version` was ended by SIGSEGV"),
        ("exec sleep 100", "`docker buildx version` did not answer in time"),
        ("echo 'WARNING: Error loading config file: no' >&2; exit 1", "no buildx, and cannot read its settings: no"),
        ("echo github.com/docker/buildx v0.11.2 9872040", "buildx 0.11.2 is too old"),
        ("echo github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", "cannot connect to a Docker Engine"),
    ],
)
def test_what_the_docker_program_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("mlship.engine.client._SECONDS", 1.0)
    with pytest.raises(EngineError, match=said):
        connect().info()


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:99999", "foo", "tcp://", "fd://"])
def test_what_is_no_address_of_an_engine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError):
        connect().remove("app")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -KILL $$", "`docker image inspect` was ended by SIGKILL"),
        ("exec sleep 100", "`docker image inspect` did not answer in time"),
        ("echo hello", "does not say what `app` is"),
        ("echo '[{}]'", "does not say what `app` is"),
        ("echo '[]'", "does not say what `app` is"),
        ("true", "does not say what `app` is"),
        ("exec head -c 20000000 /dev/zero", "does not say what `app` is"),
    ],
)
def test_a_docker_program_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n{script}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("mlship.engine.client._SECONDS", 1.0)
    with pytest.raises(EngineError, match=said) as caught:
        image("app")
    assert "`docker version`" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "kind"), [(13, UsageError), (30, UsageError), (28, TransientError), (5, TransientError)]
)
def test_temporary_files_that_cannot_be_written(number: int, kind: type[MlshipError]) -> None:
    error = disk_failure(OSError(number, "no", "/tmp/mlship-run-build-x/Dockerfile"))
    assert type(error) is kind
    assert "mlship-run" not in error.message


def test_a_docker_program_that_may_not_be_executed() -> None:
    error = docker_failure(ProcessError(("docker", "info"), "denied"))
    assert error.message == "`docker` on PATH cannot be executed"
