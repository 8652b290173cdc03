"""BuildKit's progress (`--progress=rawjson`) as BuildEvents. Pure.

buildx 0.13 indents each JSON object over several lines, later versions write one object a line; both are read. All
other lines are kept as text.
"""

import base64
import binascii
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ValidationError

from mlship.engine.base import BuildEvent, StepBytes, StepFinished, StepOutput, StepStarted

LAST_LINES = 15


class _Vertex(BaseModel):
    digest: str
    name: str = ""
    started: datetime | None = None
    completed: datetime | None = None
    cached: bool = False
    error: str = ""


class _Transfer(BaseModel):
    id: str
    vertex: str
    current: int = 0
    total: int = 0


class _Log(BaseModel):
    vertex: str
    data: str = ""


class _Status(BaseModel):
    vertexes: tuple[_Vertex, ...] | None = None
    statuses: tuple[_Transfer, ...] | None = None
    logs: tuple[_Log, ...] | None = None


class Progress:
    """Reads the progress of one build, and keeps what explains a failure.

    A step can start and finish more than once: BuildKit resolves a base image, then pulls it.

    Attributes:
        failed: the step whose error stopped the build; None if none has failed.
        text: lines that are not progress, such as the final `ERROR:`.
    """

    def __init__(self) -> None:
        self.failed: StepFinished | None = None
        self.text: deque[str] = deque(maxlen=100)
        self._pending: list[str] = []
        self._seen: set[tuple[str, str, datetime]] = set()
        self._transfers: dict[tuple[str, str], tuple[int, int]] = {}
        self._partial: dict[str, bytes] = defaultdict(bytes)
        self._printed: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=LAST_LINES))

    def last_lines(self, step: str) -> tuple[str, ...]:
        """The last lines that a step printed, including an unfinished one."""
        unfinished = self._partial[step]
        return (*self._printed[step], *((_line(unfinished),) if unfinished else ()))[-LAST_LINES:]

    def feed(self, line: str) -> list[BuildEvent]:
        """The events that this line of buildx's stderr completes."""
        if not self._pending and not line.startswith("{"):
            self.text.append(line)
            return []
        self._pending.append(line)
        whole = line == "}" or (len(self._pending) == 1 and line.endswith("}"))
        return self._object() if whole else []

    def _object(self) -> list[BuildEvent]:
        lines, self._pending = self._pending, []
        try:
            status = _Status.model_validate_json("\n".join(lines))
        except ValidationError:
            self.text.extend(lines)
            return []
        return [*self._logs(status.logs or ()), *self._vertexes(status.vertexes or ()), *self._bytes(status)]

    def _vertexes(self, vertexes: tuple[_Vertex, ...]) -> Iterator[BuildEvent]:
        for vertex in vertexes:
            if vertex.started is None:
                continue
            if self._is_new(vertex.digest, "started", vertex.started):
                yield StepStarted(vertex.digest, vertex.name)
            if vertex.completed is not None and self._is_new(vertex.digest, "completed", vertex.started):
                yield self._finished(vertex, (vertex.completed - vertex.started).total_seconds())

    def _finished(self, vertex: _Vertex, seconds: float) -> StepFinished:
        error = vertex.error or None
        event = StepFinished(vertex.digest, vertex.name, seconds, vertex.cached, error)
        # When a step fails, BuildKit cancels the parallel ones; their errors are not the cause.
        if error and self.failed is None and "context canceled" not in error:
            self.failed = event
        return event

    def _is_new(self, step: str, what: str, started: datetime) -> bool:
        key = (step, what, started)
        new = key not in self._seen
        self._seen.add(key)
        return new

    def _logs(self, logs: tuple[_Log, ...]) -> Iterator[BuildEvent]:
        for log in logs:
            try:
                data = self._partial.pop(log.vertex, b"") + base64.b64decode(log.data)
            except binascii.Error:
                continue
            *lines, rest = data.split(b"\n")
            if rest:
                self._partial[log.vertex] = rest
            for text in map(_line, lines):
                self._printed[log.vertex].append(text)
                yield StepOutput(log.vertex, text)

    def _bytes(self, status: _Status) -> Iterator[BuildEvent]:
        for transfer in status.statuses or ():
            state = (transfer.current, transfer.total)
            key = (transfer.vertex, transfer.id)
            if transfer.current and self._transfers.get(key) != state:
                self._transfers[key] = state
                yield StepBytes(transfer.vertex, transfer.id, *state)


def _line(data: bytes) -> str:
    """One printed line; of a progress bar, only the last state."""
    return data.decode(errors="replace").rstrip("\r").rsplit("\r", 1)[-1]
