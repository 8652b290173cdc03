"""Run the model in one thread, on the requests that arrived while it was busy. It never waits for more of them."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import InvalidRequest, ModelFailed, NotFinite


class Overloaded(Exception):
    """The queue is full."""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One request in the queue. Jobs with the same key may run together; a job without a key runs alone."""

    payload: object
    key: Hashable | None
    rows: int
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[object]"


Run = Callable[[Sequence[Any]], Sequence[object]]


class Batcher:
    """A bounded queue, which the thread that calls `work` empties."""

    def __init__(self, run: Run, *, max_rows: int, max_queue: int, seen: Callable[[int], object]) -> None:
        self._run, self._max_rows, self._max_queue, self._seen = run, max_rows, max_queue, seen
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self.busy_since: float | None = None  # of time.monotonic()

    async def submit(self, payload: object, key: Hashable | None = None, rows: int = 1) -> object:
        """Queue a payload and return the output. Raises Overloaded, InvalidRequest, NotFinite or ModelFailed."""
        loop = asyncio.get_running_loop()
        job = Job(payload, key, rows, loop, loop.create_future())
        with self._changed:
            if len(self._waiting) >= self._max_queue:
                raise Overloaded
            self._waiting.append(job)
            self._changed.notify()
        return await job.result

    def _take(self) -> list[Job]:
        """The first job, and those behind it that fit."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            jobs = [self._waiting.popleft()]
            rows = jobs[0].rows
            while self._waiting and jobs[0].key is not None and self._waiting[0].key == jobs[0].key:
                rows += self._waiting[0].rows
                if rows > self._max_rows:
                    break
                jobs.append(self._waiting.popleft())
        return [job for job in jobs if not job.result.cancelled()]

    def work(self) -> None:
        """Run the model on what is queued, forever."""
        while True:
            jobs = self._take()
            if jobs:
                self._seen(sum(job.rows for job in jobs))
                self.busy_since = time.monotonic()
                self._settle(jobs, self._outcomes(jobs))
                self.busy_since = None

    def _outcomes(self, jobs: Sequence[Job]) -> Sequence[object]:
        """An output or an exception for each job. If a batch fails, each job runs alone, so one bad row fails alone."""
        try:
            outputs = self._run([job.payload for job in jobs])
            if len(outputs) == len(jobs):
                return outputs
            raise RuntimeError(f"the model returned {len(outputs)} outputs for {len(jobs)} requests")
        except (InvalidRequest, NotFinite) as error:
            failure: Exception = error
        except BaseException as error:  # SystemExit, too, which would end only this thread
            failure = ModelFailed()
            failure.__cause__ = error
        if len(jobs) == 1:
            return [failure]
        return [outcome for job in jobs for outcome in self._outcomes([job])]

    @staticmethod
    def _settle(jobs: Sequence[Job], outcomes: Sequence[object]) -> None:
        def settle() -> None:
            for job, outcome in zip(jobs, outcomes, strict=True):
                if job.result.done():  # the client is gone, or the time limit passed
                    continue
                if isinstance(outcome, Exception):
                    job.result.set_exception(outcome)
                else:
                    job.result.set_result(outcome)

        jobs[0].loop.call_soon_threadsafe(settle)
