"""What was observed of an image: the events of both parts and how their containers ended. Values only."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from mlship.engine.base import ExitState, ImageInfo
from mlship.smoke.events import Event, RequestKind, RouteChange, ServerResponse
from mlship.smoke.spec import SmokeSpec

E = TypeVar("E", bound=Event)
Device: TypeAlias = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class ModelRun:
    """The model's part.

    Attributes:
        ended: None where it had to be ended, as it took too long.
        log: last lines that it printed.
    """

    events: tuple[Event, ...]
    ended: ExitState | None
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServeRun:
    """The server's part.

    Attributes:
        start_at: when the server's container had started, on the client's clock (seconds since Hello).
        died: how the server ended before SIGTERM; None where it did not.
        ended: how it ended after SIGTERM; None where it did not within its grace time.
        exit_s: seconds from SIGTERM to its end.
        log: last lines that the server printed, without the requests that it was sent.
    """

    events: tuple[Event, ...]
    start_at: float
    died: ExitState | None
    ended: ExitState | None
    exit_s: float | None
    log: tuple[str, ...] = ()

    def answer(self, what: RequestKind) -> ServerResponse | None:
        return next((event for event in all_of(ServerResponse, self.events) if event.what == what), None)

    def since_start(self, probe: RouteChange) -> float:
        """When a route answered, in seconds since the server's start."""
        return max(0.0, probe.at - self.start_at)


@dataclass(frozen=True)
class Observed:
    """All of it, with what was asked for.

    Attributes:
        serve: None where the server was not started, since the model does not answer.
        device: what the containers were given.
    """

    spec: SmokeSpec
    image: ImageInfo
    model: ModelRun
    serve: ServeRun | None
    device: Device = "cpu"


def all_of(kind: type[E], events: tuple[Event, ...]) -> list[E]:
    """The events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]


def first_of(kind: type[E], events: tuple[Event, ...]) -> E | None:
    """The first event of one kind."""
    return next(iter(all_of(kind, events)), None)
