"""The generated server in several processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from tests.helpers.generated_server import Running, initialised, records, run_code, served
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes

PLAIN = """
import os, pathlib, time

def load():
    folder = pathlib.Path(__file__).parent
    with (folder / "loaded").open("a") as file:
        file.write(f"{os.getpid()} ")
    if len((folder / "loaded").read_text().split()) == 2 and (folder / "slow").exists():
        while (folder / "slow").exists():
            time.sleep(0.02)
    if (folder / "broken").exists() and len((folder / "loaded").read_text().split()) == 2:
        raise OSError("no weights")
    return predict

def predict(payload):
    time.sleep(payload["seconds"])
    return os.getpid()
"""
FILES: dict[str, str | bytes] = {"plain.py": PLAIN, "sample.json": '{"seconds": 0}'}


def children(server: Running) -> list[int]:
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spread(server: Running, body: bytes, count: int = 60) -> dict[str, int]:
    """How many of these requests each answer had; each request has a connection of its own."""
    answers = [server.ask("/predict", body) for _ in range(count)]
    assert {status for status, _ in answers} == {200}
    return {text: [one for _, one in answers].count(text) for _, text in answers}


def test_it_is_ready_when_all_workers_are_and_counts_what_all_did(tmp_path: Path) -> None:
    feature = {"deciles": [1, 2], "mean": 1.5, "variance": 1}
    files = {**FILES, "slow": "", "metadata.json": json.dumps({"statistics": {"inputs": {"seconds": feature}}})}
    with served(initialised(tmp_path, files, "workers"), WORKERS="3", MODEL_VERSION="7") as server:
        server.wait("/health/live", 200)
        deadline = time.monotonic() + limit(30)
        while not (tmp_path / "loaded").exists() or len((tmp_path / "loaded").read_text().split()) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for _ in range(20):  # of whichever worker
            assert server.ask("/health/ready")[0] == 503
        assert 'serving_ready{model_version="7"} 0.0' in server.ask("/metrics")[1]
        (tmp_path / "slow").unlink()
        server.wait("/health/ready", 200)
        counts = spread(server, b'{"seconds": 0}')
        assert len(counts) == 3
        for _ in range(10):
            page = server.ask("/metrics")[1]
            assert 'serving_requests_total{model_version="7",route="/predict",status="200"} 60.0' in page
            assert 'serving_value_bucket{feature="seconds",le="+Inf",model_version="7",side="input"} 60.0' in page
            assert 'serving_training_mean{feature="seconds",model_version="7",side="input"} 1.5' in page
            assert 'serving_ready{model_version="7"} 1.0' in page
            assert 'serving_requests_in_flight{model_version="7"} 0.0' in page
            assert "pid=" not in page
            used = re.search(r"^process_resident_memory_bytes (\S+)", page, re.MULTILINE)
            assert used
            assert float(used[1]) == pytest.approx(sum(map(pss, [server.process.pid, *children(server)])), rel=0.05)
        metrics = Path(f"/dev/shm/serving-metrics-{server.port}")
        assert metrics.is_dir()
    assert (server.process.returncode, metrics.exists()) == (0, False)


@contextmanager
def waiting(server: Running, seconds: float, count: int) -> Iterator[list[HTTPConnection]]:
    """Requests in flight."""
    connections = [HTTPConnection("127.0.0.1", server.port, timeout=limit(30)) for _ in range(count)]
    for one in connections:
        one.request("POST", "/predict", json.dumps({"seconds": seconds}).encode())
    time.sleep(0.3)
    yield connections
    for one in connections:
        one.close()


def test_sigterm_lets_every_worker_answer_what_is_in_flight(tmp_path: Path) -> None:
    with served(initialised(tmp_path, FILES, "workers"), WORKERS="3", DRAIN_SECONDS="20") as server:
        server.wait("/health/ready", 200)
        with waiting(server, 0.5, 9) as connections:
            server.process.send_signal(signal.SIGTERM)
            answers = [one.getresponse() for one in connections]
            assert [one.status for one in answers] == [200] * 9
            assert len({one.read() for one in answers}) > 1
        log = server.ended()
    assert (server.process.returncode, log.count('"draining"')) == (0, 3)


def test_a_worker_that_dies_ends_the_server_after_the_requests_of_the_others(tmp_path: Path) -> None:
    with served(initialised(tmp_path, FILES, "workers"), WORKERS="3") as server:
        server.wait("/health/ready", 200)
        first, *_ = children(server)
        with waiting(server, 0.5, 9) as connections:
            os.kill(first, signal.SIGKILL)
            answered = 0
            for one in connections:
                with suppress(OSError):
                    answered += one.getresponse().status == 200
            assert 0 < answered <= 9
        log = server.ended()
    assert server.process.returncode == 1
    assert f"worker {first} was killed by signal 9, so the server ends" in [one["message"] for one in records(log)]


def test_a_worker_that_cannot_load_ends_the_server(tmp_path: Path) -> None:
    with served(initialised(tmp_path, {**FILES, "broken": ""}, "workers"), WORKERS="2") as server:
        log = server.ended()
    assert server.process.returncode == 1
    assert "OSError: no weights" in log
    assert re.search(r"worker \d+ ended with exit code 1, so the server ends", log)


def test_a_model_that_hangs_in_one_worker_is_not_live_in_any(tmp_path: Path) -> None:
    with served(initialised(tmp_path, FILES, "workers"), WORKERS="3", HANG_SECONDS="0.5") as server:
        server.wait("/health/ready", 200)
        with waiting(server, 3, 1):
            time.sleep(0.5)
            assert {server.ask("/health/live") for _ in range(20)} == {(503, '{"status":"hung"}')}
            assert 'serving_ready{model_version="unknown"} 0.0' in server.ask("/metrics")[1]


def test_settings_that_cannot_be_are_said_and_threads_are_divided(tmp_path: Path) -> None:
    repo = initialised(tmp_path, FILES, "workers")
    code = """
