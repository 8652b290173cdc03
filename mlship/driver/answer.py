"""What `mlship.driver.ask` reports, line by line, as one value. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

from pydantic import Discriminator

from mlship.versioned import parse_line

NVML, LIBCUDA = "libnvidia-ml.so.1", "libcuda.so.1"
NVML_INIT = "nvmlInitWithFlags"
DEVICE_COUNT = "nvmlDeviceGetCount_v2"
DEVICE_HANDLE = "nvmlDeviceGetHandleByIndex_v2"
NVML_CUDA_VERSION = "nvmlSystemGetCudaDriverVersion_v2"


@dataclass(frozen=True)
class DriverCall:
    """One answered call.

    Attributes:
        device: index of the GPU; None for a call about no GPU.
        code: of the library; 0 is success.
        value: None if the call failed.
    """

    name: str
    device: int | None
    code: int
    value: str | tuple[int, ...] | None = None
    event: Literal["answer"] = "answer"


@dataclass(frozen=True)
class LoadedLibrary:
    """One library that the program loaded, or could not load: then `error` is the loader's message.

    Attributes:
        path: the file, links followed.
        mounted: a mount put the file there.
        simulated: the library itself says that it is a simulation.
        version: of the driver, if the library contains it and its file name does not.
    """

    name: str
    path: str | None
    mounted: bool | None = None
    simulated: bool = False
    version: str | None = None
    error: str = ""
    event: Literal["library"] = "library"


@dataclass(frozen=True)
class _Pending:
    name: str
    device: int | None
    event: Literal["call"] = "call"


@dataclass(frozen=True)
class _Last:
    event: Literal["refused", "done"]


@dataclass(frozen=True)
class DriverAnswer:
    """Everything that the program reported, and how it ended.

    Attributes:
        pending: name and device of the call during which the program hung or crashed.
        timed_out: the program did not end in time.
        crashed: the signal that ended the program, or its exit code; empty if it ended well.
        silent: the program reported nothing at all.
        refused: the library is no simulation, and only a simulation was to be called.
        stderr: last line of the program's stderr.
    """

    calls: tuple[DriverCall, ...] = ()
    libraries: Mapping[str, LoadedLibrary] = field(default_factory=dict)
    pending: tuple[str, int | None] | None = None
    timed_out: bool = False
    crashed: str = ""
    silent: bool = False
    refused: bool = False
    stderr: str = ""

    def call(self, name: str, device: int | None = None) -> DriverCall | None:
        """One call; None if it was not made or not answered."""
        return next((call for call in self.calls if (call.name, call.device) == (name, device)), None)

    def code(self, name: str, device: int | None = None) -> int | None:
        found = self.call(name, device)
        return None if found is None else found.code

    def text(self, name: str, device: int | None = None) -> str | None:
        found = self.call(name, device)
        return found.value if found is not None and isinstance(found.value, str) else None

    def number(self, name: str, device: int | None = None, place: int = 0) -> int | None:
        """One of the numbers that a call gave."""
        found = self.numbers(name, device)
        return found[place] if len(found) > place else None

    def numbers(self, name: str, device: int | None = None) -> tuple[int, ...]:
        found = self.call(name, device)
        return found.value if found is not None and isinstance(found.value, tuple) else ()

    @property
    def simulated(self) -> bool:
        return any(library.simulated for library in self.libraries.values())

    @property
    def pending_call(self) -> str:
        """Where the program hung or crashed: "nvmlDeviceGetName of GPU 1"; empty if that is unknown."""
        name, device = self.pending or ("", None)
        return name if device is None else f"{name} of GPU {device}"


def read_answer(
    lines: Iterable[str], *, timed_out: bool = False, signal: str | None = None, code: int | None = 0, stderr: str = ""
) -> DriverAnswer:
    """The answer of a program that printed `lines`.

    Args:
        signal: name of the signal that ended the program.
        code: exit code of the program; None if it did not end.
    """
    events = [event for line in lines if (event := parse_line(line, _LINE)) is not None]
    last = events[-1] if events else None
    return DriverAnswer(
        calls=tuple(event for event in events if isinstance(event, DriverCall)),
        libraries={event.name: event for event in events if isinstance(event, LoadedLibrary)},
        pending=(last.name, last.device) if isinstance(last, _Pending) else None,
        timed_out=timed_out,
        crashed="" if timed_out else signal or (f"exit code {code}" if code else ""),
        silent=not events and not timed_out,
        refused=any(isinstance(event, _Last) and event.event == "refused" for event in events),
        stderr="".join(stderr.strip().splitlines()[-1:]).strip()[:300],
    )


_Event = DriverCall | LoadedLibrary | _Pending | _Last


_LINE = cast("type[_Event]", Annotated[_Event, Discriminator("event")])
