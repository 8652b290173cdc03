"""What `mlship.driver.ask` tells, line by line, as one value. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

NvmlEnding: TypeAlias = Literal["ok", "timeout", "crashed", "missing"]

INIT = "nvmlInitWithFlags"
HANDLE = "nvmlDeviceGetHandleByIndex_v2"
CUDA = "nvmlSystemGetCudaDriverVersion_v2"
_NVML, _LIBCUDA = "libnvidia-ml.so.1", "libcuda.so.1"


@dataclass(frozen=True)
class Call:
    """One answered call of NVML.

    Attributes:
        device: index of the GPU it was about; None where it was about none.
        code: NVML's own; 0 is success.
        error: NVML's name of the code; empty for success and for codes without one.
    """

    name: str
    device: int | None
    code: int
    error: str = ""


@dataclass(frozen=True)
class NvmlGpu:
    """One GPU as NVML describes it; None where that call failed, and the code is among the answer's calls.

    Attributes:
        capability: compute capability, such as "8.0".
        memory: bytes.
        uuid: names this very GPU, so it is kept out of what gets committed.
        mig: Multi-Instance GPU is on.
        brand: NVML's number.
        architecture: NVML's number.
    """

    index: int
    name: str | None
    capability: str | None
    memory: int | None
    uuid: str | None
    mig: bool | None
    brand: int | None
    architecture: int | None


@dataclass(frozen=True)
class NvmlAnswer:
    """What NVML says of this host.

    Attributes:
        ended: "missing" is a library that cannot be loaded; "ok" that all was asked, whatever the codes are.
        at: the call that hung or crashed.
        signal: that ended the process, such as SIGABRT.
        detail: the loader's words where it is missing, the last words on stderr where it crashed.
        driver: as NVML prints it, such as 550.54.15.
        nvml: version of the library.
        cuda: what the driver's CUDA library says it can, such as 12040.
        library: file that libnvidia-ml.so.1 is.
        libcuda: file that libcuda.so.1 is; None where there is none.
        simulated: a library that answered says that it is a simulation.
    """

    ended: NvmlEnding
    at: str | None = None
    signal: str | None = None
    detail: str = ""
    driver: str | None = None
    nvml: str | None = None
    cuda: int | None = None
    devices: tuple[NvmlGpu, ...] = ()
    calls: tuple[Call, ...] = ()
    library: str | None = None
    libcuda: str | None = None
    simulated: bool = False

    def call(self, name: str, device: int | None = None) -> Call | None:
        """What a call was answered; None where it was not made or not answered."""
        return next((call for call in self.calls if (call.name, call.device) == (name, device)), None)


@dataclass(frozen=True)
class _Asked:
    name: str
    device: int | None
    event: Literal["call"] = "call"


@dataclass(frozen=True)
class _Answered:
    name: str
    device: int | None
    code: int
    error: str = ""
    value: str | int | bool | None = None
    event: Literal["answer"] = "answer"


@dataclass(frozen=True)
class _Library:
    name: str
    path: str | None
    simulated: bool
    error: str
    event: Literal["library"] = "library"


@dataclass(frozen=True)
class _Done:
    event: Literal["done"] = "done"


_Event: TypeAlias = _Asked | _Answered | _Library | _Done


def read_answer(
    lines: Iterable[str], *, timed_out: bool = False, signal: str | None = None, code: int = 0, stderr: str = ""
) -> NvmlAnswer:
    """The answer of a process that told `lines` and then ended so.

    Args:
        signal: name of the one that ended it, None for none.
        code: its exit code.
    """
    events = [event for line in lines if (event := _parse(line)) is not None]
    answered = [event for event in events if isinstance(event, _Answered)]
    libraries = {event.name: event for event in events if isinstance(event, _Library)}
    nvml, libcuda = libraries.get(_NVML), libraries.get(_LIBCUDA)
    missing = nvml is not None and nvml.path is None and bool(nvml.error)
    ended: NvmlEnding = "timeout" if timed_out else "crashed" if signal or code else "missing" if missing else "ok"
    return NvmlAnswer(
        ended=ended,
        at=_pending(events) if ended in {"timeout", "crashed"} else None,
        signal=signal,
        detail=nvml.error if nvml and missing else _last_line(stderr) if ended == "crashed" else "",
        driver=_text(_value(answered, "nvmlSystemGetDriverVersion")),
        nvml=_text(_value(answered, "nvmlSystemGetNVMLVersion")),
        cuda=_number(_value(answered, CUDA)),
        devices=tuple(_device(answered, index) for index in range(_number(_value(answered, _COUNT)) or 0)),
        calls=tuple(Call(event.name, event.device, event.code, event.error) for event in answered),
        library=nvml.path if nvml else None,
        libcuda=libcuda.path if libcuda else None,
        simulated=any(library.simulated for library in libraries.values()),
    )


_COUNT = "nvmlDeviceGetCount_v2"


def _device(answered: list[_Answered], index: int) -> NvmlGpu:
    mig = _value(answered, "nvmlDeviceGetMigMode", index)
    return NvmlGpu(
        index=index,
        name=_text(_value(answered, "nvmlDeviceGetName", index)),
        capability=_text(_value(answered, "nvmlDeviceGetCudaComputeCapability", index)),
        memory=_number(_value(answered, "nvmlDeviceGetMemoryInfo", index)),
        uuid=_text(_value(answered, "nvmlDeviceGetUUID", index)),
        mig=mig if isinstance(mig, bool) else None,
        brand=_number(_value(answered, "nvmlDeviceGetBrand", index)),
        architecture=_number(_value(answered, "nvmlDeviceGetArchitecture", index)),
    )


def _value(answered: list[_Answered], name: str, device: int | None = None) -> str | int | bool | None:
    return next((event.value for event in answered if (event.name, event.device) == (name, device)), None)


def _text(value: str | int | bool | None) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: str | int | bool | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _pending(events: list[_Event]) -> str | None:
    """The call that was begun last, where nothing came after it."""
    last = events[-1] if events else None
    return last.name if isinstance(last, _Asked) else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _parse(line: str) -> _Event | None:
    """A line of the process's stdout; None where it is not one of ours."""
    try:
        return _adapter().validate_python(json.loads(line))
    except (ValueError, ValidationError, RecursionError):
        return None


@cache
def _adapter() -> TypeAdapter[_Event]:
    return TypeAdapter(Annotated[_Event, Field(discriminator="event")])
