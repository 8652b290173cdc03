"""Samples from a Prometheus server, over its HTTP API.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import base64
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import unquote, urlencode, urlsplit

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from mlship.background import in_background
from mlship.errors import MlshipError, TransientError, UsageError
from mlship.redact import redact
from mlship.versioned import adapter, first_error

if TYPE_CHECKING:
    from urllib.request import Request

_REACH = "check the address, and that this machine reaches the server; then run the same command again"
_SECONDS = 30.0  # for one answer, from the connection to the last byte
_MOST_BYTES = 64 << 20
_BEFORE = 300  # seconds before the window, in which a counter has its first value: Prometheus's lookback
_CHECK = "check the address and the labels with `curl {url}/api/v1/query?query=up`"


@dataclass(frozen=True)
class Series:
    """A metric of one target: seconds since 1970, and the value then, in order."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scraped:
    """Metrics by name, and the start of the window: samples before it only say where counters began."""

    start: float
    metrics: Mapping[str, Sequence[Series]]


class _Row(BaseModel):
    metric: dict[str, str]
    values: list[tuple[float, FiniteFloat]]


class _Matrix(BaseModel):
    kind: Literal["matrix"] = Field(alias="resultType")
    result: list[_Row]


class _Scalar(BaseModel):
    kind: Literal["scalar"] = Field(alias="resultType")
    result: tuple[float, str]


class _Refusal(BaseModel):
    error: str


class _Answer(BaseModel):
    status: Literal["success"]
    data: Annotated[_Matrix | _Scalar, Field(discriminator="kind")]


def scraped(url: str, names: Sequence[str], labels: str, hours: float) -> Scraped:
    """The metrics of these names in the last hours.

    Args:
        url: of the server, with a user and a password if it needs them.
        labels: matchers that the series must fit, such as `job="wine"`; empty for all.

    Raises:
        UsageError: the address or the labels are wrong, or no Prometheus answers there.
        TransientError: it does not answer in time, or reports a failure of its own.
    """
    now = _ask(url, "time()").result
    if not isinstance(now, tuple):
        raise _no_prometheus(url, "its time is no number")
    seconds = math.ceil(hours * 3600)
    ranges = {name: f"{name}{{{labels}}}[{seconds + _BEFORE}s]" for name in names}
    found = {name: _series(url, _ask(url, query, now[0]).result) for name, query in ranges.items()}
    return Scraped(now[0] - seconds, found)


def _series(url: str, rows: "list[_Row] | tuple[float, str]") -> list[Series]:
    if isinstance(rows, tuple):
        raise _no_prometheus(url, "a range is no matrix")
    return [Series(row.metric, sorted(row.values)) for row in rows]


def _ask(url: str, query: str, time: float | None = None) -> "_Matrix | _Scalar":
    """The answer to a query. A thread asks: a server that sends a byte now and then has no time limit of its own."""
    from http.client import HTTPException

    request = _request(url, {"query": query, **({} if time is None else {"time": f"{time:.3f}"})})
    answer = in_background(lambda: _read(request))
    if not wait((answer,), _SECONDS).done:
        raise TransientError(
            f"{redact(url)} did not answer within {_SECONDS:.0f} s", hint="try again, or ask for fewer hours"
        )
    try:
        status, body = answer.result()
    except (OSError, ValueError, HTTPException) as error:
        raise TransientError(f"cannot ask {redact(url)}: {getattr(error, 'reason', error)}", hint=_REACH) from error
    return _parsed(url, status, body)


def _request(url: str, values: Mapping[str, str]) -> "Request":
    from urllib.request import Request

    wrong = UsageError(
        f"`{redact(url)}` is no address of a Prometheus server", hint="pass one such as http://prometheus:9090"
    )
    try:
        parts = urlsplit(url)
        valid = parts.hostname and parts.port != 0 and parts.scheme in {"http", "https"}
    except ValueError:
        raise wrong from None
    if not valid:
        raise wrong
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/api/v1/query"
    headers = {"Accept": "application/json"}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return Request(address, urlencode(values).encode(), headers)  # noqa: S310  the scheme is checked above


def _read(request: "Request") -> tuple[int, bytes]:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310  see _request
            return answer.status, answer.read(_MOST_BYTES + 1)
    except HTTPError as error:
        with error:
            return error.code, error.read(1 << 16)


def _parsed(url: str, status: int, body: bytes) -> "_Matrix | _Scalar":
    if len(body) > _MOST_BYTES:
        raise UsageError(
            f"{redact(url)} answers with more than {_MOST_BYTES >> 20} MiB",
            hint="ask for fewer hours, or narrow the series with `--match`",
        )
    if status != 200:
        raise _refused(url, status, body)
    try:
        return adapter(_Answer).validate_json(body).data
    except ValidationError as error:
        raise _no_prometheus(url, first_error(error)) from None


def _refused(url: str, status: int, body: bytes) -> MlshipError:
    try:
        why = f": {adapter(_Refusal).validate_json(body).error[:300]}"
    except ValidationError:
        why = ""
    message = f"{redact(url)} answers with status {status}{redact(why)}"
    if status == 429 or status >= 500:
        return TransientError(message, hint="try again, or ask for fewer hours")
    return UsageError(message, hint=_CHECK.format(url=redact(url)))


def _no_prometheus(url: str, why: str) -> UsageError:
    return UsageError(f"{redact(url)} does not answer like Prometheus: {why}", hint=_CHECK.format(url=redact(url)))