import os
from unittest.mock import patch
from serving import settings
os.sched_getaffinity = lambda _: range(16)
for text in ("max 100000", "600000 100000", "50000 100000"):
    with patch.object(settings.Path, "read_text", lambda *_, **__: text):
        print(settings.cpus())
"""
    done = run_code(repo, f"import os; os.environ['WORKERS'] = '3'\n{code}")
    assert done.stdout.split() == ["5", "2", "1"], done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for settings, message in (
            ({"WORKERS": "x"}, "invalid WORKERS='x': Expected `int`"),
            ({"WORKERS": "1.5"}, "invalid WORKERS='1.5': Expected `int`"),
            ({"WORKERS": "5000"}, "invalid WORKERS='5000': Expected `int` <= 64"),
            ({"BODY_SECONDS": "inf"}, "invalid BODY_SECONDS='inf': Expected `float` <= 1000000000.0"),
            ({"BODY_SECONDS": "nan"}, "invalid BODY_SECONDS='nan': Expected `float` >= 0.0"),
            ({"PORT": port}, f"cannot listen on 127.0.0.1 port {port}: Address already in use"),
        ):
            environment = {**os.environ, "HOST": "127.0.0.1", **settings}
            argv = [sys.executable, "-m", "serving"]
            failed = subprocess.run(argv, cwd=repo, env=environment, capture_output=True, text=True, check=False)
            assert (failed.returncode, failed.stderr.startswith(f"error: {message}")) == (1, True), failed.stderr
            assert len(failed.stderr.splitlines()) == 1


def runs(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def test_workers_of_a_killed_server_end_and_its_metrics_are_removed(tmp_path: Path) -> None:
    repo = initialised(tmp_path, FILES, "workers")
    with served(repo) as server:
        server.wait("/health/ready", 200)
        folder = Path(f"/dev/shm/serving-metrics-{server.port}")
        (folder / "counter_1.db").write_bytes(b"of another process, and damaged")
        workers = children(server)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + limit(10)
        while any(map(runs, workers)):  # in a container, they end with process 1 in any case
            assert time.monotonic() < deadline
            time.sleep(0.05)
    code = f"from serving.workers import Workers; Workers(1, '127.0.0.1', {server.port})"
    assert run_code(repo, code).returncode == 0
    assert [*folder.iterdir()] == []
    folder.rmdir()


def external(folder: Path, layers: int, width: int) -> int:
    """Write an ONNX model with its weights in a file beside it; return their bytes."""
    random = np.random.default_rng(0)
    weights = [(random.normal(size=(width, width)) / width**0.5).astype(np.float32) for _ in range(layers)]
    names = ["x", *(f"h{number}" for number in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(layers)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(one, f"w{number}") for number, one in enumerate(weights)]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    return sum(one.nbytes for one in weights)


def pss(pid: int) -> int:
    """The proportional set size of a process: its share of the memory that processes have in common."""
    found = re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
def test_four_workers_have_the_weights_in_memory_once(tmp_path: Path) -> None:
    """At most 1.3 times the weights, beside what four workers need for a model without weights."""
    figures, weights = {}, 0
    for name, layers in (("none", 0), ("big", 13)):
        repo = tmp_path / name
        repo.mkdir()
        weights = external(repo, layers, 2048) if layers else 0
        if not layers:
            (repo / "model.onnx").write_bytes(onnx_bytes())
        initialised(repo, {}, "workers")
        width = 2048 if layers else 4
        with served(repo, WORKERS="4") as server:
            server.wait("/health/ready", 200, limit(60))
            body = json.dumps({"x": [[0.5] * width] * 2}).encode()
            spread(server, body, 24)
            figures[name] = pss(server.process.pid) + sum(map(pss, children(server)))
    assert weights > 200e6
    assert figures["big"] - figures["none"] <= 1.3 * weights, figures
