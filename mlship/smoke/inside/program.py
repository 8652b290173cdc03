"""Runs inside the tested image through `python -c`; standard library only.

Two parts: `model` loads, warms and calls the model; `client` calls the server of another container in the same network.
Two more arguments, the texts of `mlship.smoke.inside.gpu` and `mlship.driver.ask`, look at GPUs; without them nothing
does. Both parts print JSON lines on stdout, each an event of `mlship.smoke.events`, as soon as it is known, so that the
reader knows where a hang or a kill happened. They judge nothing: that is left to `mlship.smoke.judge`.

Valid for Python 3.8, since images built without mlship are tested too.
"""

from __future__ import annotations

import faulthandler
import http.client
import importlib
import json
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

WARM_RUNS = 20
STEADY_RUNS = 200
STEADY_SECONDS = 2.0
DEEPEST = 32
POLL_SECONDS = 0.02
PROBE_SECONDS = 1.0
SETTLE_SECONDS = 0.1
LINGER_SECONDS = 0.5
START_SECONDS = 2.0  # the server's container starts later than this one
TEXT_LIMIT = 300
# Loopback, but not localhost: a server that listens on localhost only, out of reach of all others, is found.
OUTSIDE = "127.0.0.2"


class Events:
    """JSON lines on the real stdout. What the tested code prints goes to stderr, so it cannot forge or break them."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._origin = time.monotonic()

    def send(self, event: str, **fields: object) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    def now(self) -> float:
        """Seconds since this program started."""
        return time.monotonic() - self._origin

    def stage(self, name: str, action: Callable[[], T]) -> T:
        """Run one stage of the model's part and report its start and end; an exception ends the program."""
        self.send("stage", stage=name)
        started = time.perf_counter()
        try:
            result = action()
        except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt in user code are failures too
            self.send("failed", stage=name, **failure(error))
            leave(1)
        self.send("done", stage=name, seconds=time.perf_counter() - started)
        return result


def leave(code: int) -> NoReturn:
    """End at once: threads left behind by user code must not keep the container running."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def failure(error: BaseException) -> dict[str, object]:
    """An exception, with the last calls of its traceback in user code or in packages."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_python(frame.filename)]
    lines = [
        text
        for frame in frames[-5:]
        for text in (f"File {frame.filename}, line {frame.lineno}, in {frame.name}", f"    {frame.line}")
    ]
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "missing": getattr(error, "name", None) if isinstance(error, ImportError) else None,
        "file": str(error.filename) if isinstance(error, OSError) and error.filename else None,
        "lines": [line[:TEXT_LIMIT] for line in lines],
    }


def _is_python(file: str) -> bool:
    """Whether a file is one of Python's own modules, or this program."""
    return file.startswith("<") or (file.startswith(str(Path(os.__file__).parent)) and "-packages" not in file)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except Exception:  # noqa: BLE001  a broken __str__ must not hide the failure itself
        return "(its message cannot be printed)"


# The model's part


def try_model(events: Events, options: dict[str, object]) -> None:
    """Import, load, warm up, measure. faulthandler ends a hang and prints where it is, even if the GIL is held."""
    limit = float(str(options["load_seconds"]))
    faulthandler.dump_traceback_later(limit, exit=True)
    sys.path.insert(0, str(Path.cwd()))
    events.send("begin", uid=os.getuid(), python=sys.version.split()[0])
    gpu, driver = gpu_modules()
    if gpu:
        events.send("gpu_before", **gpu.before(driver))
    module_name, _, function = str(options["load"]).partition(":")
    module = events.stage("import", lambda: importlib.import_module(module_name))
    before = memory("smaps_rollup", "Private_Dirty:")
    predictor = events.stage("load", lambda: callable_of(getattr(module, function)()))
    after = memory("smaps_rollup", "Private_Dirty:")
    run = events.stage("warm", lambda: warm_up(predictor, str(options["sample"]), events))
    if gpu:
        events.send("gpu_after", **gpu.after(driver))
    faulthandler.dump_traceback_later(limit, exit=True)
    events.stage("answer", lambda: events.send("output", value=plain(run()), golden=read_golden(options["golden"])))
    events.stage("measure", lambda: measure(run, events))
    events.send("modules", **modules())
    events.send(
        "memory", peak=memory("status", "VmHWM:"), before=before, after=after, weights=size_of(options["weights"])
    )


