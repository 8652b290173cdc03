"""What `mlship.smoke.inside.program` reports, line by line, as values. Times in seconds, sizes in bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import Discriminator, JsonValue

from mlship.driver.device_code import DeviceCode
from mlship.smoke.gpu_seen import GpuAfter, GpuBefore
from mlship.versioned import parse_line

StageName: TypeAlias = Literal["import", "load", "warm", "answer", "measure"]
RequestKind: TypeAlias = Literal["first", "again", "half", "kind", "empty", "garbage", "nothing", "after", "inflight"]


@dataclass(frozen=True)
class Begin:
    """The model's part starts, as this user on this Python."""

    uid: int
    python: str
    event: Literal["begin"] = "begin"


@dataclass(frozen=True)
class Done:
    """A stage has ended; the first one without Done or Failed hung or was killed."""

    stage: StageName
    seconds: float
    event: Literal["done"] = "done"


@dataclass(frozen=True)
class Failed:
    """A stage raised.

    Attributes:
        missing: the module that could not be imported.
        file: the path in an OSError.
        lines: last lines of the traceback.
        at: file and line of the last call in code that is no package.
        absent: libraries that the loader does not find, with the file that needs each; the failed module's come first.
    """

    stage: StageName
    type: str
    message: str
    missing: str | None
    file: str | None
    lines: tuple[str, ...]
    at: str | None = None
    absent: Mapping[str, str] = field(default_factory=dict)
    event: Literal["failed"] = "failed"


@dataclass(frozen=True)
class Warm:
    """The model is warm: latency of its first run, and the number of runs."""

    first: float
    runs: int
    event: Literal["warm"] = "warm"


@dataclass(frozen=True)
class Output:
    """The model's answer to the sample; `golden` holds the recorded one, or nothing if the image has none."""

    value: JsonValue
    golden: tuple[JsonValue, ...]
    event: Literal["output"] = "output"


@dataclass(frozen=True)
class Latency:
    p50: float
    p99: float
    runs: int
    event: Literal["latency"] = "latency"


@dataclass(frozen=True)
class MemoryUse:
    """Peak, private dirty memory before and after loading, and bytes of weights; None if unreadable."""

    peak: int | None
    before: int | None
    after: int | None
    weights: int
    event: Literal["memory"] = "memory"


@dataclass(frozen=True)
class Modules:
    """Imported modules of packages without bytecode, and bytes that the build left out of packages."""

    uncompiled: tuple[str, ...]
    left_out: int
    event: Literal["modules"] = "modules"


@dataclass(frozen=True)
class JitCompiled:
    """Functions that numba compiled at this start, the longest time of one, and how many declare a cache."""

    functions: tuple[str, ...]
    seconds: float
    cacheable: int
    event: Literal["jit"] = "jit"


@dataclass(frozen=True)
class PackageCode:
    """An installed distribution with device code.

    Attributes:
        loaded: the model's process has mapped a library with device code.
        code: each different set of its libraries.
    """

    name: str
    version: str
    loaded: bool
    code: tuple[DeviceCode, ...]


@dataclass(frozen=True)
class InstalledCode:
    """All installed distributions with device code; `unread` libraries are unknown."""

    packages: tuple[PackageCode, ...]
    unread: int
    event: Literal["device_code"] = "device_code"


@dataclass(frozen=True)
class Hello:
    """The client has started; its times count from here."""

    event: Literal["hello"] = "hello"


@dataclass(frozen=True)
class RouteChange:
    """The answer of a route has changed; status 0 is no answer."""

    probe: Literal["live", "ready"]
    status: int
    at: float
    event: Literal["probe"] = "probe"


@dataclass(frozen=True)
class ImageSeen:
    """Bytes that were read as an image: format and size in pixels, or the problem with them."""

    format: str
    width: int
    height: int
    problem: str


@dataclass(frozen=True)
class ServerResponse:
    """The server's response to a request.

    Attributes:
        what: the sample ("first", "again" if it failed, "after" malformed requests, "inflight" at SIGTERM), or bad:
            "half" a JSON text, JSON of another "kind", an "empty" object, "garbage" for a file, "nothing" in the body.
        status: 0 is no complete answer, and then `text` says why.
        output: the response's JSON, or nothing if it is not JSON.
        type: content type without parameters; empty if the server names none.
        size: bytes.
        image: what the body is as an image; None if it is JSON.
        lacks: expected texts that it does not contain.
    """

    what: RequestKind
    status: int
    seconds: float
    output: tuple[JsonValue, ...]
    text: str
    type: str = ""
    size: int = 0
    image: ImageSeen | None = None
    lacks: tuple[str, ...] = ()
    event: Literal["answer"] = "answer"


@dataclass(frozen=True)
class Stop:
    """The server may get SIGTERM now, with a request in flight or not."""

    inflight: bool
    event: Literal["stop"] = "stop"


Event: TypeAlias = (
    Begin
    | Done
    | Failed
    | Warm
    | Output
    | Latency
    | MemoryUse
    | Modules
    | JitCompiled
    | InstalledCode
    | Hello
    | RouteChange
    | ServerResponse
    | Stop
    | GpuBefore
    | GpuAfter
)


_EVENT = cast("type[Event]", Annotated[Event, Discriminator("event")])


def parse_event(line: str) -> Event | None:
    """A line of the container's stdout; None if it is not an event."""
    return parse_line(line, _EVENT)
