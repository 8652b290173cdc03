"""The generated server of `mlship init`, run in its own process and with onnxruntime.

Needs the server's packages and onnxruntime beside mlship: they are in requirements-dev.in.
"""

import html
import json
import re
import shlex
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from mlship.init.detect import detect
from mlship.init.scaffold import keep_existing, scaffold
from tests.helpers.generated_server import Running, initialised, records, run_code, served
from tests.helpers.patience import limit
from tests.helpers.repos import onnx_bytes

SLOW = """
import time
import numpy as np

def load():
    time.sleep(1)
    return predict

def predict(payload):
    if payload["x"] == [99]:
        raise RuntimeError("boom")
    if payload["x"] == [13]:
        raise ValueError("unlucky")
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
PATHS = {b'{"x": 1}': "$.x", b'{"x": [[1, 2, 3, 4], [1]]}': "$.x[1]", b'{"x": [["a", "b", "c", "d"]]}': "$.x[0][0]"}


def test_a_bare_onnx_model_is_served(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    with served(repo) as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", b'{"x": [[1, 2, 3, 4], [0, 0, 0, 0.5]]}') == (
            200,
            '{"outputs":{"y":[[10.0,10.0],[0.5,0.5]]}}',
        )
        for malformed in MALFORMED:
            status, text = server.ask("/predict", malformed)
            assert (status, "detail" in json.loads(text)) == (422, True), malformed[:40]
            assert json.loads(text)["path"] == PATHS.get(malformed, json.loads(text)["path"])
        assert server.ask("/predict") == (405, "Method Not Allowed")
        document = json.loads(server.ask("/openapi.json")[1])
        body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert body["example"] == {"x": [[1, 2, 3, 4]]}
        items = document["components"]["schemas"]["Request"]["properties"]["x"]["items"]
        assert (items["minItems"], items["maxItems"], items["items"]) == (4, 4, {"type": "number"})
        page = server.ask("/docs")[1]
        assert "//" not in page.replace("</", "")  # nothing from another server
        for code, answer in document["paths"]["/predict"]["post"]["responses"].items():
            assert f"<tr><td>{code}<td>{answer['description']}" in page
        assert json.loads(html.unescape(page.split("<pre>")[2].split("</pre>")[0])) == document["components"]["schemas"]
        status, metrics = server.ask("/metrics")
        assert (
            f'serving_requests_total{{model_version="unknown",route="/predict",status="422"}} {len(MALFORMED)}'
            in metrics
        )
        assert 'serving_ready{model_version="unknown"} 1.0' in metrics
        log = server.end()
        assert server.process.returncode == 0
    lines = records(log)
    assert len([one for one in lines if one["message"] == "request"]) == len(MALFORMED) + 1  # and no probe
    assert not any("exception" in one for one in lines)
    assert "requests run together" in [one["message"] for one in lines]


def shown_command(server: Running, host: str) -> list[str]:
    """The words of the command on /docs, for a client that calls the server by this name."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/docs", headers={"Host": host})
    with urllib.request.urlopen(request, timeout=limit(10)) as answer:
        page: str = answer.read().decode()
    assert "<b>" not in page
    (command,) = re.findall("<pre>(curl .*)</pre>", page)
    return shlex.split(html.unescape(command))


@pytest.mark.parametrize("size", [1, 5000])
def test_the_command_of_the_docs_works_for_any_sample_and_host(tmp_path: Path, size: int) -> None:
    sample = json.dumps({"text": "it's </pre><b>" * size})
    model = "def load(): return lambda payload: len(payload['text'])"
    with served(initialised(tmp_path, {"model.py": model, "sample.json": sample})) as server:
        server.wait("/health/ready", 200)
        sent = sample if size == 1 else "@sample.json"
        for host in ("wine.example:8443", "<b>$(reboot)'"):
            assert shown_command(server, host) == ["curl", f"{host}/predict", "-d", sent]


