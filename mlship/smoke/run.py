"""Runs the smoke test of an image as shipped: containers are started, watched and always removed."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Thread

from mlship.engine.base import KILLED, Engine, ExitState, ImageInfo, RunRequest, started
from mlship.errors import CheckFailed, EngineError, MlshipError, UsageError
from mlship.frameworks import silent_modules
from mlship.project.testing import hider
from mlship.resources import read_package_file
from mlship.smoke.events import Event, Hello, Stop, parse_event
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore
from mlship.smoke.judge.gpu import gpu_names, is_simulated
from mlship.smoke.judge.verdict import judge
from mlship.smoke.remedy import LOG_LINES, last_lines, without_own_requests
from mlship.smoke.result import SmokeReport
from mlship.smoke.seen import ModelRun, Observed, ServeRun
from mlship.smoke.spec import Device, SmokeSpec

Watch = Callable[[str], None]

_ENGINE_SECONDS = 15.0  # overhead of the engine itself
_SERVER_START_SECONDS = 60.0  # longest time between the client's first line and the server's start
_EXIT_SLACK_SECONDS = 0.5  # the engine takes time to report that a container has ended
_NOT_STARTED = 127
_ANY_USER = "1000760000:0"  # as OpenShift chooses them: a high number that no image knows, in root's group


@dataclass(frozen=True)
class Bench:
    """Where and how an image is tested.

    Attributes:
        watch: called with each step as it starts.
        listen: called with each line that a container printed, once the container has ended.
        device: "gpu" gives the model and the server all GPUs, and proves that the model ran on one.
        env: added to the image's environment: the values of `smoke.env`, which no report shows.
    """

    engine: Engine
    image: str
    spec: SmokeSpec
    watch: Watch
    listen: Watch = lambda _line: None
    device: Device = "cpu"
    env: Mapping[str, str] = field(default_factory=dict)

    def request(
        self, command: tuple[str, ...] | None, network: str = "none", *, gpu: bool = False, user: str | None = None
    ) -> RunRequest:
        return RunRequest(self.image, command, network, self.spec.memory, self.env, gpu, self.spec.shm, user)

    @property
    def gpu(self) -> bool:
        return self.device == "gpu"


class _Tail:
    """A container's events as they come, with the time limit that reading from the engine lacks.

    Attributes:
        ended: the container will print no more.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        self.ended = False
        self._queue: SimpleQueue[Event | MlshipError | None] = SimpleQueue()
        Thread(target=self._read, args=(engine, container), daemon=True).start()

    def next(self, seconds: float) -> Event | None:
        """The next event; None if none comes in time.

        Raises:
            EngineError, TransientError: from the engine.
        """
        if self.ended:
            return None
        try:
            item = self._queue.get(timeout=max(0.0, seconds))
        except Empty:
            return None
        if isinstance(item, MlshipError):
            raise item
        self.ended = item is None
        return item

    def rest(self, seconds: float) -> Iterator[Event]:
        """The events until the container ends, or the time is over."""
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            event = self.next(until - time.monotonic())
            if event is not None:
                yield event

    def _read(self, engine: Engine, container: str) -> None:
        try:
            for line in engine.output(container):
                event = parse_event(line)
                if event is not None:
                    self._queue.put(event)
            self._queue.put(None)
        except MlshipError as error:
            self._queue.put(error)


def smoke(bench: Bench) -> SmokeReport:
    """Test an image as shipped: the model loads, warms and answers; the server starts, serves and stops.

    Raises:
        UsageError: there is no such image.
        EngineError, TransientError: from the engine, which may have no GPU.
    """
    info, spec = find_image(bench.engine, bench.image), bench.spec
    model, by_any = _run_as_any_user(bench, info) if spec.load else (ModelRun((), None), None)
    testable = model.output or spec.load is None
    serve = _run_server(bench) if testable and info.command else None
    report = report_of(bench.image, Observed(spec, info, model, serve, bench.device, by_any))
    hide = hider(bench.env)
    checks = (replace(check, seen=hide(check.seen), remedy=hide(check.remedy)) for check in report.checks)
    return replace(report, checks=tuple(checks))


