"""Calls NVML or the CUDA driver API in a process of its own, since a broken driver hangs or kills its caller.

    ask.py nvml|cuda [--brief] [--no-libcuda] [--simulated-only] [--all-devices] [--runtime] [SONAME...]

--brief           only what host profiles and smoke tests need: no health of GPUs, no CUDA context
--no-libcuda      skip the call of NVML that loads libcuda
--simulated-only  call the library only if it is a simulation
--all-devices     unset CUDA_VISIBLE_DEVICES
--runtime         call the CUDA runtime too
SONAME            load this library too, to see which file it is

It prints JSON lines, each at once (see `mlship.driver.answer`), and names each call before making it, so that the
reader knows where a hang or an abort happened. Every return code is reported unchanged. It judges nothing.

It also runs by `python -c` in containers: standard library only, valid for Python 3.8.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Value: TypeAlias = str | list[int] | None

NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
SIMULATED = "mlship_simulated_gpu"
NO_SUCH_FUNCTION = {NVML: 13, CUDA: 500}
CC_MAJOR, CC_MINOR = 75, 76
# Names of other files of the same driver, which its libcuda contains.
VERSION = re.compile(rb"(?:nvidia-application-profiles-|libnvidia-pkcs11\.so\.)(\d{3,}\.\d+(?:\.\d+)?)")
INSUFFICIENT_SIZE = 7
MOST_PROCESSES = 1024
NOT_AVAILABLE = 2**64 - 1
U32, U64, POINTER = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_void_p


class Function(Protocol):
    def __call__(self, *given: object) -> int: ...


class Shape(Protocol):
    """Calls a function with its arguments and room for the answer; returns the code and the answer."""

    def __call__(self, function: Function, *given: object) -> tuple[int, Value]: ...


class NvmlProcess(ctypes.Structure):
    """nvmlProcessInfo_t, versions 2 and 3."""

    _fields_ = (("pid", U32), ("memory", U64), ("gpu_instance", U32), ("compute_instance", U32))


class LibraryCalls:
    """Calls one library and reports every return code."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self.library: ctypes.CDLL | None = None
        self._name = ""

    def send(self, event: str, **fields: object) -> None:
        self._write(json.dumps(dict(fields, event=event)) + "\n")

    def load(self, name: str) -> bool:
        """Load a library as every program does, and report its file; False if that fails."""
        self.send("call", name="dlopen " + name, device=None)
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            self.send("library", name=name, path=None, error=str(error))
            return False
        self.library, self._name = library, name
        path = file_of(library, name)
        found = {"mounted": is_mounted(path), "simulated": self.simulated, "version": version_in(path)}
        self.send("library", name=name, path=path, **found)
        return True

    @property
    def simulated(self) -> bool:
        return hasattr(self.library, SIMULATED)

    def ask(self, name: str, shape: Shape, *given: object, device: int | None = None, label: str = "") -> Value:
        """Make one call; None if it failed.

        Args:
            shape: calls the function with `given` and room for its answer.
            label: reported instead of the name.
        """
        self.send("call", name=name, device=device)
        try:
            function = getattr(self.library, name)
        except AttributeError:
            code, value = NO_SUCH_FUNCTION.get(self._name, -1), None
        else:
            code, value = shape(function, *given)
        value = value if code == 0 else None
        self.send("answer", name=label or name, device=device, code=code, value=value)
        return value


def main(arguments: list[str], write: Callable[[str], object]) -> None:
    calls = LibraryCalls(write)
    if "--all-devices" in arguments:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    program, library = {"nvml": (nvml, NVML), "cuda": (cuda, CUDA)}[arguments[0]]
    if calls.load(library):
        if "--simulated-only" in arguments and not calls.simulated:
            calls.send("refused")
            return
        program(calls, arguments)
    # The newest runtime that the loader finds.
    if "--runtime" in arguments and any(calls.load(name) for name in RUNTIMES):
        calls.ask("cudaGetDeviceCount", numbers(ctypes.c_int))
    for name in arguments[1:]:
        if not name.startswith("-"):
            calls.load(name)
    calls.send("done")


def nvml(calls: LibraryCalls, arguments: list[str]) -> None:
    started = calls.ask("nvmlInitWithFlags", numbers(), 0)
    calls.ask("nvmlSystemGetNVMLVersion", text())  # also without a driver
    if started is None:
        return
    calls.ask("nvmlSystemGetDriverVersion", text())
    count = calls.ask("nvmlDeviceGetCount_v2", numbers(U32))
    for index in range(first(count)):
        handle = calls.ask("nvmlDeviceGetHandleByIndex_v2", numbers(POINTER), index, device=index)
        if handle is not None:
            gpu = POINTER(first(handle))
            nvml_device(calls, gpu, index)
            if "--brief" not in arguments:
                nvml_health(calls, gpu, index)
    # Last: it loads libcuda, the first that the loader finds, which may be broken.
    if "--no-libcuda" not in arguments:
        calls.ask("nvmlSystemGetCudaDriverVersion_v2", numbers(ctypes.c_int))


