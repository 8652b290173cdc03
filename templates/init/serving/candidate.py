"""Ask a candidate, and compare its answer with ours."""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import h11
import msgspec

_CHUNK = 1 << 16
Headers = Sequence[tuple[bytes, bytes]]
Body = bytes | bytearray


async def ask(url: str, method: str, headers: Headers, body: Body, most: int) -> tuple[bytes, float]:
    """The body of a response with status 200, and the seconds it took without connecting. It has no time limit.

    Raises ConnectionError, OSError or h11.ProtocolError for anything else, and for more than `most` bytes.
    """
    to = urlsplit(url)
    tls = to.scheme == "https"
    assert to.hostname is not None
    reader, writer = await asyncio.open_connection(to.hostname, to.port or (443 if tls else 80), ssl=tls or None)
    try:
        began, answer = time.perf_counter(), bytearray()
        connection = h11.Connection(h11.CLIENT)
        host, length = to.netloc.rpartition("@")[2].encode(), str(len(body)).encode()
        own = [(b"host", host), (b"content-length", length), (b"connection", b"close")]
        for event in (
            h11.Request(method=method, target=to.path, headers=[*own, *headers]),
            h11.Data(data=bytes(body)),
            h11.EndOfMessage(),
        ):
            writer.write(connection.send(event) or b"")
        while not isinstance(received := connection.next_event(), h11.EndOfMessage):
            if received is h11.NEED_DATA:
                connection.receive_data(await reader.read(_CHUNK))
            elif isinstance(received, h11.Response) and received.status_code != 200:
                raise ConnectionError(f"status {received.status_code}")
            elif isinstance(received, h11.Data):
                answer += received.data
                if len(answer) > most:
                    raise ConnectionError(f"more than {most} bytes")
        return bytes(answer), time.perf_counter() - began
    finally:
        writer.transport.abort()  # close would send what a candidate does not read


def outputs_of(answer: Body) -> Any:
    """The outputs of a JSON answer, of `/predict` or of the Open Inference Protocol."""
    return msgspec.json.decode(answer)["outputs"]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything that is neither a list nor an object, with its place, such as `scores[0][2]`."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from leaves(one, f"{path}[{number}]")
    else:
        yield path, value


def difference(ours: Any, other: Any) -> float | None:
    """The largest difference of two numbers; None if numbers are missing, or there are none."""
    first, second = (dict(leaf for leaf in leaves(one) if _is_number(leaf[1])) for one in (ours, other))
    if first.keys() != second.keys():
        return None
    return max((abs(float(value) - float(second[path])) for path, value in first.items()), default=None)


def agree(ours: Any, other: Any, tolerance: float, largest: bool) -> bool:
    """Whether all values are equal, floats within a relative and absolute tolerance.

    If `largest`, lists of floats agree if the largest one is at the same place, as the class with the highest score.
    """
    match ours, other:
        case dict(), dict():
            return ours.keys() == other.keys() and all(
                agree(one, other[name], tolerance, largest) for name, one in ours.items()
            )
        case list(), list():
            if len(ours) != len(other):
                return False
            if largest and len(ours) > 1 and all(type(one) is float for one in (*ours, *other)):
                return ours.index(max(ours)) == other.index(max(other))
            return all(agree(one, two, tolerance, largest) for one, two in zip(ours, other, strict=True))
    if _is_number(ours) and _is_number(other) and float in {type(ours), type(other)}:
        return math.isclose(ours, other, rel_tol=tolerance, abs_tol=tolerance)
    return type(ours) is type(other) and bool(ours == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
