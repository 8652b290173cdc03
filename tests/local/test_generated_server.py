"""The generated server of `mlship init`, run with uvicorn in its own process and with onnxruntime.

Needs fastapi, uvicorn and onnxruntime beside mlship: they are in requirements-dev.in.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import TensorProto

from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
from mlship.project.load import parse_config
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes, write

SLOW = """
import time
import numpy as np

def load():
    time.sleep(1)
    return predict

def predict(payload):
    if "boom" in payload:
        raise RuntimeError("boom")
    return {"y": np.log(np.asarray(payload["x"], dtype=np.float32)), "n": np.float32(1)}
"""


MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"NaN",
    b'"x"',
    b"\xff",
    b"[" * 100_000,
    b"{}",
    b'{"x": 1}',
    b'{"x": [[1, 2, 3]]}',
    b'{"x": [[1, 2, 3, 4], [1]]}',
    b'{"x": []}',
    b'{"x": [["a", "b", "c", "d"]]}',
    b'{"x": [[NaN, 1, 1, 1]]}',
    b'{"x": [[1e999, 1, 1, 1]]}',
    b'{"x": [[1e39, 1, 1, 1]]}',
    b'{"x": [[true, true, true, true]]}',
    b'{"x": [[1, 2, 3, 4]], "z": 1}',
)


@dataclass(frozen=True)
class Running:
    """A server process, and requests to it."""

    process: subprocess.Popen[str]
    port: int

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Status and body; status 0 if the server does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body)
        request.add_header("Content-Type", "")
        try:
            with urllib.request.urlopen(request, timeout=limit(10)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait(self, path: str, status: int, seconds: float = 30) -> set[int]:
        """Request until the status is `wanted`; return every status seen."""
        seen, deadline = set(), time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            seen.add(self.ask(path)[0])
            if status in seen:
                return seen
            time.sleep(0.02)
        pytest.fail(f"{path} never answered {status}, only {seen}: {self.end()}")

    def end(self) -> str:
        """Stop the server; return its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=limit(20))[0]


def initialised(repo: Path, files: dict[str, str | bytes]) -> Path:
    write(repo, files)
    planned = keep_existing(scaffold(detect(repo)), repo)
    write_scaffold(repo, planned.files)
    return repo


def offline() -> dict[str, str]:
    """onnxruntime's Linux wheel sends telemetry, and a unit test reaches no network."""
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def served(repo: Path) -> Iterator[Running]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = parse_config((repo / "mlship.yaml").read_text()).serve.command
    argv = [sys.executable, "-m", *(str(port) if word == "8080" else word for word in command)]
    process = subprocess.Popen(
        argv, cwd=repo, env=offline(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = Running(process, port)
    try:
        yield running
    finally:
        running.end()


def test_a_bare_onnx_model_is_served(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    with served(repo) as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", b'{"x": [[1, 2, 3, 4], [0, 0, 0, 0.5]]}') == (
            200,
            '{"outputs": {"y": [[10.0, 10.0], [0.5, 0.5]]}}',
        )
        for malformed in MALFORMED:
            status, text = server.ask("/predict", malformed)
            assert (status, "detail" in json.loads(text)) == (422, True), malformed[:40]
        assert server.ask("/health/ready")[0] == 200
        server.end()
        assert server.process.returncode in (0, -signal.SIGTERM)  # uvicorn ends by the signal if it is not process 1


def test_is_live_at_once_and_ready_after_warm_up(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"slow.py": SLOW, "sample.json": '{"x": [1.0]}'})
    with served(repo) as server:
        server.wait("/health/live", 200)
        assert server.ask("/health/ready")[0] == 503
        assert server.ask("/predict", b'{"x": [1.0]}')[0] == 503
        assert server.wait("/health/ready", 200) >= {503, 200}
        assert server.ask("/predict", b'{"x": [1.0]}') == (200, '{"outputs": {"y": [0.0], "n": 1.0}}')
        for bad in (b'{"x": [-1.0]}', b'{"x": [0]}'):  # NaN and minus infinity
            assert server.ask("/predict", bad) == (500, '{"detail":"the model output contains NaN or infinity"}')
        assert server.ask("/predict", b"{}") == (422, '{"detail":"KeyError: \'x\'"}')
        assert server.ask("/predict", b'{"boom": 1}')[0] == 500


@pytest.mark.parametrize(
    "loader",
    [
        "import numpy\ndef load(): raise RuntimeError('no such weights')",
        "import numpy, nowhere\ndef load(): ...",
        "import numpy\ndef load(): return lambda payload: {'y': float('nan')}",
    ],
)
def test_a_model_that_cannot_be_loaded_or_warmed_ends_the_process(tmp_path: Path, loader: str) -> None:
    repo = initialised(tmp_path, {"broken.py": loader, "sample.json": "{}"})
    with served(repo) as server:
        log, _ = server.process.communicate(timeout=limit(30))
        assert server.process.returncode == 1
        assert "failed to load and warm up the model" in log


@pytest.mark.parametrize(
    ("element", "good", "bad"),
    [
        (TensorProto.INT32, [1, 2, 3, 4], [1, 2, 3, 1 << 31]),
        (TensorProto.INT64, [1, 2, 3, 4], [1, 2, 3, 0.5]),
        (TensorProto.UINT32, [1, 2, 3, 4], [1, 2, 3, -1]),
        (TensorProto.DOUBLE, [1, 2, 3, 0.5], ["1", "2", "3", "4"]),
    ],
)
def test_no_number_is_rounded_or_truncated(tmp_path: Path, element: int, good: list[object], bad: list[object]) -> None:
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(element=element)})
    code = (
        f"from serving.model import load; m = load(); print(m.predict({{'x': [{good}]}})); m.predict({{'x': [{bad}]}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repo,
        env=offline(),
        capture_output=True,
        text=True,
        check=False,
        timeout=limit(60),
    )
    assert json.loads(done.stdout.replace("'", '"'))["y"][0][0] == sum(
        value for value in good if isinstance(value, float | int)
    )
    assert "ValueError: x: expected" in done.stderr
