"""The limits that a request passes before the model sees it, and the response to what goes wrong."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from serving.batching import Overloaded
from serving.errors import InvalidRequest, NotFinite, Refused
from serving.runtime import Runtime

Handler = Callable[[Request], Awaitable[Response]]

_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
log = logging.getLogger("serving")


async def read_body(request: Request, runtime: Runtime) -> bytes:
    """Read the body within the limits. A length over the limit is refused before the body is read."""
    limit = runtime.settings.max_body_bytes
    too_large = Refused(413, f"the body is larger than {limit} bytes", Connection="close")
    length = request.headers.get("content-length", "")
    if length and "transfer-encoding" in request.headers:  # a proxy may see the end of the request elsewhere
        raise Refused(400, "the request has both Content-Length and Transfer-Encoding", Connection="close")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(runtime.settings.body_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise Refused(408, "the body took too long to arrive", Connection="close") from None
    return bytes(body)


async def predict(runtime: Runtime, payload: object) -> Any:
    """Run the model within the time limit."""
    try:
        async with asyncio.timeout(runtime.settings.predict_seconds):
            return await runtime.predict(payload)
    except TimeoutError:
        raise Refused(504, "the model took too long") from None


def observed(runtime: Runtime, route: str, handle: Handler) -> Handler:
    """Count, time and log the requests of a route, turn errors into responses, and limit how many run at a time."""

    async def respond(request: Request) -> Response:
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        began = time.perf_counter()
        runtime.in_flight += 1
        runtime.metrics.in_flight.set(runtime.in_flight)
        try:
            if not runtime.loaded:
                raise Refused(503, "the model is still loading", Retry_After="1")
            if runtime.in_flight > runtime.settings.max_in_flight:
                raise Overloaded
            response = await handle(request)
        except (Exception, asyncio.CancelledError) as error:
            response = _failure(runtime, error, request_id, "error" if route.startswith("/v2") else "detail")
        finally:
            runtime.in_flight -= 1
            runtime.metrics.in_flight.set(runtime.in_flight)
        seconds = time.perf_counter() - began
        runtime.metrics.request(route, response.status_code, seconds)
        response.headers["x-request-id"] = request_id
        fields = {"route": route, "status": response.status_code, "ms": round(seconds * 1000, 3)}
        log.info("request", extra={"request_id": request_id, **fields})
        return response

    return respond


def _failure(runtime: Runtime, error: BaseException, request_id: str, key: str) -> Response:
    """The response for an exception. Only the model's own exceptions are logged with a traceback."""
    match error:
        case InvalidRequest():
            return JSONResponse({key: error.message, "path": error.path}, 422)
        case Refused():
            return JSONResponse({key: error.message}, error.status, error.headers)
        case Overloaded():
            return JSONResponse({key: "too many requests at a time"}, 503, {"Retry-After": "1"})
        case asyncio.CancelledError():  # the time to drain is over
            return JSONResponse({key: "the server is shutting down"}, 503)
        case ClientDisconnect():
            return Response(status_code=499)  # no one reads it; the status is for logs and metrics
        case NotFinite():
            runtime.metrics.not_finite.inc()
            log.error("%s", error, extra={"request_id": request_id})
            return JSONResponse({key: str(error), "request_id": request_id}, 500)
    cause = error.__cause__ or error
    runtime.metrics.model_error(cause)
    log.error("the model failed", exc_info=cause, extra={"request_id": request_id})
    return JSONResponse({key: "the model failed", "request_id": request_id}, 500)
