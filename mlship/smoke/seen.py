"""What was observed of an image: the events of both parts, folded, and how their containers ended. Values only."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from mlship.engine.base import ExitState, ImageInfo
from mlship.smoke.events import (
    Begin,
    Done,
    Event,
    Failed,
    InstalledCode,
    JitCompiled,
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
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore
from mlship.smoke.spec import Device, SmokeSpec

E = TypeVar("E", bound=Event)


class _First(Generic[E]):
    """The first event of one kind; None if there is none."""

    def __init__(self, kind: type[E]) -> None:
        self._kind = kind

    def __get__(self, run: "ModelRun | ServeRun", _: type) -> E | None:
        return first_of(self._kind, run.events)


@dataclass(frozen=True)
class ModelRun:
    """The model's part.

    Attributes:
        ended: None if it took too long and had to be ended.
        log: last lines that it printed.
    """

    events: tuple[Event, ...]
    ended: ExitState | None
    log: tuple[str, ...] = ()

    begin = _First(Begin)
    warm = _First(Warm)
    latency = _First(Latency)
    output = _First(Output)
    modules = _First(Modules)
    jit = _First(JitCompiled)
    installed_code = _First(InstalledCode)
    memory = _First(MemoryUse)
    gpu_before = _First(GpuBefore)
    gpu_after = _First(GpuAfter)

    def done(self, stage: StageName) -> Done | None:
        return next((event for event in all_of(Done, self.events) if event.stage == stage), None)

    def failed(self, stage: StageName) -> Failed | None:
        return next((event for event in all_of(Failed, self.events) if event.stage == stage), None)


@dataclass(frozen=True)
class ServeRun:
    """The server's part.

    Attributes:
        start_at: when the server's container had started, on the client's clock (seconds since Hello).
        died: how the server ended before SIGTERM; None if it did not.
        ended: how it ended after SIGTERM; None if it did not within its grace period.
        exit_s: seconds from SIGTERM to the end.
        log: last lines that the server printed, without the test's own requests.
    """

    events: tuple[Event, ...]
    start_at: float
    died: ExitState | None
    ended: ExitState | None
    exit_s: float | None
    log: tuple[str, ...] = ()

    latency = _First(Latency)
    stop = _First(Stop)

    def answer(self, what: RequestKind) -> ServerResponse | None:
        return next((event for event in all_of(ServerResponse, self.events) if event.what == what), None)

    def first_ok(self, probe: str) -> RouteChange | None:
        """When a health route first answered 2xx."""
        return next((event for event in self._changes(probe) if 200 <= event.status < 300), None)

    def last_status(self, probe: str) -> int:
        """The last answer of a health route: the one at the moment of readiness, if the server got ready."""
        changes = self._changes(probe)
        return changes[-1].status if changes else 0

    def _changes(self, probe: str) -> list[RouteChange]:
        return [event for event in all_of(RouteChange, self.events) if event.probe == probe]

    def since_start(self, probe: RouteChange) -> float:
        """When a route answered, in seconds since the server started."""
        return max(0.0, probe.at - self.start_at)


@dataclass(frozen=True)
class Observed:
    """Both parts, with what was requested.

    Attributes:
        serve: None if the server was not started, since the model does not answer.
        device: what the containers were given.
        by_any: the model's part under a user that the image does not know; None if it was not run so.
    """

    spec: SmokeSpec
    image: ImageInfo
    model: ModelRun
    serve: ServeRun | None
    device: Device = "cpu"
    by_any: ModelRun | None = None


def all_of(kind: type[E], events: tuple[Event, ...]) -> list[E]:
    """The events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]


def first_of(kind: type[E], events: tuple[Event, ...]) -> E | None:
    return next(iter(all_of(kind, events)), None)
