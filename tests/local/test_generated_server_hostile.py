"""Requests and models that are out to harm the generated server: nothing is held on to, and nothing becomes a 500."""

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.generated_server import Running, initialised, served
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes

ECHO = "def load(): return lambda payload: payload"
SLOW = "import time\ndef load(): return lambda payload: time.sleep(payload['s']) or payload"
FILES: dict[str, dict[str, str | bytes]] = {
    "tensors": {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'},
    "limits": {
        "model.onnx": onnx_bytes(),
        "sample.json": '{"x": [[1, 2, 3, 4]]}',
        "metadata.json": '{"features": {"x[0]": {"max": 9}, "x[1]": {"missing": 0, "indicator": "x[3]"}}}',
    },
    "text": {"echo.py": ECHO, "sample.json": '{"text": "a"}'},
    "plain": {"echo.py": ECHO, "sample.json": '{"n": 1, "rows": [[1.5]], "tags": ["a"], "options": {}}'},
}


class Target(NamedTuple):
    """A server, and the fields of its requests."""

    server: Running
    fields: dict[str, object]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    with ExitStack() as stack:
        found: dict[str, Target] = {}
        for name, files in FILES.items():
            server = stack.enter_context(served(initialised(tmp_path_factory.mktemp(name), files)))
            server.wait("/health/ready", 200)
            found[name] = Target(server, json.loads(files["sample.json"]))
        yield found


NUMBERS = st.integers() | st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([10**30, 1e308, -0.0, 2**64])
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=5)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.lists(st.lists(inner, min_size=4, max_size=4), max_size=3)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_json_is_answered_or_refused_with_a_path(
    targets: dict[str, Target], name: str, data: st.DataObject
) -> None:
    """Changed samples come further than random JSON; a sum of floats may overflow, which only the model can know."""
    server, sample = targets[name]
    payload = data.draw(JSON | st.fixed_dictionaries({field: JSON | st.just(value) for field, value in sample.items()}))
    status, text = server.ask("/predict", json.dumps(payload).encode())
    answer = json.loads(text)
    if status == 200:
        assert "outputs" in answer
    elif status == 500:
        assert answer["detail"] == "the model output contains NaN or infinity"
        assert name in ("tensors", "limits")
    else:
        assert (status, "detail" in answer, answer["path"][0]) == (422, True, "$")


SHAPES = st.lists(st.integers(-1, 5) | st.sampled_from([2**40, 2**63]), max_size=4)
KINDS = st.sampled_from(["FP32", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "BF16", ""])
VALUES = st.lists(LEAVES, max_size=8) | st.lists(st.lists(LEAVES, max_size=4), max_size=2) | JSON
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y", ""]), "shape": SHAPES | st.just([1, 4]), "datatype": KINDS},
    optional={"data": VALUES | st.just([1, 2, 3, 4]), "parameters": st.just({"binary_data_size": 16}) | JSON},
)
OUTPUTS = st.lists(st.fixed_dictionaries({"name": st.sampled_from(["y", "z"]), "parameters": JSON}), max_size=2)


@pytest.mark.parametrize("name", ["tensors", "limits"])
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    request=JSON | st.fixed_dictionaries({"inputs": st.lists(TENSOR, max_size=2)}, optional={"outputs": OUTPUTS}),
    raw=st.none() | st.binary(max_size=20),
    off=st.sampled_from([0, 0, 1, -1, 1000]),
)
def test_any_request_of_the_open_inference_protocol_is_answered_or_refused(
    targets: dict[str, Target], name: str, request: object, raw: bytes | None, off: int
) -> None:
    """JSON, or JSON with raw tensors behind it, whose length the header may get wrong."""
    head = json.dumps(request).encode()
    headers = {} if raw is None else {"Inference-Header-Content-Length": str(len(head) + off)}
    connection = HTTPConnection("127.0.0.1", targets[name].server.port, timeout=limit(10))
    connection.request("POST", "/v2/models/model/infer", head + (raw or b""), headers)
    with connection.getresponse() as answer:
        status, body = answer.status, answer.read()
    connection.close()
    if status == 500:
        assert json.loads(body)["error"].startswith("the model output `y` contains NaN or infinity")
    elif status != 200:
        assert (status, [*json.loads(body)]) == (422, ["error", "path"])


@pytest.mark.parametrize("depth", [50, 101, 900, 2_000, 100_000])
def test_deep_json_is_the_callers_mistake(targets: dict[str, Target], depth: int) -> None:
    body = b'{"n": 1, "rows": [], "tags": [], "options": {"a": %s}}' % (b"[" * depth + b"]" * depth)
    status, text = targets["plain"].server.ask("/predict", body)
    assert (status, "detail" in json.loads(text)) == ((200, False) if depth < 100 else (422, True))


def test_a_body_without_end_is_cut_off(targets: dict[str, Target]) -> None:
    server = targets["tensors"].server
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=limit(20)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):  # reset, or a broken pipe
            while sent < 1 << 30:
                connection.sendall(b"100000\r\n" + b"[" * (1 << 20) + b"\r\n")
                sent += 1 << 20
    assert sent < 100 << 20
    assert server.ask("/predict", b'{"x": [[1, 2, 3, 4]]}')[0] == 200


def descriptors(server: Running) -> int:
    return len([*Path(f"/proc/{server.process.pid}/fd").iterdir()])


