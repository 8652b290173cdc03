"""How requests are handled: the limits that they pass before the model sees them, and the response to failures."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any, NamedTuple

import msgspec

from serving.batching import Batcher
from serving.errors import ModelFailed, NotFinite, Refused
from serving.metrics import Metrics
from serving.runtime import Runtime
from serving.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = dict[bytes, bytes]

_REQUEST_ID = re.compile(rb"[\w.-]{1,64}")
_PROCESS, _NUMBERS = secrets.token_hex(4).encode(), count()
_CLOSE, _LATER = ((b"connection", b"close"),), ((b"retry-after", b"1"),)
_HEADERS = {408: _CLOSE, 413: _CLOSE, 503: _LATER}
log = logging.getLogger("serving")


class Response(NamedTuple):
    """A response; its length is added."""

    status: int
    body: bytes
    media_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Headers, Receive], Awaitable[Response]]
Infer = Callable[[Batcher, Headers, bytes], Awaitable[Response]]


def as_json(value: object, status: int = 200) -> Response:
    """A response with JSON."""
    return Response(status, msgspec.json.encode(value), headers=_HEADERS.get(status, ()))


def observed(runtime: Runtime, route: str, infer: Infer) -> Handler:
    """Count, time and log the requests of a route, turn errors into responses, and limit how many run at a time."""
    key = "error" if route.startswith("/v2") else "detail"
    settings, metrics = runtime.settings, runtime.metrics

    async def respond(headers: Headers, receive: Receive) -> Response:
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else b"%s%08x" % (_PROCESS, next(_NUMBERS))
        began = time.perf_counter()
        runtime.in_flight += 1
        metrics.in_flight.inc()
        try:
            if runtime.model is None:
                raise Refused(503, "the model is still loading")
            if runtime.in_flight > settings.max_in_flight:
                raise Refused(503, "too many requests at a time")
            response = await infer(runtime.model, headers, await _read_body(settings, headers, receive))
        except Refused as error:
            response = as_json({key: error.message, **({"path": error.path} if error.path else {})}, error.status)
        except asyncio.CancelledError:  # the time to drain is over
            response = as_json({key: "the server is shutting down"}, 503)
        except Exception as error:
            message = _count_failure(metrics, error, request_id.decode())
            response = as_json({key: message, "request_id": request_id.decode()}, 500)
        finally:
            runtime.in_flight -= 1
            metrics.in_flight.dec()
        metrics.request(route, response.status, time.perf_counter() - began, request_id.decode())
        return response._replace(headers=(*response.headers, (b"x-request-id", request_id)))

    return respond


async def _read_body(settings: Settings, headers: Headers, receive: Receive) -> bytes:
    """Read the body within the limits. A length over the limit is refused before the body is read."""
    limit = settings.max_body_bytes
    too_large = Refused(413, f"the body is larger than {limit} bytes")
    if int(headers.get(b"content-length", 0)) > limit:
        raise too_large
    message = await receive()  # the protocol limits the time to the first byte
    body = message.get("body", b"")
    if message.get("more_body"):
        body = bytearray(body)
        try:
            async with asyncio.timeout(settings.body_seconds):
                while message.get("more_body") and len(body) <= limit:
                    message = await receive()
                    body += message.get("body", b"")
        except TimeoutError:
            raise Refused(408, "the body took too long to arrive") from None
    if message["type"] == "http.disconnect":
        raise Refused(499, "the client is gone")  # no one reads it; the status is for logs and metrics
    if len(body) > limit:
        raise too_large
    return bytes(body)


def _count_failure(metrics: Metrics, error: Exception, request_id: str) -> str:
    """Count and log a failure of the model; return what the caller reads."""
    if isinstance(error, NotFinite):
        metrics.not_finite.inc()
        log.error("%s", error, extra={"request_id": request_id})
        return str(error)
    cause = error.args[0] if isinstance(error, ModelFailed) else error
    metrics.model_error(cause)
    log.error("the model failed", exc_info=cause, extra={"request_id": request_id})
    return "the model failed"
