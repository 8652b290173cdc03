"""The programs that run in the image with `python -c`, here in their own processes."""

import ast
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlship.image.inside.request import malformed_json
from mlship.resources import read_package_file
from mlship.smoke.events import (
    Begin,
    Done,
    Event,
    Failed,
    JitCompiled,
    Latency,
    MemoryUse,
    Output,
    RouteChange,
    ServerResponse,
    Stop,
    Warm,
    parse_event,
)
from mlship.smoke.inside import program as inside
from mlship.smoke.seen import all_of, first_of
from tests.helpers.patience import limit
from tests.helpers.smoke_client import client, listen
from tests.helpers.smoke_events import MODEL as GOOD_MODEL

MODEL = """\
import json
def load():
    return lambda payload: {"scores": (payload["x"] * 2, float("nan"))}
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "sample.json").write_text('{"x": 3}')
    (tmp_path / "weights.bin").write_bytes(b"x" * 100)
    return tmp_path


def model(repo: Path, **options: object) -> tuple[subprocess.CompletedProcess[str], tuple[Event, ...]]:
    """Run the model program in a folder; every line on stdout must be an event."""
    asked = {"load": "model:load", "load_seconds": 20, "sample": "sample.json", "golden": None, "weights": []}
    done = subprocess.run(
        [sys.executable, "-c", read_package_file("smoke/inside/program.py"), "model", json.dumps({**asked, **options})],
        cwd=repo,
        capture_output=True,
        text=True,
        timeout=limit(30),
        check=False,
    )
    events = [parse_event(line) for line in done.stdout.splitlines()]
    assert None not in events, done.stdout
    return done, tuple(event for event in events if event is not None)


@pytest.mark.parametrize("name", ["program", "pod"])
def test_it_is_valid_for_python_3_8_and_imports_only_the_standard_library(name: str) -> None:
    source = read_package_file(f"smoke/inside/{name}.py")
    tree = ast.parse(source, feature_version=(3, 8))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names
    assert len(source) < 100_000  # Linux limits an argument to 128 KiB


def test_a_good_model_reports_all_events(repo: Path) -> None:
    (repo / "golden.json").write_text('{"scores": [6, 7]}')
    done, events = model(repo, golden="golden.json", weights=["weights.bin"])
    assert done.returncode == 0, done.stderr
    assert {type(event) for event in events} == {type(event) for event in GOOD_MODEL.events}
    assert isinstance(events[0], Begin)
    assert [event.stage for event in all_of(Done, events)] == ["import", "load", "warm", "answer", "measure"]
    output, warm, latency = first_of(Output, events), first_of(Warm, events), first_of(Latency, events)
    assert output is not None
    assert str(output.value) == "{'scores': [6, nan]}"
    assert output.golden == ({"scores": [6, 7]},)
    assert warm is not None
    assert 3 <= warm.runs <= 20
    assert latency is not None
    assert latency.p50 <= latency.p99
    memory = first_of(MemoryUse, events)
    assert memory is not None
    assert memory.weights == 100
    assert (memory.peak is not None) == Path("/proc/self/status").exists()
    assert memory.peak is None or memory.peak > 1 << 20


@pytest.mark.parametrize(
    ("source", "stage", "kind", "message"),
    [
        ("import nothing_of_that_name", "import", "ModuleNotFoundError", "No module named 'nothing_of_that_name'"),
        ("raise SystemExit('no')", "import", "SystemExit", "no"),
        ("def load(:", "import", "SyntaxError", ""),
        ("", "load", "AttributeError", "module 'model' has no attribute 'load'"),
        ("def load(): raise ValueError('torn')", "load", "ValueError", "torn"),
        ("def load(): pass", "load", "TypeError", "neither callable nor has a .predict"),
        ("def load(): return lambda p: p['y']", "warm", "KeyError", "'y'"),
        ("def load(): return lambda p: object()", "answer", "TypeError", "an object of type object"),
        ("class E(Exception):\n  def __str__(self): 1/0\ndef load(): raise E", "load", "E", "cannot be printed"),
    ],
)
def test_a_failure_names_its_stage(repo: Path, source: str, stage: str, kind: str, message: str) -> None:
    (repo / "model.py").write_text(source)
    done, events = model(repo)
    assert done.returncode == 1
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.type) == (stage, kind)
    assert message in failed.message


def test_the_traceback_shows_only_user_code(repo: Path) -> None:
    (repo / "model.py").write_text("import json\ndef load():\n    return json.loads('{')\n")
    _, events = model(repo)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.lines == (f"File {repo / 'model.py'}, line 3, in load", "    return json.loads('{')")


def test_a_failure_deep_in_a_package_points_at_the_users_code(repo: Path) -> None:
    package = repo / "site-packages" / "deep"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def dig(n):\n    return dig(n - 1) if n else 1 / 0\n")
    (repo / "model.py").write_text(
        "import sys\nsys.path.insert(0, 'site-packages')\nimport deep\ndef load():\n    deep.dig(9)\n"
    )
    _, events = model(repo)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.at == f"{repo / 'model.py'}, line 5"
    assert failed.lines[0] == f"File {repo / 'model.py'}, line 5, in load"
    assert len(failed.lines) == 10


def test_compiled_code_of_a_package_is_not_the_users(repo: Path) -> None:
    """Cython names its source relative to the folder that it was built in."""
    code = "def load():\n    exec(compile('1 / 0', 'sklearn/tree/_tree.pyx', 'exec'))\n"
    (repo / "model.py").write_text(code)
    _, events = model(repo)
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert failed.at == f"{repo / 'model.py'}, line 2"


def test_a_sample_that_is_no_json_is_given_as_bytes(repo: Path) -> None:
    (repo / "cat.jpg").write_bytes(b"\xff\xd8")
    (repo / "model.py").write_text("def load(): return lambda image: [image.hex(), type(image).__name__]\n")
    _, events = model(repo, sample="cat.jpg")
    output = first_of(Output, events)
    assert output is not None
    assert output.value == ["ffd8", "bytes"]


NUMBA = """\
import types, sys
from collections import Counter
class Dispatcher:
    def __init__(self, name, seconds, hits, path):
        def function(): pass
        function.__name__, function.__module__, self.py_func = name, "librosa", function
        self.seconds, found = seconds, Counter({("int64",): 1})
        self.stats = types.SimpleNamespace(cache_path=path, cache_misses=Counter() if hits else found)
    def get_metadata(self, signature):
        return {"pipeline_times": {"nopython": {"pass": (0.1, self.seconds, 0.1)}}}