def test_is_live_at_once_and_ready_after_warm_up(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"slow.py": SLOW, "sample.json": '{"x": [1.0]}'})
    with served(repo) as server:
        server.wait("/health/live", 200)
        assert server.ask("/health/ready")[0] == 503
        assert server.ask("/predict", b'{"x": [1.0]}')[0] == 503
        assert server.ask("/openapi.json")[0] == 503
        assert server.wait("/health/ready", 200) >= {503, 200}
        assert server.ask("/predict", b'{"x": [1.0]}') == (200, '{"outputs":{"y":[0.0],"n":1.0}}')
        for bad in (b'{"x": [-1.0]}', b'{"x": [0]}'):  # NaN and minus infinity
            status, text = server.ask("/predict", bad)
            assert (status, json.loads(text)["detail"]) == (500, "the model output contains NaN or infinity")
        assert server.ask("/predict", b'{"y": 1}')[0] == 422
        assert server.ask("/predict", b'{"x": [13]}') == (422, '{"detail":"ValueError: unlucky","path":"$"}')
        assert server.ask("/predict", b'{"x": [99]}')[0] == 500
        metrics = server.ask("/metrics")[1]
        assert 'serving_not_finite_outputs_total{model_version="unknown"} 2.0' in metrics
        assert 'serving_model_errors_total{kind="RuntimeError",model_version="unknown"} 1.0' in metrics
        failures = [one for one in records(server.end()) if "exception" in one]
    assert len(failures) == 1
    assert "RuntimeError: boom" in str(failures[0]["exception"])
    assert failures[0]["request_id"]


THREADS = """
import threading

STATE = threading.local()

def load():
    STATE.warm = 0
    return predict

def predict(payload):
    STATE.warm = getattr(STATE, "warm", -1000) + 1
    return {"warm": STATE.warm}
"""


def test_requests_run_in_the_thread_that_loaded_and_warmed_the_model(tmp_path: Path) -> None:
    """Libraries keep thread pools, handles and buffers for each thread, so another one would be cold."""
    repo = initialised(tmp_path, {"threads.py": THREADS, "sample.json": "{}"})
    with served(repo) as server, ThreadPoolExecutor(4) as pool:
        server.wait("/health/ready", 200)
        answers = [
            json.loads(text)["outputs"]["warm"] for _, text in pool.map(server.ask, ["/predict"] * 8, [b"{}"] * 8)
        ]
    assert min(answers) >= 4  # three runs at least warmed it up
    assert len(set(answers)) == 8


def test_limits_are_kept_and_said(tmp_path: Path) -> None:
    code = "import time\ndef load(): return lambda payload: time.sleep(payload['s']) or payload\n"
    repo = initialised(tmp_path, {"sleeper.py": code, "sample.json": '{"s": 0.0}'})
    limits = {"MAX_BODY_BYTES": "100", "MAX_IN_FLIGHT": "2", "PREDICT_SECONDS": "1", "BODY_SECONDS": "0.3"}
    with served(repo, **limits) as server:
        server.wait("/health/ready", 200)
        assert server.ask("/predict", b" " * 101)[0] == 413
        raw = exchange(server.port, b"Content-Length: 1000000000\r\n\r\n")
        assert raw.startswith("HTTP/1.1 413 ")  # before a byte of the body
        assert exchange(server.port, b"Content-Length: 9\r\n\r\n{").startswith("HTTP/1.1 408 ")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: server.ask("/predict", b'{"s": 0.4}')[0], range(4)))
        assert sorted(answers) == [200, 200, 503, 503]
        assert server.ask("/predict", b'{"s": 1.5}')[0] == 504
        assert "Retry-After" in exchange(server.port, b"Content-Length: 2\r\n\r\n{}", busy=server).title()


