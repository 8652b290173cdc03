"""The shadow of a generated server: a candidate is compared, and nothing that it does changes an answer."""

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mlship.shadow.figures import shadow_figures
from mlship.shadow.records import ShadowRecord, read_records
from tests.helpers.generated_server import Running, initialised, run_code, served
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes

BODY = b'{"x": [[1, 2, 3, 4]]}'
ANSWER = (200, '{"outputs":{"y":[[10.0,10.0]]}}')
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(name="repo", scope="module")
def repo_with_shadow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": BODY.decode()}
    return initialised(tmp_path_factory.mktemp("repo"), files, "shadow")


@contextmanager
def candidate(behave: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server that does this with every connection, after it read some of the request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(client: socket.socket) -> None:
            with client, suppress(OSError):
                client.recv(65536)
                behave(client)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def whole(body: bytes, head: bytes = _HEAD) -> Callable[[socket.socket], object]:
    return lambda client: client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def drip(client: socket.socket) -> None:
    client.sendall(_HEAD + b"Content-Length: 1000000\r\n\r\n")
    while True:
        client.sendall(b" ")
        time.sleep(0.02)


def flood(client: socket.socket) -> None:
    client.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")


BAD: dict[str, Callable[[socket.socket], object]] = {
    "says nothing": lambda _: time.sleep(10),
    "closes": lambda client: client.close(),
    "drips": drip,
    "floods": flood,
    "is no HTTP": lambda client: client.sendall(b"\0" * 65536),
    "fails": whole(b"{}", _HEAD.replace(b"200", b"500")),
    "redirects": whole(b"{}", _HEAD.replace(b"200 OK", b"302 Found\r\nLocation: http://127.0.0.1:1/")),
    "ends too early": lambda client: client.sendall(_HEAD + b'Content-Length: 99\r\n\r\n{"outputs":1}'),
    "returns NaN": whole(b'{"outputs":{"y":[[NaN,10.0]]}}'),
    "returns HTML": whole(b"<html>"),
    "returns no outputs": whole(b"[]"),
    "returns too large numbers": whole(b'{"outputs":{"y":[[1e999,10.0]]}}'),
    "nests too deep": whole(b'{"outputs":' + b"[" * 60_000),
}
OTHER = {
    "has another shape": b'{"outputs":{"y":[[10.0]]}}',
    "has another name": b'{"outputs":{"z":[[10.0,10.0]]}}',
    "has text": b'{"outputs":{"y":[["10.0",10.0]]}}',
    "has null": b'{"outputs":{"y":[[null,10.0]]}}',
    "has truth": b'{"outputs":{"y":[[true,10.0]]}}',
    "is empty": b'{"outputs":null}',
}


def records_of(file: Path, count: int) -> list[ShadowRecord]:
    deadline = time.monotonic() + limit(20)
    while time.monotonic() < deadline and len(file.read_bytes().splitlines()) < count:
        time.sleep(0.02)
    lines = [*read_records(file.read_bytes().splitlines())]
    assert [line for line in lines if isinstance(line, str)] == []
    return [line for line in lines if not isinstance(line, str)]


def metric(server: Running, name: str) -> float:
    return sum(float(line.split()[-1]) for line in server.ask("/metrics")[1].splitlines() if line.startswith(name))


@pytest.mark.parametrize("behaviour", BAD)
def test_whatever_a_candidate_does_the_answers_are_the_same(repo: Path, tmp_path: Path, behaviour: str) -> None:
    file = tmp_path / "shadow.jsonl"
    with (
        candidate(BAD[behaviour]) as url,
        served(repo, SHADOW_URL=url, SHADOW_FILE=str(file), SHADOW_SECONDS="0.3") as server,
    ):
        server.wait("/health/ready", 200)
        assert [server.ask("/predict", BODY) for _ in range(4)] == [ANSWER] * 4
        seen = records_of(file, 4)
        assert [(one.outcome, bool(one.error)) for one in seen] == [("error", True)] * 4
        assert metric(server, 'serving_shadow_requests_total{model_version="unknown",outcome="error"}') == 4
    assert server.process.returncode == 0


@pytest.mark.parametrize("answer", OTHER)
def test_an_answer_of_another_shape_differs(repo: Path, tmp_path: Path, answer: str) -> None:
    file = tmp_path / "shadow.jsonl"
    with candidate(whole(OTHER[answer])) as url, served(repo, SHADOW_URL=url, SHADOW_FILE=str(file)) as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", BODY) == ANSWER
        assert [(one.outcome, one.difference) for one in records_of(file, 1)] == [("differ", None)]


def test_a_candidate_that_hangs_fills_the_queue_and_no_more(repo: Path, tmp_path: Path) -> None:
    with candidate(BAD["says nothing"]) as url, served(repo, SHADOW_URL=url, SHADOW_SECONDS="10") as server:
        server.wait("/health/ready", 200)
        began = time.monotonic()
        assert [server.ask("/predict", BODY) for _ in range(40)] == [ANSWER] * 40
        assert time.monotonic() - began < 10
        dropped = metric(server, 'serving_shadow_requests_total{model_version="unknown",outcome="dropped"}')
        assert dropped == 40 - 16 - 2  # in the queue, and in the workers
        ended = time.monotonic()
        server.end()
        assert time.monotonic() - ended < 10
    assert server.process.returncode == 0


def test_a_dead_candidate_changes_nothing(repo: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it does not listen
        with served(repo, SHADOW_URL=f"http://127.0.0.1:{bound.getsockname()[1]}") as server:
            server.wait("/health/ready", 200)
            assert [server.ask("/predict", BODY) for _ in range(20)] == [ANSWER] * 20


def test_another_server_is_compared(repo: Path, tmp_path: Path) -> None:
    """It would copy requests, too, but not copies."""
    file = tmp_path / "shadow.jsonl"
    with served(repo, MODEL_VERSION="2", SHADOW_URL="http://127.0.0.1:1") as other:
        other.wait("/health/ready", 200)
        url = f"http://127.0.0.1:{other.port}"
        with served(repo, MODEL_VERSION="1", SHADOW_URL=url, SHADOW_FILE=str(file), SHADOW_SECONDS="9") as server:
            server.wait("/health/ready", 200)
            for _ in range(14):
                assert server.ask("/predict", BODY) == ANSWER
            tensors = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
            assert server.ask("/v2/models/model/infer", tensors)[0] == 200
            assert server.ask("/predict", b"{}")[0] == 422  # a mistake of the caller is not copied
            seen = records_of(file, 15)
        assert metric(other, "serving_requests_total") == 15
        assert metric(other, "serving_shadow_requests_total") == 0
    assert {(one.outcome, one.difference) for one in seen} == {("agree", 0.0)}
    assert (seen[0].primary, seen[0].candidate) == ({"y[0][0]": 10.0, "y[0][1]": 10.0},) * 2
    assert (seen[-1].candidate_version, seen[-1].primary_version, seen[-1].offered) == ("2", "1", 15)
    assert seen[-1].candidate_bytes is not None
    assert shadow_figures(seen)["rows"].value == 15


def test_a_copy_is_not_copied_again(repo: Path, tmp_path: Path) -> None:
    file = tmp_path / "shadow.jsonl"
    with candidate(whole(b"")) as url, served(repo, SHADOW_URL=url, SHADOW_FILE=str(file)) as server:
        server.wait("/health/ready", 200)
        copy = urllib.request.Request(f"http://127.0.0.1:{server.port}/predict", BODY, {"x-shadow": "1"})
        with urllib.request.urlopen(copy, timeout=limit(10)) as answer:
            assert answer.read().decode() == ANSWER[1]
        assert server.ask("/predict", BODY) == ANSWER
        assert [one.offered for one in records_of(file, 1)] == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"SHADOW_URL": "candidate:8080"},
            "invalid SHADOW_URL='candidate:8080': Expected `str` matching regex '^https?://[^/:]+'",
        ),
        ({"SHADOW_URL": "http://:8080"}, "invalid SHADOW_URL='http://:8080': Expected `str` matching"),
        ({"SHADOW_URL": "http://"}, "invalid SHADOW_URL='http://': Expected `str` matching"),
        ({"SHADOW_URL": "http://x", "SHADOW_AGREE": "most"}, "invalid SHADOW_AGREE='most': Invalid enum value 'most'"),
        ({"SHADOW_URL": "http://x", "SHADOW_SHARE": "all"}, "invalid SHADOW_SHARE='all': Expected `float`"),
        ({"SHADOW_URL": "http://x", "SHADOW_FILE": "/no/folder/x"}, "cannot write SHADOW_FILE"),
    ],
)
def test_a_wrong_setting_ends_the_server_with_the_reason(repo: Path, settings: dict[str, str], message: str) -> None:
    with served(repo, **settings) as server:
        server.process.wait(timeout=limit(30))
        log = server.end()
    assert server.process.returncode == 1
    assert f"error: {message}" in log
    assert "Traceback" not in log


