"""Run the model in one thread, on the requests that arrived while it was busy. It never waits for more of them."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from queue import SimpleQueue
from typing import Any

import msgspec

from serving.errors import InvalidRequest, ModelFailed, NotFinite, Refused


class Overloaded(Exception):
    """The queue is full."""


class Job(msgspec.Struct, eq=False):
    """One request in the queue. Jobs with the same key may run together; a job without a key runs alone."""

    payload: object
    key: Hashable | None
    rows: int
    result: "asyncio.Future[object]"


Run = Callable[[Sequence[Any]], Sequence[object]]


class Batcher:
    """A bounded queue, which the thread that calls `work` empties."""

    def __init__(
        self, run: Run, *, max_rows: int, max_queue: int, seconds: float, seen: Callable[[int], object]
    ) -> None:
        self._run, self._max_rows, self._max_queue, self._seconds, self._seen = run, max_rows, max_queue, seconds, seen
        self._queue: SimpleQueue[Job] = SimpleQueue()
        self._next: Job | None = None  # it did not fit
        self.busy_since: float | None = None  # of time.monotonic()

    async def submit(self, payload: object, key: Hashable | None = None, rows: int = 1) -> object:
        """Queue a payload and return the output. Raises Overloaded, InvalidRequest, NotFinite, Refused or ModelFailed."""
        if self._queue.qsize() >= self._max_queue:
            raise Overloaded
        loop = asyncio.get_running_loop()
        job = Job(payload, key, rows, loop.create_future())
        timer = loop.call_later(self._seconds, _expire, job.result)
        self._queue.put(job)
        try:
            return await job.result
        finally:
            timer.cancel()

    def _take(self) -> list[Job]:
        """The first job, and those behind it that fit, without those that are no longer awaited."""
        jobs = [self._next or self._queue.get()]
        self._next = None
        rows = jobs[0].rows
        while jobs[0].key is not None and not self._queue.empty():
            job = self._queue.get()
            rows += job.rows
            if job.key != jobs[0].key or rows > self._max_rows:
                self._next = job
                break
            jobs.append(job)
        return [job for job in jobs if not job.result.done()]

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

        jobs[0].result.get_loop().call_soon_threadsafe(settle)


def _expire(result: "asyncio.Future[object]") -> None:
    if not result.done():
        result.set_exception(Refused(504, "the model took too long"))