RAISED = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "TimeoutError", "MemoryError", "Odd")
RAISING = """
import builtins

class Odd(BaseException):
    def __str__(self):
        raise ValueError

def load(): return predict

def predict(payload):
    if name := payload["raise"]:
        raise getattr(builtins, name, Odd)
    return {"y": 1}
"""


def test_whatever_the_model_raises_is_its_failure(tmp_path: Path) -> None:
    """The server answers 500 at once, counts the exception, and goes on."""
    repo = initialised(tmp_path, {"raising.py": RAISING, "sample.json": '{"raise": ""}'})
    with served(repo) as server:
        server.wait("/health/ready", 200)
        for name in RAISED:
            status, text = server.ask("/predict", json.dumps({"raise": name}).encode())
            assert (status, json.loads(text)["detail"]) == (500, "the model failed"), name
            assert server.ask("/predict", b'{"raise": ""}') == (200, '{"outputs":{"y":1}}')
        metrics = server.ask("/metrics")[1]
        for name in RAISED:
            assert f'serving_model_errors_total{{kind="{name}",model_version="unknown"}} 1.0' in metrics
        server.end()
        assert server.process.returncode == 0


def exchange(port: int, rest: bytes, busy: Running | None = None) -> str:
    """The raw response to a POST, if asked for while the server is busy."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(busy.ask, "/predict", b'{"s": 0.5}') for _ in range(2)] if busy else []
        time.sleep(0.2 if busy else 0)
        with socket.create_connection(("127.0.0.1", port), timeout=limit(10)) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + rest)
            answer = connection.recv(65536).decode()
        for one in waiting:
            one.result()
    return answer


def test_a_request_in_flight_is_answered_after_sigterm_while_unready(tmp_path: Path) -> None:
    code = "import time\ndef load(): return lambda payload: time.sleep(payload['s']) or payload\n"
    repo = initialised(tmp_path, {"sleeper.py": code, "sample.json": '{"s": 0.0}'})
    with served(repo, UNREADY_SECONDS="2") as server, ThreadPoolExecutor(1) as pool:
        server.wait("/health/ready", 200)
        answer = pool.submit(server.ask, "/predict", b'{"s": 3}')
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        server.wait("/health/ready", 503)
        assert server.ask("/health/live")[0] == 200
        assert answer.result() == (200, '{"outputs":{"s":3.0}}')
        server.end()
        assert server.process.returncode == 0


def test_a_request_that_outlives_the_drain_is_refused(tmp_path: Path) -> None:
    code = "import time\ndef load(): return lambda payload: time.sleep(payload['s']) or payload\n"
    repo = initialised(tmp_path, {"sleeper.py": code, "sample.json": '{"s": 0.0}'})
    with served(repo, DRAIN_SECONDS="0") as server, ThreadPoolExecutor(1) as pool:
        server.wait("/health/ready", 200)
        answer = pool.submit(server.ask, "/predict", b'{"s": 60}')
        time.sleep(0.2)
        log = server.end()
        assert answer.result() == (503, '{"detail":"the server is shutting down"}')
    assert (server.process.returncode, "Traceback" in log) == (0, False)


def test_one_bad_row_fails_only_its_request(tmp_path: Path) -> None:
    model = """
import time
import numpy as np
from serving.tensors import Tensor, to_arrays
class Model:
    inputs = {"x": Tensor(np.dtype(np.float32), (None, 4))}
    batch_axis = True
    def predict(self, batch):
        x = to_arrays(batch, self.inputs)["x"]
        time.sleep(0.05)
        if (x == 13).any():
            raise RuntimeError("unlucky")
        return {"y": np.where(x.sum(1) == 7, np.nan, x.sum(1)), "rows": np.full(len(x), len(x))}
