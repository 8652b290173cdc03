"""Send copies of requests to a candidate, another server, and compare the answers. No request ever waits for it."""

import asyncio
import logging
import random
import re
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from serving.candidate import agree, ask, difference, leaves, outputs_of
from serving.handling import ASGIApp, Message, Receive, Send
from serving.settings import ShadowSettings, read
from serving.shadow_log import ShadowLog, memory

GUARD = (b"x-shadow", b"1")  # a request with this header is not copied again
_SENT = (b"content-type", b"x-request-id")  # no credentials
_JSON = (b"content-type", b"application/json")
_REQUEST_BYTES, _ANSWER_BYTES, _QUEUE, _WORKERS, _VALUES, _LOOK_SECONDS = 1 << 20, 1 << 16, 16, 2, 16, 30.0
_PAUSE_SECONDS = 0.01  # callers run first, and at most 200 copies a second are sent
_RATIOS = (0.25, 0.5, 0.8, 1, 1.2, 1.5, 2, 3, 5, 10)
_DIFFERENCES = (0, 1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1, 10)
_V = ("model_version",)
OUTCOMES = Counter("serving_shadow_requests", "Copies: agree, differ, error; or dropped.", (*_V, "outcome"))
DIFFERENCE = Histogram("serving_shadow_difference", "Largest difference of two numbers.", _V, buckets=_DIFFERENCES)
RATIO = Histogram("serving_shadow_latency_ratio", "The candidate's time by ours.", _V, buckets=_RATIOS)
MEMORY = Gauge("serving_shadow_memory_bytes", "The candidate's, by its /metrics.", _V, multiprocess_mode="mostrecent")
_FACTS = re.compile(rb'^process_resident_memory_bytes (\S+)|^serving_ready\{model_version="([^"]*)"', re.MULTILINE)
log = logging.getLogger("serving")


@dataclass
class Copy:
    """A request and our answer; seconds from the last byte of the one to the first of the other."""

    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytearray = field(default_factory=bytearray)
    answer: bytearray = field(default_factory=bytearray)
    seconds: float = field(default_factory=lambda: -time.perf_counter())
    comparable: bool = False


def with_shadow(app: ASGIApp, version: str) -> ASGIApp:
    """The application, with a shadow if SHADOW_URL names a candidate."""
    settings = read(ShadowSettings)
    return Shadow(app, settings, version) if settings.url else app


class Shadow:
    """Answers, then queues a copy. A full queue drops it."""

    def __init__(self, app: ASGIApp, settings: ShadowSettings, version: str) -> None:
        self._app, self._settings, self._version = app, settings, version
        self._url = settings.url.rstrip("/")
        self._log = ShadowLog(settings.file, version, settings.url) if settings.file else None
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(_QUEUE)
        self._tasks: list[asyncio.Task[None]] = []
        self._offered, self._dropped, self._facts = 0, 0, dict[str, Any]()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or GUARD in scope["headers"]:
            return await self._app(scope, receive, send)
        copy = Copy(scope["raw_path"].decode(), [GUARD, *(pair for pair in scope["headers"] if pair[0] in _SENT)])

        async def read() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                copy.seconds = -time.perf_counter()
                if len(copy.body) <= _REQUEST_BYTES:
                    copy.body += message.get("body", b"")
            return message

        async def write(message: Message) -> None:
            if message["type"] == "http.response.start":
                copy.seconds += time.perf_counter()
                copy.comparable = message["status"] == 200 and _JSON in message["headers"]
            elif len(copy.answer) <= _ANSWER_BYTES:
                copy.answer += message.get("body", b"")
            await send(message)

        await self._app(scope, read, write)
        if copy.comparable and random.random() < self._settings.share:
            self._offer(copy)

    def _offer(self, copy: Copy) -> None:
        if not self._tasks:
            work = (self._look(), *(self._work() for _ in range(_WORKERS)))
            self._tasks = [asyncio.create_task(one) for one in work]
        self._offered += 1
        if self._queue.full() or len(copy.body) > _REQUEST_BYTES or len(copy.answer) > _ANSWER_BYTES:
            self._dropped += 1
            OUTCOMES.labels(self._version, "dropped").inc()
        else:
            self._queue.put_nowait(copy)

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                async with asyncio.timeout(self._settings.seconds):
                    answer, seconds = await ask(self._url + copy.path, "POST", copy.headers, copy.body, _ANSWER_BYTES)
                record = self._compare(copy, answer, seconds)
            except Exception as error:  # whatever a candidate does
                record = {"outcome": "error", "error": type(error).__name__}
            OUTCOMES.labels(self._version, record["outcome"]).inc()
            if self._log and random.random() < self._settings.sample:
                counts = {"offered": self._offered, "dropped": self._dropped}
                self._log.write({**counts, **self._facts, "primary_ms": copy.seconds * 1000, **record})

    def _compare(self, copy: Copy, answer: bytes, seconds: float) -> dict[str, Any]:
        ours, other = outputs_of(copy.answer), outputs_of(answer)
        found = difference(ours, other)
        if found is not None:
            DIFFERENCE.labels(self._version).observe(found)
        RATIO.labels(self._version).observe(seconds / copy.seconds)
        settings = self._settings
        return {
            "outcome": "agree" if agree(ours, other, settings.tolerance, settings.agree == "largest") else "differ",
            "candidate_ms": seconds * 1000,
            "difference": found,
            "primary": dict(islice(leaves(ours), _VALUES)),
            "candidate": dict(islice(leaves(other), _VALUES)),
        }

    async def _look(self) -> None:
        """Read the candidate's version, its memory and ours now and then."""
        while True:
            facts: dict[str, Any] = {"primary_bytes": await asyncio.to_thread(memory)}
            try:
                async with asyncio.timeout(self._settings.seconds):
                    page, _ = await ask(f"{self._url}/metrics", "GET", [], b"", _REQUEST_BYTES)
                for used, version in _FACTS.findall(page):
                    facts |= {"candidate_bytes": float(used)} if used else {"candidate_version": version.decode()}
            except Exception as error:
                log.info("the candidate has no metrics", extra={"error": type(error).__name__})
            self._facts = facts
            if facts.get("candidate_bytes"):
                MEMORY.labels(self._version).set(facts["candidate_bytes"])
            await asyncio.sleep(_LOOK_SECONDS)