def nvml_device(calls: LibraryCalls, gpu: ctypes.c_void_p, index: int) -> None:
    """What a GPU is, and what runs on it."""
    for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"):
        calls.ask(name, text(), gpu, device=index)
    calls.ask("nvmlDeviceGetCudaComputeCapability", numbers(U32, U32), gpu, device=index)
    calls.ask("nvmlDeviceGetMemoryInfo", numbers(U64 * 3), gpu, device=index)
    mig = calls.ask("nvmlDeviceGetMigMode", numbers(U32, U32), gpu, device=index)
    version = "3" if hasattr(calls.library, "nvmlDeviceGetComputeRunningProcesses_v3") else "2"
    calls.ask("nvmlDeviceGetComputeRunningProcesses_v" + version, processes, gpu, device=index)
    if first(mig):
        mig_instances(calls, gpu, index)


def nvml_health(calls: LibraryCalls, gpu: ctypes.c_void_p, index: int) -> None:
    """Modes, errors and licence of a GPU."""
    for name, shape in (
        ("nvmlDeviceGetPciInfo_v3", room(256, lambda data: text_in(data[36:68]))),
        ("nvmlDeviceGetMinorNumber", numbers(U32)),
        ("nvmlDeviceGetBrand", numbers(U32)),
        ("nvmlDeviceGetArchitecture", numbers(U32)),
        ("nvmlDeviceGetPersistenceMode", numbers(U32)),
        ("nvmlDeviceGetComputeMode", numbers(U32)),
        ("nvmlDeviceGetEccMode", numbers(U32, U32)),
        ("nvmlDeviceGetRemappedRows", numbers(U32, U32, U32, U32)),
        ("nvmlDeviceGetRetiredPagesPendingStatus", numbers(U32)),
    ):
        calls.ask(name, shape, gpu, device=index)
    uncorrected, since_loaded = 1, 0
    calls.ask("nvmlDeviceGetTotalEccErrors", numbers(U64), gpu, uncorrected, since_loaded, device=index)
    # State and status; the structure of later drivers starts with its size and version.
    later = room(256, lambda data: [data[28], number_in(data, 20)], start=(36 | 2 << 24).to_bytes(4, sys.byteorder))
    if calls.ask("nvmlDeviceGetGpuFabricInfoV", later, gpu, device=index) is None:
        earlier = room(256, lambda data: [data[24], number_in(data, 16)])
        calls.ask("nvmlDeviceGetGpuFabricInfo", earlier, gpu, device=index)
    calls.ask("nvmlDeviceGetGspFirmwareVersion", room(128, text_in), gpu, device=index)
    addressing = room(8, lambda data: [number_in(data, 4)], start=(8 | 1 << 24).to_bytes(4, sys.byteorder))
    calls.ask("nvmlDeviceGetAddressingMode", addressing, gpu, device=index)
    # One field (230, the recovery action): its own code, and its value.
    field = room(40, lambda data: [number_in(data, 28), number_in(data, 32)], start=(230).to_bytes(4, sys.byteorder))
    calls.ask("nvmlDeviceGetFieldValues", field, gpu, 1, device=index)
    mode = calls.ask("nvmlDeviceGetVirtualizationMode", numbers(U32), gpu, device=index)
    if first(mode) == 2:  # a virtual GPU: whether it can be licensed, and whether its first feature is
        licence = room(8192, lambda data: [number_in(data, 0), number_in(data, 12)])
        calls.ask("nvmlDeviceGetGridLicensableFeatures_v4", licence, gpu, device=index)


def mig_instances(calls: LibraryCalls, gpu: ctypes.c_void_p, index: int) -> None:
    most = calls.ask("nvmlDeviceGetMaxMigDeviceCount", numbers(U32), gpu, device=index)
    for place in range(first(most)):
        handle = calls.ask("nvmlDeviceGetMigDeviceHandleByIndex", numbers(POINTER), gpu, place, device=index)
        if handle is not None:
            calls.ask("nvmlDeviceGetUUID", text(), POINTER(first(handle)), device=index, label="uuid of a MIG instance")


def cuda(calls: LibraryCalls, arguments: list[str]) -> None:
    calls.ask("cuDriverGetVersion", numbers(ctypes.c_int))
    if calls.ask("cuInit", numbers(), 0) is None:
        return
    count = calls.ask("cuDeviceGetCount", numbers(ctypes.c_int))
    if "--brief" in arguments:
        return
    for ordinal in range(first(count)):
        device = calls.ask("cuDeviceGet", numbers(ctypes.c_int, before=True), ordinal, device=ordinal)
        if device is not None:
            calls.ask("cuDeviceGetName", text(before=True), first(device), device=ordinal)
            calls.ask("cuDeviceGetUuid_v2", room(16, uuid_in, before=True), first(device), device=ordinal)
            calls.ask("cuDeviceGetAttribute", capability, first(device), device=ordinal)
    if first(count):
        calls.ask("cuDevicePrimaryCtxRetain", numbers(POINTER, before=True), 0, device=0)
        calls.ask("cuDevicePrimaryCtxRelease_v2", numbers(), 0, device=0)