"""
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    text = (repo / "serving/model.py").read_text()
    (repo / "serving/model.py").write_text(text.partition("class Model:")[0] + model + "def load(): return Model()\n")
    (repo / "serving/predictor.py").write_text(
        (repo / "serving/predictor.py").read_text().replace("return all(", "return True or all(")
    )
    bodies = [json.dumps({"x": [[float(first), 0, 0, 0]]}).encode() for first in (1, 2, 13, 7, 3, 4, 5, 6)]
    with served(repo) as server, ThreadPoolExecutor(8) as pool:
        server.wait("/health/ready", 200)
        answers = list(pool.map(lambda body: server.ask("/predict", body), bodies))
    assert [status for status, _ in answers] == [200, 200, 500, 500, 200, 200, 200, 200]
    good = [json.loads(text)["outputs"] for status, text in answers if status == 200]
    assert [one["y"] for one in good] == [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0]]


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
        log = server.ended()
        assert server.process.returncode == 1
        assert "failed to load and warm up the model" in log
        assert "Traceback (most recent call last):\n" in log


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
    calls = f"print(m.predict({{'x': [{good}]}})['y'].tolist()); m.predict({{'x': [{bad}]}})"
    done = run_code(repo, f"from serving.model import load; m = load(); {calls}")
    assert json.loads(done.stdout)[0][0] == sum(value for value in good if isinstance(value, float | int))
    assert "InvalidRequest: $.x: expected" in done.stderr


def onnx_graph(node: NodeProto, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> bytes:
    """A model of one operation."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    graph = helper.make_graph([node], "g", inputs, outputs)
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return model


def test_rows_of_different_requests_never_meet(tmp_path: Path) -> None:
    """One row is broadcast to three, so the inputs of two requests can have as many rows together. Names are odd."""
    names = ("input_2", "input.1", "class", "ü😀")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in names]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    model = onnx_graph(helper.make_node("Sum", [*names], ["y"]), inputs, [output])
    repo = initialised(tmp_path, {"model.onnx": model})
    done = run_code(
        repo,
        f"""
from serving.predictor import Predictor
from serving.tensors import to_arrays
p = Predictor()
payload = lambda *rows: to_arrays({{n: [[1.0, 1.0]] * c for n, c in zip({names!r}, rows)}}, p.inputs)
print(p.batches, p.shape_of(payload(2, 2, 2, 2))[1], p.shape_of(payload(1, 3, 3, 3)), p.shape_of(payload(3, 1, 1, 1)))
""",
    )
    assert done.stdout == "True 2 (None, 1) (None, 1)\n", done.stderr


