"""The events of a correct model, for tests of the judges."""

from dataclasses import replace

from pydantic import JsonValue

from mlship.engine.base import ExitState, ImageInfo
from mlship.smoke.events import (
    Begin,
    Done,
    Event,
    Hello,
    Latency,
    MemoryUse,
    Modules,
    Output,
    RequestKind,
    RouteChange,
    ServerResponse,
    StageName,
    Stop,
    Warm,
)
from mlship.smoke.seen import ModelRun, Observed, ServeRun
from mlship.smoke.spec import SmokeSpec

MIB = 1 << 20


SPEC = SmokeSpec(
    load="app.model:load",
    weights=("weights",),
    sample="sample.json",
    golden="golden.json",
    rtol=1e-3,
    atol=1e-5,
    output_shape=(None, 2),
    port=8080,
    live="/health/live",
    ready="/health/ready",
    predict="/predict",
    startup_seconds=60,
    grace_seconds=10,
    load_seconds=120,
    memory=2048 * MIB,
)


IMAGE = ImageInfo("sha256:1", 1, "linux/amd64", "1001:1001", "/app", ("uvicorn", "app:app"), {}, {})


CODE_0 = ExitState(0, out_of_memory=False)


VALUE: JsonValue = {"scores": [[0.25, 0.75]]}


STAGES: tuple[StageName, ...] = ("import", "load", "warm", "answer", "measure")


def stages(upto: StageName) -> tuple[Event, ...]:
    """All stages before this one are done."""
    before = STAGES[: STAGES.index(upto)]
    return (Begin(1001, "3.11.9"), *(Done(one, 0.5) for one in before))


MODEL = ModelRun(
    (
        *stages("measure"),
        Warm(0.1, 5),
        Output(VALUE, (VALUE,)),
        Latency(0.01, 0.02, 200),
        Done("measure", 2.0),
        Modules((), 12 * MIB),
        MemoryUse(100 * MIB, 20 * MIB, 30 * MIB, 10 * MIB),
    ),
    CODE_0,
)


def answers(**changed: ServerResponse) -> tuple[Event, ...]:
    usual: dict[RequestKind, int] = {"first": 200, "half": 422, "kind": 422, "empty": 422, "after": 200}
    return tuple(changed.get(what, answer(what, status)) for what, status in usual.items())


def answer(what: RequestKind, status: int, seconds: float = 0.02, text: str = "") -> ServerResponse:
    return ServerResponse(what, status, seconds, (VALUE,) if status == 200 else (), text)


def served(*events: Event, **changed: object) -> ServeRun:
    probes = (Hello(), RouteChange("ready", 0, 0.1), RouteChange("live", 200, 1.4), RouteChange("ready", 200, 3.0))
    usual = (*probes, Latency(0.02, 0.03, 20), *answers(), Stop(inflight=True), answer("inflight", 200))
    run = ServeRun(events or usual, start_at=1.0, died=None, ended=CODE_0, exit_s=0.7)
    return replace(run, **changed)  # type: ignore[arg-type]  # tests name fields


SERVE = served()


GOOD = Observed(SPEC, IMAGE, MODEL, SERVE, by_any=MODEL)