def gpu_modules() -> tuple[types.ModuleType | None, ...]:
    """The two texts that look at GPUs, as modules; None for each if no GPU is requested."""
    if len(sys.argv) < 5:
        return None, None
    found = types.ModuleType("gpu"), types.ModuleType("driver")
    for index, module in enumerate(found):
        exec(sys.argv[3 + index], vars(module))  # noqa: S102  `python -c` takes one program, and these are parts of it
    return found


def callable_of(model: object) -> Callable[[object], object]:
    """The predictor itself, or its .predict method."""
    predict = getattr(model, "predict", model)
    if not callable(predict):
        raise TypeError(f"it returned {type(model).__name__}, which is neither callable nor has a .predict")
    return predict


def warm_up(predict: Callable[[object], object], sample: str, events: Events) -> Callable[[], object]:
    """Call the model until the last three latencies lie within 20 %; returns a function that calls it once more."""
    text = Path(sample).read_text(encoding="utf-8")
    json.loads(text)

    def run() -> object:
        return predict(json.loads(text))  # parsed each time: a model may change its input

    latencies: list[float] = []
    while len(latencies) < WARM_RUNS and not steady(latencies):
        latencies.append(timed(run))
    events.send("warm", first=latencies[0], runs=len(latencies))
    return run


def steady(latencies: list[float]) -> bool:
    last = latencies[-3:]
    return len(last) == 3 and max(last) <= 1.2 * min(last)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(run: Callable[[], object], events: Events) -> None:
    """Steady latency over 200 runs, or as many as fit in two seconds."""
    until = time.perf_counter() + STEADY_SECONDS
    latencies = [timed(run)]
    while len(latencies) < STEADY_RUNS and time.perf_counter() < until:
        latencies.append(timed(run))
    events.send("latency", **percentiles(latencies))