def first(value: Value) -> int:
    """The first number of an answer; 0 without one."""
    return value[0] if isinstance(value, list) and value else 0


def text_in(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def number_in(data: bytes, place: int) -> int:
    return int.from_bytes(data[place : place + 4], sys.byteorder)


def numbers(*kinds: type, before: bool = False) -> Shape:
    """Room for one number of each kind; of an array, all its numbers. `before`: as for `room`."""

    def shape(function: Function, *given: object) -> tuple[int, Value]:
        places = [kind() for kind in kinds]
        pointers = [ctypes.byref(place) for place in places]
        code = function(*pointers, *given) if before else function(*given, *pointers)
        found: list[int] = []
        for place in places:
            found.extend(place if hasattr(place, "__len__") else [place.value or 0])
        return code, found

    return shape


def room(size: int, read: Callable[[bytes], Value], *after: object, start: bytes = b"", before: bool = False) -> Shape:
    """Room for that many bytes, and how to read them.

    Args:
        after: arguments after the room.
        start: what the caller writes at its start.
        before: the room comes before the arguments, as in CUDA.
    """

    def shape(function: Function, *given: object) -> tuple[int, Value]:
        place = ctypes.create_string_buffer(start, size)
        code = function(place, *after, *given) if before else function(*given, place, *after)
        return code, read(place.raw)

    return shape


def text(*, before: bool = False) -> Shape:
    """Room for a text, and the size of that room."""
    return room(128, text_in, 128, before=before)


def processes(function: Function, *given: object) -> tuple[int, Value]:
    """The count, then host PID and memory of each; memory is -1 if NVML has no figure for it."""
    count, room = U32(MOST_PROCESSES), (NvmlProcess * MOST_PROCESSES)()
    code = function(*given, ctypes.byref(count), room)
    if code == INSUFFICIENT_SIZE:
        return 0, [count.value]
    found = [count.value]
    for one in room[: min(count.value, MOST_PROCESSES)]:
        found.extend((one.pid, -1 if one.memory == NOT_AVAILABLE else one.memory))
    return code, found


def uuid_in(data: bytes) -> str:
    found = data.hex()
    return "GPU-" + "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))


def capability(function: Function, *device: object) -> tuple[int, Value]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    code = function(ctypes.byref(major), CC_MAJOR, *device) or function(ctypes.byref(minor), CC_MINOR, *device)
    return code, [major.value, minor.value]


def file_of(library: ctypes.CDLL, name: str) -> str | None:
    """The file behind a loaded library, links followed: from the loader, else from the mappings."""
    try:
        found = ctypes.c_void_p()
        handle = ctypes.c_void_p(library._handle)  # noqa: SLF001  ctypes has no other name for it
        if ctypes.CDLL(None).dlinfo(handle, 2, ctypes.byref(found)) == 0 and found.value:
            # struct link_map: the address, then the name.
            path = ctypes.cast(found.value + ctypes.sizeof(POINTER), ctypes.POINTER(ctypes.c_char_p)).contents.value
            if path and os.path.exists(path):
                return os.path.realpath(os.fsdecode(path))
    except (AttributeError, OSError, ValueError):
        pass
    stem = name.partition(".so")[0] + ".so"
    for line in lines_of("/proc/self/maps"):
        mapped = line.partition("/")[2].rstrip("\n")
        if mapped.rpartition("/")[2].startswith(stem):
            return "/" + mapped
    return None


def version_in(path: str | None) -> str | None:
    """The driver's version inside a libcuda whose file name lacks it (a copy named libcuda.so.1)."""
    if path is None or re.search(r"\.so\.\d{3,}\.", path) or "libcuda" not in path:
        return None
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = VERSION.search(data)
            return found[1].decode() if found else None
    except (OSError, ValueError):
        return None


def is_mounted(path: str | None) -> bool | None:
    """Whether the file itself is a mount target; None if that cannot be read."""
    lines = lines_of("/proc/self/mountinfo")
    targets = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines]
    return path in targets if targets and path else None


def lines_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return list(file)
    except OSError:
        return []


def standard_output() -> Callable[[str], object]:
    """Writes to stdout at once; what the libraries themselves print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(line: str) -> None:
        out.write(line)
        out.flush()

    return write


if __name__ == "__main__":
    main(sys.argv[1:], standard_output())