def test_text_is_not_padded(tmp_path: Path) -> None:
    """NumPy would use the memory of the longest text for each, and drop null characters at the end."""
    text = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 1]) for name in "xy"]
    repo = initialised(
        tmp_path, {"model.onnx": onnx_graph(helper.make_node("Identity", ["x"], ["y"]), text[:1], text[1:])}
    )
    values = ["a\0", "b" * 20_000, *"c" * 20_000]  # 1.6 GB if padded
    tensor = {"name": "x", "shape": [len(values), 1], "datatype": "BYTES", "data": values}
    with served(repo) as server:
        server.wait("/health/ready", 200)
        status, answer = server.ask("/predict", json.dumps({"x": [[one] for one in values]}).encode())
        assert (status, [one for (one,) in json.loads(answer)["outputs"]["y"]]) == (200, values)
        for datatype, expected in (("BYTES", 200), ("FP32", 422)):
            body = json.dumps({"inputs": [{**tensor, "datatype": datatype}]}).encode()
            assert server.ask("/v2/models/model/infer", body)[0] == expected
        memory = Path(f"/proc/{server.process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
        assert int(memory) < 500_000  # KiB


@pytest.mark.parametrize(
    ("element", "datatype", "values", "wrong"),
    [(TensorProto.FLOAT, "FP32", [1.5, 2.0], ["a", "b"]), (TensorProto.STRING, "BYTES", ["a", "b"], [1.5, 2.0])],
    ids=["numbers", "texts"],
)
def test_a_model_without_a_batch_axis_gets_a_server_without_batches(
    tmp_path: Path, element: int, datatype: str, values: list[object], wrong: list[object]
) -> None:
    tensors = [helper.make_tensor_value_info(name, element, [2]) for name in "xy"]
    model = onnx_graph(helper.make_node("Identity", ["x"], ["y"]), tensors[:1], tensors[1:])
    repo = initialised(tmp_path, {"model.onnx": model})
    batching, protocol = ((repo / f"serving/{name}.py").read_text() for name in ("batching", "openinference"))
    assert ("run together" in batching, "BYTES" in protocol) == (False, datatype == "BYTES")
    tensor = {"name": "x", "shape": [2], "datatype": datatype}
    with served(repo) as server, ThreadPoolExecutor(4) as pool:
        server.wait("/health/ready", 200)
        body = json.dumps({"x": values}).encode()
        for status, text in pool.map(server.ask, ["/predict"] * 8, [body] * 8):
            assert (status, json.loads(text)) == (200, {"outputs": {"y": values}})
        described = json.loads(server.ask("/v2/models/model")[1])
        assert described["inputs"] == [tensor]
        assert described["outputs"] == [{**tensor, "name": "y"}]
        for data, expected in ((values, 200), (wrong, 422), (values * 2, 422)):
            inference = json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
            status, text = server.ask("/v2/models/model/infer", inference)
            assert status == expected, text
            if expected == 200:
                assert json.loads(text)["outputs"] == [{**tensor, "name": "y", "data": values}]
        assert server.ask("/predict", json.dumps({"x": wrong}).encode())[0] == 422


def test_an_input_that_numpy_lacks_is_named(tmp_path: Path) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["n", 1]) for name in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    repo = initialised(tmp_path, {"model.onnx": onnx_graph(node, inputs[:1], inputs[1:])})
    message = "TypeError: unsupported `tensor(bfloat16)`, the type of input `x`: export the model with another\n"
    assert run_code(repo, "from serving.model import load; load()").stderr.endswith(message)


def test_maps_are_json_in_the_open_inference_protocol(tmp_path: Path) -> None:
    """The probabilities of a classifier that skl2onnx converts are maps."""
    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    maps = helper.make_value_info("p", helper.make_sequence_type_proto(kind))
    node = helper.make_node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    repo = initialised(tmp_path, {"model.onnx": onnx_graph(node, [rows], [maps])})
    code = """
from serving.openinference import InferRequest, Parameters, encode
from serving.predictor import Predictor
for binary in (True, False):
    request = InferRequest([], parameters=Parameters(binary_data_output=binary))
    print(encode(request, Predictor().example, {})[0].decode())
"""
    assert run_code(repo, code).stdout.count('{"0":0.0,"1":0.0}') == 1
    assert run_code(repo, code).stdout.count(json.dumps('{"0":0.0,"1":0.0}')) == 1


LAZY = """
import time
from collections import UserDict
from concurrent.futures import ThreadPoolExecutor

def load():
    ThreadPoolExecutor(1).submit(time.sleep, 600)
    return predict

class Table:
    def __iter__(self):
        return iter(["column"])

def slowly(payload):
    time.sleep(1)
    yield 1
    raise ValueError("late")

def predict(payload):
    odd = {"map": UserDict(a={1}), "values": {"a": 1}.values(), "table": Table(), "bytes": b"a"}
    return slowly(payload) if payload["return"] == "slow" else odd.get(payload["return"], 1)
"""