core = types.ModuleType("numba.core.dispatcher")
core.Dispatcher = Dispatcher
sys.modules["numba.core.dispatcher"] = core
ROWS = [("slow", 63.0, False, "/tmp"), ("inner", 2.0, False, None), ("old", 9.0, True, "/tmp")]
KEPT = [Dispatcher(*row) for row in ROWS]
"""


def test_what_numba_compiles_at_start_is_reported(repo: Path) -> None:
    (repo / "model.py").write_text(NUMBA + MODEL)
    done, events = model(repo)
    assert done.returncode == 0, done.stderr
    jit = first_of(JitCompiled, events)
    assert jit is not None
    assert (jit.functions, round(jit.seconds, 1), jit.cacheable) == (("librosa.inner", "librosa.slow"), 63.2, 1)


def test_a_hang_is_ended_and_located(repo: Path) -> None:
    (repo / "model.py").write_text("import time\ndef load():\n    time.sleep(60)\n")
    done, events = model(repo, load_seconds=0.5)
    assert done.returncode == 1
    assert [event.stage for event in events if isinstance(event, Done)] == ["import"]
    assert "Timeout (" in done.stderr
    assert 'model.py", line 3 in load' in done.stderr


def test_leftover_threads_of_user_code_do_not_block_the_exit(repo: Path) -> None:
    (repo / "model.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\n1/0"
    )
    done, _ = model(repo)
    assert done.returncode == 1


def test_output_of_user_code_is_not_an_event(repo: Path) -> None:
    forged = '{"event": "output", "value": 1, "golden": []}'
    (repo / "model.py").write_text(
        f"import os, sys\nprint('{forged}')\nos.write(1, b'{forged}')\nos.system('echo hi')\nsys.stdout.write('x')\n"
        + MODEL
    )
    done, events = model(repo)
    assert done.returncode == 0
    assert len(all_of(Output, events)) == 1
    assert done.stderr.count("output") == 2


def test_a_model_that_changes_its_sample_gets_a_new_one(repo: Path) -> None:
    (repo / "model.py").write_text("def load(): return lambda payload: payload.pop('x')")
    done, _ = model(repo)
    assert done.returncode == 0, done.stdout


class Tensor:
    def __init__(self, value: object) -> None:
        self.value = value

    def detach(self) -> "Tensor":
        return self

    def cpu(self) -> "Tensor":
        return Tensor([1.5, 2.5])

    def tolist(self) -> object:
        return self.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Tensor(None), [1.5, 2.5]),
        ({"a": (Tensor(None), None)}, {"a": [[1.5, 2.5], None]}),
        ({1: True}, {"1": True}),
        (signal.SIGTERM, 15),
    ],
)
def test_plain(value: object, expected: object) -> None:
    assert inside.plain(value) == expected
    assert json.loads(json.dumps(inside.plain(value))) == expected


def test_plain_refuses_what_never_ends() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="nested"):
        inside.plain(endless)


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [([], False), ([1, 1], False), ([9, 1, 1.1, 1.2], True), ([1, 1.1, 1.3], False)],
)
def test_steady(latencies: list[float], expected: bool) -> None:
    assert inside.steady(latencies) is expected


class Sent(inside.Events):
    """Keeps what it would print."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, object]]] = []

    def send(self, event: str, **fields: object) -> None:
        self.found.append((event, fields))