def test_clients_that_only_hold_on_are_disconnected(tmp_path: Path) -> None:
    """300 that send half a header, nothing, or half a body, and one that does not read its large response."""
    large = "def load(): return lambda payload: ['a' * 1_000_000] * payload['n']"
    repo = initialised(tmp_path, {"large.py": large, "sample.json": '{"n": 1}'})
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
    with served(repo, BODY_SECONDS="1") as server, ExitStack() as stack:
        server.wait("/health/ready", 200)
        before = descriptors(server)

        def held(data: bytes) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(data)
            return connection

        for _ in range(100):
            for data in (b"", head, head + b"Content-Length: 100\r\n\r\n{"):
                held(data)
        held(head + b'Content-Length: 9\r\n\r\n{"n": 20}')
        began = time.monotonic()
        assert server.ask("/predict", b'{"n": 1}')[0] == 200
        assert time.monotonic() - began < limit(2)
        while descriptors(server) > before:
            assert time.monotonic() - began < limit(10), descriptors(server)
            time.sleep(0.1)
        for _ in range(50):
            held(head + b"Content-Length: 100\r\n\r\n{").close()
        assert server.ask("/predict", b'{"n": 1}')[0] == 200
        assert 'serving_requests_in_flight{model_version="unknown"} 0.0' in server.ask("/metrics")[1]


def test_a_client_that_is_slow_but_reads_is_answered(tmp_path: Path) -> None:
    large = "def load(): return lambda payload: ['a' * 1_000_000] * payload['n']"
    repo = initialised(tmp_path, {"large.py": large, "sample.json": '{"n": 1}'})
    with served(repo, BODY_SECONDS="0.3") as server:
        server.wait("/health/ready", 200)
        connection = HTTPConnection("127.0.0.1", server.port, timeout=limit(20))
        connection.request("POST", "/predict", b'{"n": 8}')
        size = 0
        with connection.getresponse() as answer:
            while part := answer.read(1 << 20):
                size += len(part)
                time.sleep(0.15)
        connection.close()
    assert size > 8_000_000


def test_a_model_that_hangs_is_refused_and_then_no_longer_live(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"slow.py": SLOW, "sample.json": '{"s": 0.0}'})
    limits = {"PREDICT_SECONDS": "0.2", "HANG_SECONDS": "1.5", "MAX_IN_FLIGHT": "4"}
    with served(repo, **limits) as server, ThreadPoolExecutor(8) as pool:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", b'{"s": 3}')[0] == 504
        assert server.ask("/health/live")[0] == 200
        statuses = set(pool.map(lambda _: server.ask("/predict", b'{"s": 0.0}')[0], range(8)))
        assert statuses <= {503, 504}
        server.wait("/health/live", 503)
        assert server.ask("/health/ready") == (503, '{"status":"hung"}')
        assert 'serving_ready{model_version="unknown"} 0.0' in server.ask("/metrics")[1]
        server.wait("/health/ready", 200)  # it returned after all
        assert server.ask("/health/live")[0] == 200


def test_other_protocols_and_odd_heads_are_refused(targets: dict[str, Target]) -> None:
    server = targets["text"].server
    websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"
    flood = "".join(f"A{number}: b\r\n" for number in range(20_000))
    for start, status in (
        (f"GET /predict HTTP/1.1\r\nHost: x\r\n{websocket}\r\n", b"405"),
        (f"GET / HTTP/1.1\r\nHost: x\r\n{flood}\r\n", b"400"),
        ("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}", b"400"),
        ("POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        ("\x16\x03\x01\r\n\r\n", b"400"),
        ("GET /%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=limit(10)) as connection:
            try:
                connection.sendall(start.encode("latin-1"))
                assert connection.recv(64)[9:12] == status
            except ConnectionResetError:  # closed before the flood was sent
                assert start.count("\n") > 1000
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health/live", timeout=limit(10)) as answer:
        assert answer.status == 200


def test_what_is_not_a_body_is_limited(targets: dict[str, Target]) -> None:
    """Heads and trailers without end, and requests to upgrade, whose body comes later."""
    server = targets["text"].server
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    upgrade = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 13\r\n\r\n"
    body, line = b'{"text": "b"}', b"A: " + b"b" * 10_000 + b"\r\n"
    cases: tuple[tuple[tuple[bytes, ...], bytes], ...] = (
        ((b"GET /docs HTTP/1.1\r\n", *[line] * 20), b"400"),
        ((chunked + b"d\r\n" + body + b"\r\n0\r\n", *[line] * 20), b"400"),
        ((chunked, b"d;a=" + b"b" * 100_000), b"400"),
        ((chunked, *[b"1\r\n%c\r\n" % byte for byte in body], b"0\r\n\r\n"), b"200"),
        ((upgrade, body[:5], body[5:]), b"200"),
        ((upgrade + body,), b"200"),
        ((b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",), b"400"),
        ((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), b"400"),
    )
    for parts, status in cases:
        with socket.create_connection(("127.0.0.1", server.port), timeout=limit(10)) as connection:
            with suppress(OSError):  # closed before all was sent
                for part in parts:
                    connection.sendall(part)
                    time.sleep(0.01)
            assert connection.recv(64)[9:12] == status, parts[0]
    assert server.ask("/predict", body) == (200, '{"outputs":{"text":"b"}}')