def test_outputs_are_read_in_the_models_thread_and_never_lose_data(tmp_path: Path) -> None:
    """And a thread of the model that does not end keeps the process for a moment only."""
    repo = initialised(tmp_path, {"lazy.py": LAZY, "sample.json": '{"return": ""}'})
    with served(repo) as server, ThreadPoolExecutor(1) as pool:
        server.wait("/health/ready", 200)
        slow = pool.submit(server.ask, "/predict", b'{"return": "slow"}')
        time.sleep(0.2)
        began = time.monotonic()
        assert server.ask("/health/live")[0] == 200
        assert time.monotonic() - began < 0.5
        assert slow.result() == (422, '{"detail":"ValueError: late","path":"$"}')
        assert server.ask("/predict", b'{"return": "map"}') == (200, '{"outputs":{"a":[1]}}')
        assert server.ask("/predict", b'{"return": "values"}') == (200, '{"outputs":[1]}')
        for kind in ("table", "bytes"):
            assert server.ask("/predict", json.dumps({"return": kind}).encode())[0] == 500
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(limit(5)) == 0


def test_odd_requests_are_answered(tensor_server: Running) -> None:
    """Java's client asks for HTTP/2, which a server may ignore, in the first request of a connection."""
    body = b'{"x": [[1, 2, 3, 4]]}'
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAA"}
    connection = HTTPConnection("127.0.0.1", tensor_server.port, timeout=limit(10))
    for headers in (upgrade, {}):
        connection.request("POST", "/predict", body, headers)
        with connection.getresponse() as answer:
            assert (answer.status, json.loads(answer.read())) == (200, {"outputs": {"y": [[10.0, 10.0]]}})
    connection.close()
    both = exchange(tensor_server.port, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert both.startswith("HTTP/1.1 400 ")
    with suppress(ConnectionResetError):
        assert exchange(tensor_server.port, b"X: " + b"a" * 100_000).startswith("HTTP/1.1 400 ")


def test_a_model_name_that_no_path_can_have_ends_the_process(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes()})
    with served(repo, MODEL_NAME="team/model") as server:
        log = server.ended()
    assert (server.process.returncode, log.splitlines()) == (
        1,
        ["error: invalid MODEL_NAME='team/model': Expected `str` matching regex '^[^/]+$'"],
    )


def test_nvidias_client_passes(tmp_path: Path) -> None:
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    rows = np.array([[1, 2, 3, 4], [0, 0, 0, 0.5]], dtype=np.float32)
    with served(repo, MODEL_VERSION="7") as server:
        server.wait("/v2/health/ready", 200)
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready("model")
            assert not client.is_model_ready("model", "8")
            assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
            described = client.get_model_metadata("model", "7")
            assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
            assert described["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]
            for sent in (True, False):
                for received in (True, False):
                    given = triton.InferInput("x", [2, 4], "FP32")
                    given.set_data_from_numpy(rows, binary_data=sent)
                    wanted = triton.InferRequestedOutput("y", binary_data=received)
                    answer = client.infer("model", [given], outputs=[wanted], request_id="a")
                    assert (answer.as_numpy("y") == [[10, 10], [0.5, 0.5]]).all()
                    assert answer.get_response()["id"] == "a"
            given = triton.InferInput("x", [1, 3], "FP32")
            given.set_data_from_numpy(rows[:1, :3])
            with pytest.raises(InferenceServerException, match=r"expected the shape \['any', 4\], got \[1, 3\]"):
                client.infer("model", [given])
            with pytest.raises(InferenceServerException, match="no such model"):
                client.infer("other", [given])


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (None, b"{}"),
        (None, b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [1, -4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, "4"]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [4], "datatype": "INT8", "data": [1, 2, 3, 400]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1e39, 2, 3, 4]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "BF16", "data": [1, 2, 3, 4]}]}'),
        (None, b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}'),
        (None, b'{"inputs": []}'),
        (None, b'{"inputs": [{"name": "x", "shape": [%s1], "datatype": "FP32", "data": [1]}]}' % (b"1," * 64)),
        (
            None,
            b'{"inputs": [{"name": "x", "shape": [1099511627776, 1099511627776, 0], "datatype": "BYTES", "data": []}]}',
        ),
        ("9" * 5000, b"{}"),
        ("9999", b"{}"),
        ("-1", b"{}"),
        (
            "88",
            b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4}}]}\xff\xff\xff\xff',
        ),
        ("2", b"{}1234"),
    ],
)
def test_a_bad_tensor_is_refused(tensor_server: Running, header: str | None, body: bytes) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{tensor_server.port}/v2/models/model/infer", body)
    if header:
        request.add_header("Inference-Header-Content-Length", header)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=limit(10))
    with caught.value:
        assert (caught.value.code, [*json.loads(caught.value.read())]) == (422, ["error", "path"])