def percentiles(latencies: list[float]) -> dict[str, object]:
    ordered, count = sorted(latencies), len(latencies)
    return {"p50": ordered[count // 2], "p99": ordered[min(count - 1, count * 99 // 100)], "runs": count}


def plain(value: object, depth: int = 0) -> object:
    """The output as JSON values: arrays and tensors become nested lists, without importing numpy or torch."""
    for kind in (bool, int, float, str):  # enums and numpy's scalars may be subclasses of them
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if depth > DEEPEST:
        raise TypeError(f"the answer is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1) for item in value]
    for step in ("detach", "cpu"):
        value = getattr(value, step, lambda same=value: same)()
    if not hasattr(value, "tolist"):
        raise TypeError(
            f"the answer holds an object of type {type(value).__name__}; "
            "numbers, text, lists, dicts, arrays and tensors can be checked"
        )
    return plain(value.tolist(), depth + 1)


def read_golden(path: object) -> object:
    """The recorded answer in a list of one; an empty list if the image has no such file."""
    if path is None or not Path(str(path)).is_file():
        return []
    return [json.loads(Path(str(path)).read_text(encoding="utf-8"))]


def modules() -> dict[str, object]:
    """Imported modules of packages without bytecode, which every start compiles; bytes that the build left out."""
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    found = [spec for spec in specs if spec and spec.has_location and "-packages" in str(spec.origin)]
    notes = [json.loads(path.read_text()) for path in Path(sys.prefix, "share/mlship").glob("*.json")]
    left_out = sum(kind["bytes"] for note in notes for kind in note["pruned"].values())
    missing = (spec.name for spec in found if spec.cached and not Path(spec.cached).exists())
    return {"uncompiled": sorted(missing), "left_out": left_out}


def memory(file: str, key: str) -> int | None:
    """A line of a file in /proc/self, in bytes; None if it cannot be read."""
    try:
        lines = Path("/proc/self", file).read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), None)


def size_of(paths: object) -> int:
    """Bytes of files and folders."""
    named = map(Path, paths if isinstance(paths, list) else [])
    found = (file for path in named for file in (path.rglob("*") if path.is_dir() else [path]))
    return sum(file.stat().st_size for file in found if file.is_file())


# The client's part


class Reply:
    """A response of the server; status 0 if none came, and `text` says why."""

    def __init__(self, status: int, text: str, seconds: float) -> None:
        self.status, self.text, self.seconds = status, text, seconds


class Server:
    """The tested server, on the loopback of this network."""

    def __init__(self, port: int, predict: str, patience: float) -> None:
        self._port, self._predict, self._patience = port, predict, patience

    def get(self, route: str) -> int:
        return self._exchange("GET", route, b"", PROBE_SECONDS).status

    def post(self, body: bytes) -> Reply:
        return self._exchange("POST", self._predict, body, self._patience)

    def post_slowly(self, body: bytes, before_last_byte: Callable[[], None]) -> Reply:
        """POST with a pause before the last byte, so that the request is in flight during it."""
        return self._exchange("POST", self._predict, body, self._patience, before_last_byte)

    def _exchange(
        self, method: str, route: str, body: bytes, patience: float, pause: Callable[[], None] | None = None
    ) -> Reply:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(OUTSIDE, self._port, timeout=patience)
        try:
            self._send(connection, method, route, body, pause)
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            return Reply(response.status, text, time.perf_counter() - started)
        except (OSError, http.client.HTTPException) as error:
            return Reply(0, f"{type(error).__name__}: {error}", time.perf_counter() - started)
        finally:
            connection.close()

    @staticmethod
    def _send(
        connection: http.client.HTTPConnection, method: str, route: str, body: bytes, pause: Callable[[], None] | None
    ) -> None:
        connection.putrequest(method, route)
        connection.putheader("User-Agent", "mlship-smoke")
        connection.putheader("Connection", "close")
        if method == "POST":
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if pause:
            connection.send(body[:-1])
            pause()
        connection.send(body[-1:] if pause else body)


def ask_server(events: Events, options: dict[str, object]) -> None:
    """Wait until the server is ready, call it, and keep a request in flight while the reader sends it SIGTERM."""
    # Pending until waited for: the reader's answer to "stop" must not be lost, nor end this program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    body = Path(str(options["sample"])).read_bytes()
    seconds = float(str(options["startup_seconds"]))
    server = Server(int(str(options["port"])), str(options["predict"]), seconds)
    events.send("hello")
    if not wait_until_ready(server, events, options, seconds):
        events.send("stop", inflight=False)
        return
    answered = answer(events, "first", server.post(body))
    if answered:
        ask_more(server, events, body)
    stop(server, events, body, answered, float(str(options["grace_seconds"])))


def wait_until_ready(server: Server, events: Events, options: dict[str, object], seconds: float) -> bool:
    """Poll both routes and report every change; ready first, so that a server may open both at once."""
    last: dict[str, int] = {}
    until = time.monotonic() + seconds + START_SECONDS
    while time.monotonic() < until:
        for probe in ("ready", "live"):
            status = server.get(str(options[probe]))
            if status != last.get(probe):
                events.send("probe", probe=probe, status=status, at=events.now())
            last[probe] = status
        if 200 <= last["ready"] < 300:
            return True
        time.sleep(POLL_SECONDS)
    return False


def answer(events: Events, what: str, reply: Reply) -> bool:
    """Report a response: its JSON, or its first characters if it is not JSON."""
    try:
        output: list[object] = [json.loads(reply.text)]
    except ValueError:
        output = []
    text = "" if output and reply.status == 200 else reply.text[:TEXT_LIMIT]
    events.send("answer", what=what, status=reply.status, seconds=reply.seconds, output=output, text=text)
    return reply.status == 200


def ask_more(server: Server, events: Events, body: bytes) -> None:
    """Steady latency, malformed requests, and the sample again."""
    until = time.monotonic() + STEADY_SECONDS
    latencies: list[float] = []
    while len(latencies) < WARM_RUNS and time.monotonic() < until:
        latencies.append(server.post(body).seconds)
    events.send("latency", **percentiles(latencies))
    for what, malformed in malformations(body):
        answer(events, what, server.post(malformed))
    answer(events, "after", server.post(body))


def malformations(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Requests that a server for this sample must reject."""
    yield "half", b'{"mlship": [1, 2'
    if isinstance(json.loads(body), dict):
        yield "kind", b'["mlship"]'
        yield "empty", b"{}"
    else:
        yield "kind", b'{"mlship": "malformed"}'


def stop(server: Server, events: Events, body: bytes, inflight: bool, grace: float) -> None:
    """Report that SIGTERM may come now; with `inflight`, while a request lacks its last byte."""
    if not inflight:
        events.send("stop", inflight=False)
        return

    def until_sigterm() -> None:
        time.sleep(SETTLE_SECONDS)  # let the server read the headers
        events.send("stop", inflight=True)
        signal.sigtimedwait({signal.SIGUSR1}, 30)
        time.sleep(min(LINGER_SECONDS, grace / 2))

    answer(events, "inflight", server.post_slowly(body, until_sigterm))


def main(part: str, options: dict[str, object]) -> None:
    {"model": try_model, "client": ask_server}[part](Events(), options)
    leave(0)


if __name__ == "__main__":
    # Line by line, so that the output of user code survives a kill.
    getattr(sys.stdout, "reconfigure", lambda **_: None)(line_buffering=True)
    main(sys.argv[1], json.loads(sys.argv[2]))
