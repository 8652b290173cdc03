"""The smoke test of an image as it is shipped: containers started, watched and always removed."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlship.engine.base import Engine, ExitState, ImageInfo, RunRequest, started
from mlship.errors import CheckFailed, EngineError, UsageError
from mlship.resources import read_package_file
from mlship.smoke.events import Event, Hello, Output, Stop
from mlship.smoke.gpu_causes import tells
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore
from mlship.smoke.judge.gpu import gpu_names, is_simulated
from mlship.smoke.judge.model import answered
from mlship.smoke.judge.verdict import judge
from mlship.smoke.observed import Device, ModelRun, Observed, ServeRun, first_of
from mlship.smoke.result import SmokeReport
from mlship.smoke.spec import SmokeSpec
from mlship.smoke.tail import Tail

Watch = Callable[[str], None]

_LOG_LINES = 40
_EARLY_LINES = 5
_ENGINE_SECONDS = 15.0  # what the engine itself may take beside what it runs
_SERVER_START_SECONDS = 60.0  # longest time between the client's first word and the server's start
_EXIT_SLACK_SECONDS = 0.5  # the engine's way of telling that a container has ended takes time too
_NOT_STARTED = 127


@dataclass(frozen=True)
class Bench:
    """Where and how an image is tested.

    Attributes:
        watch: is told each step as it begins.
        listen: is given each line that the containers printed, as each ends.
        device: what the model and the server are given; the client needs no GPU.
        env: added to the image's own; for tests of the smoke test only.
    """

    engine: Engine
    image: str
    spec: SmokeSpec
    watch: Watch
    listen: Watch
    device: Device = "cpu"
    env: Mapping[str, str] = field(default_factory=dict)

    def request(self, command: tuple[str, ...] | None, network: str = "none", *, gpu: bool = False) -> RunRequest:
        return RunRequest(self.image, command, network, self.spec.memory, self.env, gpu)

    @property
    def gpu(self) -> bool:
        return self.device == "gpu"


def smoke(  # noqa: PLR0913  the last three are for few
    engine: Engine,
    image: str,
    spec: SmokeSpec,
    watch: Watch,
    *,
    device: Device = "cpu",
    listen: Watch = lambda _line: None,
    env: Mapping[str, str] | None = None,
) -> SmokeReport:
    """Test an image as it is shipped: the model loads, warms and answers; the server starts, serves and stops.

    Args:
        watch: is told each step as it begins.
        device: "gpu" gives the model and the server all GPUs, and proves that the model ran on one.
        listen: is given each line that the containers printed, as each ends.
        env: added to the image's environment; for tests of the smoke test only.

    Raises:
        UsageError: there is no such image.
        EngineError, TransientError: from the engine, which may have no GPU to give.
    """
    info = find_image(engine, image)
    bench = Bench(engine, image, spec, watch, listen, device, env or {})
    model = _run_model(bench)
    serve = _run_server(bench) if answered(model) and info.command else None
    return report_of(image, Observed(spec, info, model, serve, device))


def report_of(image: str, observed: Observed) -> SmokeReport:
    """What was observed, judged. A GPU that says itself that it is simulated is never called one."""
    checks, figures = judge(observed)
    before = first_of(GpuBefore, observed.model.events)
    return SmokeReport(
        image,
        observed.image.id,
        "simulated gpu" if is_simulated(observed) else observed.device,
        checks,
        figures,
        gpu_names(before.nvml) if before else (),
        before.nvml.driver if before else None,
        tuple(event for event in observed.model.events if isinstance(event, GpuBefore | GpuAfter)),
    )


def record_golden(engine: Engine, image: str, spec: SmokeSpec, watch: Watch, *, device: Device = "cpu") -> str:
    """The model's answer to the sample, as the JSON text of a golden file.

    Raises:
        UsageError: there is no such image.
        CheckFailed: the model does not answer, or not with finite numbers.
    """
    info = find_image(engine, image)
    model = _run_model(Bench(engine, image, spec, watch, lambda _line: None, device))
    output = first_of(Output, model.events)
    checks, _ = judge(Observed(spec, info, model, None, device))
    wanted = {"model.import", "model.load", "model.warm", "model.finite"}
    bad = next((check for check in checks if check.id in wanted and check.status == "fail"), None)
    if bad or output is None:
        what = f"{bad.id}: {bad.seen}" if bad else "it gave none"
        raise CheckFailed(f"there is no answer to record: {what}", hint=bad.remedy if bad else "run `mlship smoke`")
    return json.dumps(output.value, indent=1) + "\n"


def find_image(engine: Engine, image: str) -> ImageInfo:
    """A local image.

    Raises:
        UsageError: there is none of that name.
    """
    info = engine.image(image)
    if info is None:
        raise UsageError(
            f"there is no image {image} in this engine",
            hint=f"`docker pull {image}`, or build one with `mlship build`; `docker images` lists what is there",
        )
    return info


def _run_model(bench: Bench) -> ModelRun:
    spec = bench.spec
    bench.watch("loading and warming the model")
    command = inside("model", spec, gpu=bench.gpu)
    try:
        with started(bench.engine, bench.request(command, gpu=bench.gpu)) as container:
            # Twice, as the measurement after the warm-up has the same limit again. The container ends itself
            # sooner, telling where it hung; this is for one that cannot.
            events = tuple(Tail(bench.engine, container).rest(2 * spec.load_seconds + _ENGINE_SECONDS))
            ended = bench.engine.wait(container, 1)
            return ModelRun(events, ended, _last_lines(bench, bench.engine.errors(container).splitlines()))
    except UsageError as error:  # the image exists, so it is the image's own program that cannot be started
        return ModelRun((), ExitState(_NOT_STARTED, out_of_memory=False), (error.message,))


def _run_server(bench: Bench) -> ServeRun:
    """The client first, in a network of its own; then the server beside it. The client outlives the server."""
    bench.watch("starting the server")
    with started(bench.engine, bench.request(inside("client", bench.spec))) as client:
        events = Tail(bench.engine, client)
        hello = _hello(bench, events, client)
        said_at = time.monotonic()
        try:
            with started(bench.engine, bench.request(None, f"container:{client}", gpu=bench.gpu)) as server:
                return _watch_server(bench, events, hello, time.monotonic() - said_at, (client, server))
        except UsageError as error:
            return ServeRun((), 0.0, ExitState(_NOT_STARTED, out_of_memory=False), None, None, (error.message,))


def _watch_server(
    bench: Bench, tail: Tail, hello: tuple[Event, ...], start_at: float, containers: tuple[str, str]
) -> ServeRun:
    """Follow the client until the server may be stopped, or is dead; stop it; hear what became of the last request."""
    client, server = containers
    seen = list(hello)
    died = _follow(bench, tail, seen, server)
    ended, exit_s = (None, None) if died else _stop(bench, client, server)
    if died is None:
        seen += tail.rest(bench.spec.startup_seconds + _ENGINE_SECONDS)
    return ServeRun(tuple(seen), start_at, died, ended, exit_s, _server_log(bench, server))


def _follow(bench: Bench, tail: Tail, seen: list[Event], server: str) -> ExitState | None:
    """Collect events until the client says Stop; how the server ended, if it did."""
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
    """SIGTERM, and word of it to the client, which then sends the rest of its request."""
    bench.watch("stopping the server")
    since = time.monotonic()
    bench.engine.signal(server, "SIGTERM")
    bench.engine.signal(client, "SIGUSR1")
    ended = bench.engine.wait(server, bench.spec.grace_seconds + _EXIT_SLACK_SECONDS)
    return ended, time.monotonic() - since if ended else None


def _server_log(bench: Bench, server: str) -> tuple[str, ...]:
    """The last lines of the server, without the requests that we made.

    A running server is ended for it, since reading stdout waits for the end.
    """
    bench.engine.signal(server, "SIGKILL")
    bench.engine.wait(server, _ENGINE_SECONDS)
    stdout = deque(bench.engine.output(server), maxlen=_LOG_LINES)
    stderr = bench.engine.errors(server).splitlines()
    spec = bench.spec
    ours = tuple(f'"{ask} HTTP' for ask in (f"GET {spec.live}", f"GET {spec.ready}", f"POST {spec.predict}"))
    lines = [line for line in (*stdout, *stderr) if not any(request in line for request in ours)]
    return _last_lines(bench, lines)


def _last_lines(bench: Bench, lines: list[str]) -> tuple[str, ...]:
    """The last lines; before them, what says why a GPU is not used: it is printed when the model loads."""
    for line in lines:
        bench.listen(line)
    said = [line.rstrip() for line in lines if line.strip()]
    early = [line for line in said[:-_LOG_LINES] if bench.gpu and tells(line)]
    return (*early[:_EARLY_LINES], *said[-_LOG_LINES:])


def _hello(bench: Bench, tail: Tail, client: str) -> tuple[Event, ...]:
    """Wait for the client's first word; without a client there is no network to start the server in."""
    for event in tail.rest(_SERVER_START_SECONDS):
        if isinstance(event, Hello):
            return (event,)
    said = bench.engine.errors(client).strip().rpartition("\n")[2]
    raise EngineError(
        f"the client that asks the server could not start beside it ({said or 'it said nothing'})",
        hint="run the same command again; `docker events` in a second terminal shows what the engine does",
    )


def inside(part: str, spec: SmokeSpec, *, gpu: bool = False) -> tuple[str, ...]:
    """The command that runs one part of `mlship.smoke.inside.program` in an image, with nothing mounted."""
    options = {
        "load": spec.load,
        "load_seconds": spec.load_seconds,
        "sample": spec.sample,
        "golden": spec.golden,
        "weights": spec.weights,
        "port": spec.port,
        "live": spec.live,
        "ready": spec.ready,
        "predict": spec.predict,
        "startup_seconds": spec.startup_seconds,
        "grace_seconds": spec.grace_seconds,
    }
    witness = (read_package_file("smoke/inside/gpu.py"),) if gpu else ()
    return ("python", "-c", read_package_file("smoke/inside/program.py"), part, json.dumps(options), *witness)