@pytest.fixture(scope="module")
def tensor_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    files: dict[str, str | bytes] = {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'}
    with served(initialised(tmp_path_factory.mktemp("tensors"), files)) as server:
        server.wait("/health/ready", 200)
        yield server


def test_rows_that_depend_on_each_other_never_run_together(tmp_path: Path) -> None:
    """A running sum over the first axis, whose open length looks like a batch; the sample is made of zeros."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    axis = helper.make_tensor("axis", TensorProto.INT64, [], [0])
    graph = helper.make_graph([helper.make_node("CumSum", ["x", "axis"], ["y"])], "g", tensors[:1], tensors[1:], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    repo = initialised(tmp_path, {"model.onnx": model.SerializeToString()})
    with served(repo) as server:
        server.wait("/health/ready", 200)
        log = server.end()
    assert "requests run one at a time" in [one["message"] for one in records(log)]


GOLDEN = {"y": [[10.0, 10.00001]]}


@pytest.mark.parametrize(
    ("golden", "difference"),
    [
        (GOLDEN, None),
        ({"y": [[10, 9.9]]}, "$.y[0][1] is 10.0, expected 9.9"),
        ({"y": [[10]]}, "$.y[0] is [10.0, 10.0], expected [10]"),
        ({"y": "a" * 100}, f'$.y is [[10.0, 10.0]], expected "{"a" * 59}...'),
        ([1], '$ is {"y": [[10.0, 10.0]]}, expected [1]'),
    ],
)
def test_a_server_with_another_output_than_expected_never_starts(
    tmp_path: Path, golden: object, difference: str | None
) -> None:
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    with served(repo) as server:
        if difference is None:
            server.wait("/health/ready", 200)
            return
        log = server.ended()
    assert server.process.returncode == 1
    assert f"ValueError: the output for the sample differs from golden.json: {difference}\n" in log


@pytest.mark.parametrize("name", ["onnx", "moved"])
def test_the_tests_that_come_with_the_server_pass_and_can_fail(tmp_path: Path, name: str) -> None:
    """And a second `mlship init` sees the same repository. The folder of a server is another if `serving` is taken."""
    model: dict[str, str | bytes] = {
        "model.onnx": onnx_bytes(),
        "sample.json": '{"x": [[1, 2, 3, 4]]}',
        "golden.json": '{"y": [[10, 10]]}',
    }
    plain: dict[str, str | bytes] = {
        "plain.py": "def load(): return lambda payload: payload",
        "sample.json": '{"a": [1.5]}',
    }
    repo = initialised(tmp_path, {"onnx": model, "moved": {**plain, "serving.py": ""}}[name])
    assert keep_existing(scaffold(detect(repo)), repo).files == ()
    code = "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))"
    done = run_code(repo, code)
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout
    if name == "onnx":
        (repo / "sample.json").write_text('{"x": [[1, 2, 3, 5]]}')
        assert run_code(repo, code).returncode == 1


def test_idle_threads_of_onnxruntime_do_not_spin(tmp_path: Path) -> None:
    repo = initialised(tmp_path, {"model.onnx": onnx_bytes(), "sample.json": '{"x": [[1, 2, 3, 4]]}'})
    entry = "get_session_options().get_session_config_entry('session.intra_op.allow_spinning')"
    assert run_code(repo, f"from serving.model import load; print(load()._session.{entry})").stdout == "0\n"
