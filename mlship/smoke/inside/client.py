"""The client of the smoke test: a text that runs inside the tested image, given to `mlship.smoke.inside.program`.

It calls the server of another container in the same network with the request of `mlship.image.inside.request`, and
reports what it answers. Standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import ModuleType

    from mlship.smoke.inside.program import Events

    class HttpRequest(Protocol):
        """The one of `mlship.image.inside.request`, which is given as a module."""

        @property
        def method(self) -> str: ...
        @property
        def target(self) -> str: ...
        @property
        def headers(self) -> tuple[tuple[str, str], ...]: ...
        @property
        def body(self) -> bytes | None: ...


RUNS = 20
POLL_SECONDS = 0.02
PROBE_SECONDS = 1.0
SETTLE_SECONDS = 0.1
LINGER_SECONDS = 0.5
HELD_SECONDS = 31.0  # longest pause before the last byte
START_SECONDS = 2.0  # the server's container starts later than this one
TEXT_LIMIT = 300  # characters
BODY_LIMIT = 64 << 20  # bytes of an answer
# Loopback, but not localhost: a server that listens on localhost only, out of reach of all others, is found.
OUTSIDE = "127.0.0.2"


class Reply:
    """A response of the server; status 0 if none came complete and in time, and `problem` says why."""

    def __init__(self, status: int, kind: str, body: bytes, seconds: float, problem: str = "") -> None:
        self.status, self.kind, self.body, self.seconds, self.problem = status, kind, body, seconds, problem


class Server:
    """The tested server, on the loopback of this network."""

    def __init__(self, port: int, patience: float, requests: ModuleType) -> None:
        self._port, self._patience, self._requests = port, patience, requests

    def status(self, route: str) -> int:
        """The answer of a health route."""
        return self._exchange(self._requests.HttpRequest("GET", route, (), None), PROBE_SECONDS).status

    def send(self, request: HttpRequest, before_last_byte: Callable[[], None] | None = None) -> Reply:
        """Send a request; with a pause before the last byte of its body, it is in flight during the pause."""
        return self._exchange(request, self._patience + (HELD_SECONDS if before_last_byte else 0), before_last_byte)

    def _exchange(self, request: HttpRequest, seconds: float, pause: Callable[[], None] | None = None) -> Reply:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(OUTSIDE, self._port, timeout=seconds)
        clock = Deadline(seconds)
        try:
            connection.connect()
            clock.start(connection.sock)
            put(connection, request, pause)
            response = connection.getresponse()
            body, problem = content_of(response)
            kind = response.getheader("Content-Type") or ""
            problem = clock.passed or problem
            return Reply(0 if problem else response.status, kind, body, time.perf_counter() - started, problem)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem = clock.passed or f"{type(error).__name__}: {error}"
            return Reply(0, "", b"", time.perf_counter() - started, problem)
        finally:
            clock.stop()
            connection.close()


class Deadline:
    """Ends an exchange as a whole: a socket's own time limit starts again with every byte.

    Attributes:
        passed: what to say if it has passed.
    """

    def __init__(self, seconds: float) -> None:
        self.passed, self._seconds = "", seconds
        self._timer: threading.Timer | None = None

    def start(self, sock: socket.socket) -> None:
        self._timer = threading.Timer(self._seconds, self._end, (sock,))
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _end(self, sock: socket.socket) -> None:
        self.passed = f"no complete answer within {self._seconds:g} s"
        with suppress(OSError):  # it ended in the same moment
            sock.shutdown(2)


def put(connection: http.client.HTTPConnection, request: HttpRequest, pause: Callable[[], None] | None) -> None:
    body = request.body
    connection.putrequest(request.method, request.target)
    given = {"User-Agent": "mlship-smoke", **dict(request.headers), "Connection": "close"}
    if body is not None:
        given["Content-Length"] = str(len(body))
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders()
    if body and pause:
        connection.send(body[:-1])
        pause()
        body = body[-1:]
    if body:
        connection.send(body)


def content_of(response: http.client.HTTPResponse) -> tuple[bytes, str]:
    """The body of a response, and why it is not all of it."""
    parts: list[bytes] = []
    size = 0
    while size <= BODY_LIMIT:
        part = response.read(1 << 20)
        if not part:
            return b"".join(parts), f"{response.length} bytes of the answer are missing" if response.length else ""
        parts.append(part)
        size += len(part)
    return b"", f"the answer has more than {BODY_LIMIT >> 20} MiB"


def ask_server(events: Events, options: dict[str, object], requests: ModuleType, images: ModuleType) -> None:
    """Wait until the server is ready, call it, and keep a request in flight while the reader sends it SIGTERM."""
    # Pending until waited for: the reader's answer to "stop" must not be lost, nor end this program.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    seconds = float(str(options["startup_seconds"]))
    server = Server(int(str(options["port"])), seconds, requests)
    events.send("hello")
    answers, description = Answers(events, options, images), options["request"]
    request = None
    if wait_until_ready(server, events, options, seconds):
        try:
            request = requests.build(description, os.environ)
        except OSError as error:
            answers.report("first", Reply(0, "", b"", 0.0, f"the request cannot be built: {error}"))
    good = request is not None and answers.report("first", server.send(request))
    if request is None or not (good and events.measure(lambda: answers.again(server.send(request)), RUNS)):
        events.send("stop", inflight=False)
        return
    for what, bad in requests.malformed(description, os.environ):
        answers.report(what, server.send(bad))
    answers.report("after", server.send(request))
    stop(server, events, answers, request, float(str(options["grace_seconds"])))


def wait_until_ready(server: Server, events: Events, options: dict[str, object], seconds: float) -> bool:
    """Poll both routes and report every change; ready first, so that a server may open both at once."""
    last: dict[str, int] = {}
    until = time.monotonic() + seconds + START_SECONDS
    while time.monotonic() < until:
        for probe in ("ready", "live"):
            status = server.status(str(options[probe]))
            if status != last.get(probe):
                events.send("probe", probe=probe, status=status, at=events.now())
            last[probe] = status
        if 200 <= last["ready"] < 300:
            return True
        time.sleep(POLL_SECONDS)
    return False


class Answers:
    """Reports responses: what they are, and what they contain of the expected texts."""

    def __init__(self, events: Events, options: dict[str, object], images: ModuleType) -> None:
        self._events, self._images = events, images
        self._status = int(str(options["status"]))
        texts = options["contains"]
        self._contains = [str(text) for text in texts] if isinstance(texts, list) else []

    def report(self, what: str, reply: Reply) -> bool:
        """Report a response; whether it has the expected status."""
        right = reply.status == self._status
        try:
            output: list[object] = [json.loads(reply.body)]
        except (ValueError, RecursionError):
            output = []
        text = reply.problem or reply.body[: 4 * TEXT_LIMIT].decode("utf-8", "replace")[:TEXT_LIMIT]
        picture = self._images.read_image(reply.body) if right and not output else None
        whole = reply.body.decode("utf-8", "replace") if self._contains and right else ""
        self._events.send(
            "answer",
            what=what,
            status=reply.status,
            seconds=reply.seconds,
            output=output,
            text="" if output and right else text,
            type=reply.kind.partition(";")[0].strip().lower()[:100],
            size=len(reply.body),
            image=picture._asdict() if picture else None,
            lacks=[text for text in self._contains if text not in whole] if right else [],
        )
        return right

    def again(self, reply: Reply) -> float | None:
        """The seconds of a later response; None if it has another status, which is reported."""
        return reply.seconds if reply.status == self._status or self.report("again", reply) else None


def stop(server: Server, events: Events, answers: Answers, request: HttpRequest, grace: float) -> None:
    """Report that SIGTERM may come now, while a request lacks its last byte. One without a body cannot be held back."""
    if not request.body:
        events.send("stop", inflight=False)
        return

    def until_sigterm() -> None:
        time.sleep(SETTLE_SECONDS)  # let the server read the headers
        events.send("stop", inflight=True)
        signal.sigtimedwait({signal.SIGUSR1}, 30)
        time.sleep(min(LINGER_SECONDS, grace / 2))

    answers.report("inflight", server.send(request, until_sigterm))
