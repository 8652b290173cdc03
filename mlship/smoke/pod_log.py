"""The log of `mlship.smoke.inside.pod`, read into what the judges take. Values only."""

from dataclasses import dataclass, field
from typing import Literal

from mlship.engine.base import ExitState, ImageInfo
from mlship.errors import UsageError
from mlship.smoke.events import Begin, Event, parse_event
from mlship.smoke.remedy import last_lines, without_own_requests
from mlship.smoke.seen import ModelRun, Observed, ServeRun
from mlship.smoke.spec import Device, SmokeSpec
from mlship.versioned import parse_line

PartName = Literal["model", "client", "server", "pod"]


@dataclass(frozen=True)
class LogLine:
    """What a part printed (`out`, `err`), that the server is being stopped, or how a part ended."""

    part: PartName
    out: str | None = None
    err: str | None = None
    stopping: bool = False
    start_at: float | None = None
    died: ExitState | None = None
    ended: ExitState | None = None
    exit_s: float | None = None
    sound: bool | None = None
    image: str = ""

    @property
    def last(self) -> bool:
        """Whether it says how the part ended."""
        return self.out is None and self.err is None and not self.stopping


@dataclass(frozen=True)
class PodLog:
    lines: tuple[LogLine, ...] = field(default=())

    @property
    def complete(self) -> bool:
        return any(line.part == "pod" for line in self.lines)

    def printed(self, part: PartName) -> list[str]:
        """The output of a part that no event is in."""
        return [line.err or line.out or "" for line in self.lines if line.part == part and not line.last]

    def events(self, part: PartName) -> tuple[Event, ...]:
        found = (parse_event(line.out) for line in self.lines if line.part == part and line.out is not None)
        return tuple(event for event in found if event is not None)

    def errors(self, part: PartName) -> list[str]:
        return [line.err for line in self.lines if line.part == part and line.err is not None]

    def all_printed(self) -> tuple[str, ...]:
        """What the tested programs printed."""
        return (*self.errors("model"), *self.printed("server"))

    def end(self, part: PartName) -> LogLine | None:
        return next((line for line in self.lines if line.part == part and line.last), None)

    def has(self, part: PartName) -> bool:
        return any(line.part == part for line in self.lines)

    @property
    def step(self) -> str | None:
        """What the pod is doing, in the words of a local test; None before it does anything."""
        if any(line.stopping for line in self.lines):
            return "stopping the server"
        if self.has("client"):
            return "starting the server"
        loading = any(isinstance(event, Begin) for event in self.events("model"))
        return "loading and warming the model" if loading else None


def read_pod_log(text: str) -> PodLog:
    """Every line that the program in the pod wrote; others are ignored, such as those of a service mesh."""
    return PodLog(tuple(line for line in (parse_line(text, LogLine) for text in text.splitlines()) if line is not None))


def observed_of(
    log: PodLog, spec: SmokeSpec, image: ImageInfo, device: Device, killed: ExitState | None = None
) -> Observed:
    """What the log shows, for the judges.

    Args:
        killed: how the container ended, if that was before the program's own end.

    Raises:
        UsageError: the log ends too early, and nothing says why.
    """
    if not log.complete and killed is None:
        raise UsageError(
            "the log is not complete: the line with the part `pod`, which is the last one, is missing",
            hint="save it after the Job has ended: `kubectl logs job/NAME > smoke.log`",
        )
    gpu = device == "gpu"
    end = log.end("model")
    model = ModelRun(log.events("model"), end.ended if end else killed, last_lines(log.errors("model"), gpu=gpu))
    own_user = image.user.partition(":")[0]
    other_user = model.begin is not None and own_user.isdecimal() and str(model.begin.uid) != own_user
    serve = _serve_run(log, spec, killed, gpu=gpu) if log.has("client") else None
    return Observed(spec, image, model, serve, device, model if other_user else None)


def _serve_run(log: PodLog, spec: SmokeSpec, killed: ExitState | None, *, gpu: bool) -> ServeRun:
    end = log.end("server") or LogLine("server", died=killed)
    lines = last_lines(without_own_requests(log.printed("server"), spec), gpu=gpu)
    return ServeRun(log.events("client"), end.start_at or 0.0, end.died, end.ended, end.exit_s, lines)