def test_without_a_candidate_there_is_no_shadow(repo: Path) -> None:
    with served(repo) as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", BODY) == ANSWER
        assert metric(server, "serving_shadow_requests_total") == 0


@pytest.mark.parametrize(
    ("ours", "other", "largest", "agrees"),
    [
        ({"p": [0.2, 0.8]}, {"p": [0.4, 0.6]}, True, True),
        ({"p": [0.2, 0.8]}, {"p": [0.4, 0.6]}, False, False),
        ({"p": [0.2, 0.8]}, {"p": [0.6, 0.4]}, True, False),
        ({"p": [[0.2, 0.8], [1.0, 0.0]]}, {"p": [[0.2, 0.8], [0.0, 1.0]]}, True, False),
        ([0.5], [0.7], True, False),
        (1.0, 1.0005, False, True),
        (1.0, 1.01, False, False),
        (2000, 2001, False, False),
        (1, True, False, False),
        (1, 1.0, False, True),
        ("cat", "cat", False, True),
        ({"a": 1}, {"a": 1, "b": 1}, False, False),
    ],
)
def test_answers_agree_within_the_tolerance(
    repo: Path, ours: object, other: object, largest: bool, agrees: bool
) -> None:
    code = f"from serving.candidate import agree; print(agree({ours!r}, {other!r}, 0.001, {largest}))"
    assert run_code(repo, code).stdout == f"{agrees}\n"


def test_a_full_disk_ends_the_records_and_nothing_else(repo: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.fail("no /dev/full")
    with candidate(whole(ANSWER[1].encode())) as url, served(repo, SHADOW_URL=url, SHADOW_FILE="/dev/full") as server:
        server.wait("/health/ready", 200)
        assert [server.ask("/predict", BODY) for _ in range(5)] == [ANSWER] * 5
        time.sleep(limit(0.3))
        log = server.end()
    assert log.count("cannot write SHADOW_FILE") == 1
    assert json.loads(next(line for line in log.splitlines() if "SHADOW_FILE" in line))["level"] == "error"