def report_of(image: str, observed: Observed) -> SmokeReport:
    """Judge what was observed. A simulated GPU is never called a GPU."""
    checks, figures = judge(observed)
    before = observed.model.gpu_before
    return SmokeReport(
        image,
        observed.image.id,
        "simulated gpu" if is_simulated(observed) else observed.device,
        checks,
        figures,
        gpu_names(before.nvml) if before else (),
        before.nvml.driver if before else None,
        tuple(event for event in observed.model.events if isinstance(event, GpuBefore | GpuAfter)),
        observed.model.installed_code,
    )


def record_golden(bench: Bench) -> str:
    """The model's answer to the sample, as the JSON text of a golden file.

    Raises:
        UsageError: there is no such image.
        CheckFailed: the model does not answer with finite numbers.
    """
    info, spec = find_image(bench.engine, bench.image), bench.spec
    if spec.load is None:
        raise UsageError(
            "nothing to record: the image's smoke test has no `model.load`",
            hint="set `model.load` in mlship.yaml, or check the server's answer by `smoke.request.expect`",
        )
    bench.watch("loading and warming the model")
    model = _run_model(bench)
    output = model.output
    checks, _ = judge(Observed(spec, info, model, None, bench.device))
    wanted = {"model.import", "model.load", "model.warm", "model.finite"}
    bad = next((check for check in checks if check.id in wanted and check.status == "fail"), None)
    if bad or output is None:
        what = f"{bad.id}: {bad.seen}" if bad else "the model returned no answer"
        raise CheckFailed(f"nothing to record: {what}", hint=bad.remedy if bad else "run `mlship smoke`")
    return json.dumps(output.value, indent=1) + "\n"


def find_image(engine: Engine, image: str) -> ImageInfo:
    """A local image.

    Raises:
        UsageError: there is no such image.
    """
    info = engine.image(image) if image.strip("./") else None  # `.` and `/` are other questions to the engine
    if info is None:
        raise UsageError(
            f"no image `{image}` in this engine",
            hint=f"`docker pull {image}`, or build one with `mlship build`; `docker images` lists the local images",
        )
    return info


def _run_as_any_user(bench: Bench, info: ImageInfo) -> tuple[ModelRun, ModelRun | None]:
    """The model's part, and the same under a user that the image does not know.

    If it answers there, one run is enough: the server runs as the image's own user. Otherwise a second run shows
    whether the user is the cause.
    """
    bench.watch("loading and warming the model")
    name = info.user.partition(":")[0]
    if not name.isdecimal() or name == "0":
        return _run_model(bench), None
    by_any = _run_model(bench, _ANY_USER)
    if by_any.output is not None or by_any.ended is None or by_any.ended.code == KILLED:
        return by_any, by_any
    bench.watch("loading the model again as the image's own user")
    return _run_model(bench), by_any


def _run_model(bench: Bench, user: str | None = None) -> ModelRun:
    spec = bench.spec
    command = inside("model", spec, gpu=bench.gpu)
    try:
        with started(bench.engine, bench.request(command, gpu=bench.gpu, user=user)) as container:
            # Twice, since the measurement after the warm-up has the same limit again. The container ends itself
            # sooner and prints where it hung; this limit is for one that cannot.
            events = tuple(_Tail(bench.engine, container).rest(2 * spec.load_seconds + _ENGINE_SECONDS))
            ended = bench.engine.wait(container, 1)
            return ModelRun(events, ended, _heard(bench, bench.engine.errors(container).splitlines()))
    except UsageError as error:  # the image exists, so its own program cannot be started
        return ModelRun((), ExitState(_NOT_STARTED, out_of_memory=False), (error.message,))


def _run_server(bench: Bench) -> ServeRun:
    """Start the client in a network of its own, then the server in the same one. The client outlives the server."""
    bench.watch("starting the server")
    with started(bench.engine, bench.request(inside("client", bench.spec))) as client:
        events = _Tail(bench.engine, client)
        hello = _hello(bench, events, client)
        said_at = time.monotonic()
        try:
            with started(bench.engine, bench.request(None, f"container:{client}", gpu=bench.gpu)) as server:
                return _watch_server(bench, events, hello, time.monotonic() - said_at, (client, server))
        except UsageError as error:
            return ServeRun((), 0.0, ExitState(_NOT_STARTED, out_of_memory=False), None, None, (error.message,))


