"""A container's events as they come, with the time limit that reading the engine directly does not have."""

import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Thread

from mlship.engine.base import Engine
from mlship.errors import MlshipError
from mlship.smoke.events import Event, parse_event


class Tail:
    """Reads in a thread of its own, which ends with the container.

    Attributes:
        ended: the container has said all that it will say.
    """

    def __init__(self, engine: Engine, container: str) -> None:
        self.ended = False
        self._queue: SimpleQueue[Event | MlshipError | None] = SimpleQueue()
        Thread(target=self._read, args=(engine, container), daemon=True).start()

    def next(self, seconds: float) -> Event | None:
        """The next event; None where none comes in time, or none will come.

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
        """What comes until the container ends, or the time is over."""
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
