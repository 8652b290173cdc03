"""Questions to an engine at a socket, which here is a thread that says what an engine, or something else, could say."""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlship.engine import client
from mlship.engine.local import ask

INFO = {"Name": os.uname().nodename, "DockerRootDir": "/"}
Serve = Callable[[bytes], list[str]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Answer each request with these bytes; returns the requests' first lines."""
    path, answers, requests = tmp_path / "engine.sock", [b""], list[str]()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    requests.append(connection.recv(4096).decode().splitlines()[0])
                    connection.sendall(answers[-1])

    def answer(with_bytes: bytes) -> list[str]:
        answers.append(with_bytes)
        return requests

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        Thread(target=accept, args=(listener,), daemon=True).start()
        yield answer
        listener.shutdown(socket.SHUT_RDWR)


def ok(value: object) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps(value).encode()


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("no_docker")
def test_the_engine_is_asked_itself(serve: Serve) -> None:
    requests = serve(ok({"Id": "sha256:1", "Size": 7, "Os": "linux", "Architecture": "amd64", "Config": None}))
    found = client.image("127.0.0.1:5000/a b:1")
    assert found is not None
    assert (found.id, found.size, found.platform) == ("sha256:1", 7, "linux/amd64")
    serve(ok([{"CreatedBy": "COPY", "Size": 3}, {"CreatedBy": "ENV", "Size": 0}]))
    assert client.image_history("a:1") == (("COPY", 3), ("ENV", 0))
    serve(b"HTTP/1.0 201 Created\r\n\r\n")
    client.tag("a:1", "b:2")
    serve(ok([]))
    client.untag("a:1", "b:2")
    assert requests == [
        "GET /images/127.0.0.1%3A5000/a%20b%3A1/json HTTP/1.0",
        "GET /images/a%3A1/history HTTP/1.0",
        "POST /images/a%3A1/tag?repo=b%3A2 HTTP/1.0",
        "DELETE /images/a%3A1?noprune=1 HTTP/1.0",
        "DELETE /images/b%3A2?noprune=1 HTTP/1.0",
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 404 Not Found\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Le",
        b"HTTP/1.0",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_of_success_is_none(serve: Serve, answer: bytes) -> None:
    serve(answer)
    assert ask("GET", "/info") is None


@pytest.mark.usefixtures("no_docker")
def test_a_name_that_is_no_utf_8(serve: Serve) -> None:
    requests = serve(ok([]))
    assert client.image_history(os.fsdecode(b"a\xff:1")) == ()
    assert requests == ["GET /images/a%FF%3A1/history HTTP/1.0"]


@pytest.mark.usefixtures("no_docker")
@pytest.mark.parametrize(
    ("about", "known"),
    [
        (INFO, True),
        ({**INFO, "Name": "docker-desktop"}, False),  # also an engine whose socket is forwarded from another machine
        ({**INFO, "DockerRootDir": "/no/such/folder"}, False),
        ({**INFO, "DockerRootDir": None}, False),
    ],
)
def test_only_the_disk_of_this_machine_is_known(serve: Serve, about: dict[str, object], known: bool) -> None:
    serve(ok(about))
    assert (client.disk() is not None) == known


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=st.binary(max_size=40))
def test_what_is_no_http_is_none(serve: Serve, answer: bytes) -> None:
    serve(answer)
    assert ask("GET", "/info") is None


def test_an_engine_that_does_not_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
        monkeypatch.setattr("mlship.engine.local._SECONDS", 0.1)
        assert ask("GET", "/info") is None


@pytest.mark.parametrize(
    ("env", "settings", "asked"),
    [
        ({}, "{}", True),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "here"}, "{}", True),
        ({"DOCKER_HOST": ""}, '{"currentContext": "here"}', True),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "there"}, '{"currentContext": "here"}', False),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "empty"}, "{}", False),
        ({"DOCKER_CONTEXT": "other"}, '{"currentContext": "other"}', True),  # DOCKER_HOST wins
        ({"DOCKER_TLS_VERIFY": "1"}, "{}", False),
        ({"DOCKER_HOST": "tcp://127.0.0.1:9"}, "{}", False),
        ({"DOCKER_HOST": "", "DOCKER_CONTEXT": "other"}, "{}", False),
        ({"DOCKER_HOST": ""}, '{"currentContext": "other"}', False),
        ({"DOCKER_HOST": ""}, "no JSON", False),
    ],
)
def test_it_is_the_engine_that_docker_would_use(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, env: dict[str, str], settings: str, asked: bool
) -> None:
    serve(ok({}))
    (tmp_path / "config.json").write_text(settings)
    endpoints = {"here": {"docker": {"Host": os.environ["DOCKER_HOST"]}}, "there": {"docker": {"Host": "tcp://far"}}}
    for name, endpoint in {**endpoints, "empty": {}}.items():
        folder = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": endpoint}))
    for name, value in {"DOCKER_CONFIG": str(tmp_path), **env}.items():
        monkeypatch.setenv(name, value)
    assert (ask("GET", "/info") is not None) == asked