def _watch_server(
    bench: Bench, tail: _Tail, hello: tuple[Event, ...], start_at: float, containers: tuple[str, str]
) -> ServeRun:
    """Follow the client until the server may be stopped, or has died; stop it; see what became of the last request."""
    client, server = containers
    seen = list(hello)
    died = _follow(bench, tail, seen, server)
    ended, exit_s = (None, None) if died else _stop(bench, client, server)
    if died is None:
        seen += tail.rest(bench.spec.startup_seconds + _ENGINE_SECONDS)
    return ServeRun(tuple(seen), start_at, died, ended, exit_s, _server_log(bench, server))


def _follow(bench: Bench, tail: _Tail, seen: list[Event], server: str) -> ExitState | None:
    """Collect events until the client sends Stop; returns how the server ended, if it did."""
    until = time.monotonic() + 3 * bench.spec.startup_seconds + _ENGINE_SECONDS
    while not tail.ended and time.monotonic() < until:
        event = tail.next(0.2)
        if event is not None:
            seen.append(event)
        if isinstance(event, Stop):
            break
        if event is None and (state := bench.engine.wait(server, 0)):
            return state
    return bench.engine.wait(server, 0)


def _stop(bench: Bench, client: str, server: str) -> tuple[ExitState | None, float | None]:
    """Send SIGTERM and notify the client, which then sends the rest of its request."""
    bench.watch("stopping the server")
    since = time.monotonic()
    bench.engine.signal(server, "SIGTERM")
    bench.engine.signal(client, "SIGUSR1")
    ended = bench.engine.wait(server, bench.spec.grace_seconds + _EXIT_SLACK_SECONDS)
    return ended, time.monotonic() - since if ended else None


def _server_log(bench: Bench, server: str) -> tuple[str, ...]:
    """The last lines of the server, without the test's own requests.

    A running server is killed first, since reading stdout waits for the end.
    """
    bench.engine.signal(server, "SIGKILL")
    bench.engine.wait(server, _ENGINE_SECONDS)
    stdout = deque(bench.engine.output(server), maxlen=LOG_LINES)
    stderr = bench.engine.errors(server).splitlines()
    return _heard(bench, without_own_requests((*stdout, *stderr), bench.spec))


def _heard(bench: Bench, lines: list[str]) -> tuple[str, ...]:
    """Pass the lines to who listens, and return the last ones."""
    hide = hider(bench.env)
    for line in lines:
        bench.listen(hide(line))
    return last_lines(lines, gpu=bench.gpu)


def _hello(bench: Bench, tail: _Tail, client: str) -> tuple[Event, ...]:
    """Wait for the client's first line; without a client there is no network to start the server in."""
    for event in tail.rest(_SERVER_START_SECONDS):
        if isinstance(event, Hello):
            return (event,)
    printed = bench.engine.errors(client).strip().rpartition("\n")[2]
    raise EngineError(
        f"the container that tests the server did not start ({hider(bench.env)(printed) or 'no output'})",
        hint="run the same command again; `docker events` in a second terminal shows the engine's events",
    )


def inside(part: str, spec: SmokeSpec, *, gpu: bool = False) -> tuple[str, ...]:
    """The command that runs one part of `mlship.smoke.inside.program` in an image, with nothing mounted."""
    if part == "model":
        options: dict[str, object] = {
            "load": spec.load,
            "load_seconds": spec.load_seconds,
            "sample": spec.sample,
            "golden": spec.golden,
            "weights": spec.weights,
        }
        programs = ["driver/device_code.py"] if gpu or spec.gpu else []
        if gpu:
            options["silent"] = silent_modules()
            programs += ["smoke/inside/gpu.py", "driver/ask.py"]
    else:
        options = {
            "request": asdict(spec.asked),
            "status": spec.asked.status,
            "contains": spec.asked.contains,
            "port": spec.port,
            "live": spec.live,
            "ready": spec.ready,
            "startup_seconds": spec.startup_seconds,
            "grace_seconds": spec.grace_seconds,
        }
        programs = ["smoke/inside/client.py", "image/inside/request.py", "smoke/inside/images.py"]
    return (
        "python",
        "-c",
        read_package_file("smoke/inside/program.py"),
        part,
        json.dumps(options),
        *map(read_package_file, programs),
    )
