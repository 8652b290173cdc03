"""The servers that scripts/benchmark-serving measures, and the load on them."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from _bench_contestants import REPOS, ROOT, CannotRunError, Place
from _machine import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_EXAMPLE = ROOT / "examples/digits-onnx/repo"
_START_SECONDS = 90.0
_LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[BODY]==]
done = function(summary, latency, requests)
  local e = summary.errors
  local bad = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('{"requests": %d, "seconds": %f, "bad": %d, "p50": %f, "p99": %f}\\n',
    summary.requests, summary.duration / 1e6, bad, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""

_BAD = """
import asyncio, sys
answer = sys.argv[1].encode()
async def serve(reader, writer):
    await reader.read(65536)
    await asyncio.sleep(0 if answer else 10)
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


@dataclass(frozen=True)
class Kind:
    """A server: its packages, its files below scripts/benchmark_repos, its command, and the version to print."""

    name: str
    packages: tuple[str, ...]
    files: tuple[str, ...]
    command: tuple[str, ...]
    shown: str
    ours: bool = False


ONNX = ("onnxruntime", "numpy")
UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--port", "PORT")
BENTOML = ("-m", "bentoml", "serve", "service:Digits", "--port", "PORT")
SERVER_NEEDS = ("h11", "httptools", "msgspec", "prometheus-client", "uvicorn", "uvloop")  # as `mlship init` writes
KINDS = (
    Kind("ours", SERVER_NEEDS, (), ("-m", "serving"), "uvicorn", True),
    Kind("plain FastAPI", ("fastapi", "uvicorn[standard]"), ("serve",), (*UVICORN, "blog:app"), "fastapi"),
    Kind("LitServe", ("litserve",), ("serve", "litserve"), ("server.py",), "litserve"),
    Kind("BentoML", ("bentoml",), ("serve", "bentoml"), BENTOML, "bentoml"),
    Kind(
        "bare ASGI", ("msgspec", "uvicorn[standard]"), ("serve",),
        (*UVICORN, "--no-access-log", "--log-level", "warning", "bare:app"), "uvicorn",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Load:
    """A run of wrk: requests a second, times in milliseconds, and the CPU time of the server for each request."""

    rate: float
    cpu_us: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    version: str
    port: int
    pid: int
    script: Path

    def load(self, clients: int, seconds: float) -> Load:
        """Measure with wrk. A failed request is a CannotRunError."""
        before = cpu_seconds(self.pid)
        found = wrk(f"http://127.0.0.1:{self.port}/predict", self.script, clients, seconds)
        spent = cpu_seconds(self.pid) - before
        if found["bad"] or not found["requests"]:
            raise CannotRunError(f"{self.name}: {found['bad']:.0f} of {found['requests']:.0f} requests failed")
        rate = found["requests"] / found["seconds"]
        return Load(rate, 1e6 * spent / found["requests"], found["p50"], found["p99"])


def in_turn(servers: Mapping[str, Server], rate: float, seconds: float) -> dict[str, Load]:
    """Ask the servers in turn, each `rate` times a second: what else the machine does meets all of them alike."""
    before = {name: cpu_seconds(one.pid) for name, one in servers.items()}
    connections = {name: http.client.HTTPConnection("127.0.0.1", one.port, timeout=10) for name, one in servers.items()}
    times: dict[str, list[float]] = {name: [] for name in servers}
    start, step = time.perf_counter(), 1 / rate / len(servers)
    for number in range(int(rate * seconds)):
        names = [*servers]
        random.shuffle(names)
        for place, name in enumerate(names):
            time.sleep(max(0.0, start + number / rate + place * step - time.perf_counter()))
            times[name].append(_asked(name, connections[name]))
    for one in connections.values():
        one.close()
    return {name: _load_of(found, rate, cpu_seconds(servers[name].pid) - before[name]) for name, found in times.items()}


def _asked(name: str, connection: http.client.HTTPConnection) -> float:
    """Milliseconds of a request."""
    began = time.perf_counter()
    connection.request("POST", "/predict", body(), {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    if response.status != 200:
        raise CannotRunError(f"{name} answered {response.status}")
    return 1000 * (time.perf_counter() - began)


def _load_of(times: list[float], rate: float, cpu: float) -> Load:
    ranked = sorted(times)
    middle, last = (ranked[int(len(ranked) * share)] for share in (0.5, 0.99))
    return Load(rate, 1e6 * cpu / len(ranked), middle, last)


def wrk_script(path: Path, body_text: str) -> Path:
    """Write the script with which wrk posts a body."""
    path.write_text(_LUA.replace("BODY", body_text))
    return path


def wrk(url: str, script: Path, clients: int, seconds: float) -> dict[str, float]:
    """Load an address: `requests`, those that were `bad`, `seconds`, and `p50` and `p99` in milliseconds."""
    sizes = ("--threads", "1", "--connections", str(clients), "--duration", f"{seconds:.0f}s", "--timeout", "10s")
    done = run(["wrk", *sizes, "--script", str(script), url], limit=seconds + 30)
    try:
        found: dict[str, float] = json.loads(done.out.splitlines()[-1])
    except (ValueError, IndexError):
        raise CannotRunError(f"wrk: {done.out}{done.err}") from None
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, from /proc/PID/stat; they may be of other sessions."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        one = int(stat.parent.name)
        parents[one], ticks[one] = int(fields[1]), int(fields[11]) + int(fields[12])
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks.get(one, 0) for one in family) / os.sysconf("SC_CLK_TCK")


@cache
def body() -> bytes:
    """One row, as in the example's sample."""
    sample: dict[str, list[list[float]]] = json.loads((_EXAMPLE / "sample.json").read_text())
    return json.dumps({name: rows[:1] for name, rows in sample.items()}).encode()


def prepare(place: Place, kind: Kind) -> Path:
    """Install the packages and write the files; return the Python."""
    python = place.venv(kind.name.replace(" ", "-"), *kind.packages, *ONNX) / "python"
    folder = place.work / kind.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(_EXAMPLE / "model.onnx", folder / "model.onnx")
    if kind.ours:
        (folder / "sample.json").write_bytes(body())
        place.call([*place.mlship, "init", "--yes", "--shadow", "-C", str(folder)], ROOT)
    for name in kind.files:
        shutil.copytree(REPOS / name, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return python


@contextmanager
def started(place: Place, kind: Kind, python: Path, **settings: str) -> Iterator[Server]:
    """The server, once it answers the sample; its output goes to a file."""
    folder = place.work / kind.name.replace(" ", "-")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for source in folder.glob("server.py"):
        source.write_text((REPOS / "litserve/server.py").read_text().replace("8000", str(port)))
    command = [str(python), *(word.replace("PORT", str(port)) for word in kind.command)]
    telemetry = {"ORT_DISABLE_TELEMETRY": "1", "BENTOML_DO_NOT_TRACK": "True"}
    env = {**os.environ, **telemetry, "HOST": "127.0.0.1", "PORT": str(port), **settings}
    with (place.work / f"{folder.name}-{port}.log").open("wb") as log:
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait(child, port, Path(log.name))
        script = wrk_script(place.work / "wrk.lua", body().decode())
        yield Server(kind.name, place.version(python.parent, kind.shown), port, child.pid, script)
    finally:
        _end(child)


@contextmanager
def bad_candidate(python: Path, answer: str) -> Iterator[int]:
    """The port of a server with this answer to everything; after ten seconds, if it is empty."""
    child = subprocess.Popen([str(python), "-c", _BAD, answer], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the session: its main process first, the rest after ten seconds."""
    child.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _wait(child: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            label = ask(port)["label"]
        except (OSError, ValueError):
            time.sleep(0.1)
            continue
        if label != [_expected()]:
            raise CannotRunError(f"it answers {label}, not {[_expected()]}")
        return
    raise CannotRunError(f"it did not answer: {log.read_text(errors='replace')[-800:]}")


def _expected() -> int:
    golden: dict[str, list[int]] = json.loads((_EXAMPLE / "golden.json").read_text())
    return golden["label"][0]


def ask(port: int) -> dict[str, list[int]]:
    """The outputs for the sample."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        found = json.loads(response.read())
    outputs: dict[str, list[int]] = found.get("outputs", found)
    return outputs


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of the ratios of pairs that were measured one after the other."""
    return statistics.median(first / second for first, second in zip(one, other, strict=True))


def facts(servers: Mapping[str, Server]) -> str:
    """The machine and the versions, for the report."""
    versions = ", ".join(f"{server.name} {server.version}" for server in servers.values())
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {versions}"