def test_percentiles_of_few_runs() -> None:
    sent, seconds = Sent(), iter([2.0, 3.0, 1.0, 4.0])
    sent.measure(lambda: next(seconds), 1)
    sent.measure(lambda: next(seconds), 3)
    assert sent.found == [
        ("latency", {"p50": 2.0, "p99": 2.0, "runs": 1}),
        ("latency", {"p50": 3.0, "p99": 4.0, "runs": 3}),
    ]


def test_folders_of_weights_are_counted(repo: Path) -> None:
    (repo / "w" / "deep").mkdir(parents=True)
    (repo / "w" / "deep" / "a").write_bytes(b"12345")
    assert inside.size_of([str(repo / "w"), str(repo / "weights.bin")]) == 105


# The client with a server in this process


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply(200, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            self.reply(200, json.dumps([json.loads(body)["x"]]).encode())
        except (ValueError, KeyError, TypeError):
            self.reply(422, b"not json")

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


def test_the_client_waits_for_a_server_and_sends_requests(repo: Path) -> None:
    port = free_port()
    with client(repo, port) as process:
        events = listen(process, lambda event: isinstance(event, RouteChange))
        server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            events += listen(process, lambda event: isinstance(event, Stop))
            time.sleep(0.2)
            notified = time.monotonic()
            process.send_signal(signal.SIGUSR1)
            events += listen(process, lambda event: isinstance(event, ServerResponse))
            waited = time.monotonic() - notified
            assert process.wait(10) == 0
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
    probes = [(event.probe, event.status) for event in all_of(RouteChange, events)]
    assert probes[0] == ("ready", 0)
    assert set(probes[-2:]) == {("ready", 200), ("live", 200)}  # the server may start between the two requests
    answers = {event.what: event.status for event in all_of(ServerResponse, events)}
    assert answers == {"first": 200, "half": 422, "kind": 422, "empty": 422, "after": 200, "inflight": 200}
    assert waited >= 0.2  # half the grace time after the signal


def test_the_client_times_out(repo: Path) -> None:
    with client(repo, free_port(), seconds=0.1) as process:
        events = listen(process, lambda _event: False)
        assert process.wait(10) == 0
    assert events[-1] == Stop(inflight=False)


def test_a_list_as_sample_gets_an_object_as_malformed() -> None:
    assert [what for what, _ in malformed_json(b"[1]")] == ["half", "kind"]
    assert dict(malformed_json(b"[1]"))["kind"].startswith(b"{")
    for what, body in malformed_json(b'{"a": 1}'):
        if what == "half":
            with pytest.raises(ValueError, match="delimiter"):
                json.loads(body)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_is_measured() -> None:
    peak = inside.memory("status", "VmHWM:")
    assert peak is not None
    assert peak > 1 << 20


def test_every_missing_library_is_found_at_once_but_those_that_packages_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    site.mkdir()
    for name in ("cv2.abi3.so", "libbrought.so.1"):
        (site / name).touch()
    absent = ("libGL.so.1", "libbrought.so.1", "libxcb.so.1", "libGL.so.1")
    listed = "\tlibc.so.6 => /lib/libc.so.6 (0x1)\n" + "".join(f"\t{name} => not found\n" for name in absent)
    monkeypatch.setattr(inside, "LOADERS", (str(site),))
    monkeypatch.setattr(sys, "path", [str(site)])
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed))
    assert inside.absent_libraries(ImportError("x")) == {"libGL.so.1": "cv2.abi3.so", "libxcb.so.1": "cv2.abi3.so"}
