"""Asks NVML or the CUDA driver API, in a process of its own: a sick driver hangs or ends whoever asks it.

    gpu.py nvml|cuda [--simulated-only] [--all-devices] [--runtime] [SONAME...]

--simulated-only asks no library but a simulation; --all-devices unsets CUDA_VISIBLE_DEVICES; --runtime asks the CUDA
runtime too; each SONAME is loaded, to see which file it is.

It tells what it sees as JSON lines on stdout, each as soon as it is known, and names each call before it is made, so
that whoever reads knows where a hang or an abort happened. Every return code is told as it is. It judges nothing.

It is also given to `python -c` in containers: the standard library only, valid for Python 3.8.
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
    from typing import TypeAlias

    Value: TypeAlias = str | list[int] | None

NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
SIMULATED = "mlship_simulated_gpu"
NO_SUCH_FUNCTION = {NVML: 13, CUDA: 500}
CC_MAJOR, CC_MINOR = 75, 76
# Names of other files of the same driver, which its libcuda has.
VERSION = re.compile(rb"(?:nvidia-application-profiles-|libnvidia-pkcs11\.so\.)(\d{3,}\.\d+(?:\.\d+)?)")
MOST_PROCESSES = 1024
VGPU = 2
U32, U64, POINTER = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_void_p


class Function(Protocol):
    """A function of a library."""

    def __call__(self, *given: object) -> int: ...


class Shape(Protocol):
    """Calls a function with what is given and with room for its answer: code and answer."""

    def __call__(self, function: Function, *given: object) -> tuple[int, Value]: ...


class LibraryCalls:
    """One library: makes calls of it, and tells their codes."""

    def __init__(self) -> None:
        # Libraries that print would spoil the lines: what is said on stdout goes to stderr.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.library: ctypes.CDLL | None = None
        self._name = ""

    def send(self, event: str, **fields: object) -> None:
        self._out.write(json.dumps(dict(fields, event=event)) + "\n")
        self._out.flush()

    def load(self, name: str) -> bool:
        """Load a library as every program does, and tell which file that was; False where that fails."""
        self.send("call", name="dlopen " + name, device=None)
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            self.send("library", name=name, path=None, mounted=None, simulated=False, version=None, error=str(error))
            return False
        path = file_of(library, name)
        simulated = hasattr(library, SIMULATED)
        mounted = None if path is None else is_mounted(path)
        told = {"path": path, "mounted": mounted, "simulated": simulated, "version": version_in(path), "error": ""}
        self.send("library", name=name, **told)
        self.library, self._name = library, name
        return True

    @property
    def simulated(self) -> bool:
        return hasattr(self.library, SIMULATED)

    def ask(self, name: str, shape: Shape, *given: object, device: int | None = None) -> Value:
        """Make one call; None where it failed.

        Args:
            name: of the function.
            shape: calls the function with what is given and with room for its answer.
        """
        self.send("call", name=name, device=device)
        try:
            function = getattr(self.library, name)
        except AttributeError:
            self.send("answer", name=name, device=device, code=NO_SUCH_FUNCTION.get(self._name, -1), value=None)
            return None
        code, value = shape(function, *given)
        self.send("answer", name=name, device=device, code=code, value=value if code == 0 else None)
        return value if code == 0 else None


def main(arguments: list[str]) -> None:
    asking = LibraryCalls()
    if "--all-devices" in arguments:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    program = {"nvml": nvml, "cuda": cuda}[arguments[0]]
    if asking.load(NVML if program is nvml else CUDA):
        if "--simulated-only" in arguments and not asking.simulated:
            asking.send("refused")
            return
        program(asking)
    if "--runtime" in arguments:
        runtime(asking)
    for name in arguments[1:]:
        if not name.startswith("-"):
            asking.load(name)
    asking.send("done")


def nvml(asking: LibraryCalls) -> None:
    started = asking.ask("nvmlInitWithFlags", plain, 0)
    asking.ask("nvmlSystemGetNVMLVersion", text)  # also without a driver
    if started is None:
        return
    asking.ask("nvmlSystemGetDriverVersion", text)
    count = asking.ask("nvmlDeviceGetCount_v2", numbers(U32))
    for index in range(first(count)):
        handle = asking.ask("nvmlDeviceGetHandleByIndex_v2", numbers(POINTER), index, device=index)
        if handle is not None:
            nvml_device(asking, POINTER(first(handle)), index)
    # Last: it loads libcuda, whichever the loader finds first, and that one may be broken.
    asking.ask("nvmlSystemGetCudaDriverVersion_v2", numbers(ctypes.c_int))


NVML_CALLS = (
    ("nvmlDeviceGetMinorNumber", (U32,)),
    ("nvmlDeviceGetCudaComputeCapability", (U32, U32)),
    ("nvmlDeviceGetBrand", (U32,)),
    ("nvmlDeviceGetArchitecture", (U32,)),
    ("nvmlDeviceGetMemoryInfo", (U64 * 3,)),
    ("nvmlDeviceGetMigMode", (U32, U32)),
    ("nvmlDeviceGetPersistenceMode", (U32,)),
    ("nvmlDeviceGetComputeMode", (U32,)),
    ("nvmlDeviceGetEccMode", (U32, U32)),
    ("nvmlDeviceGetRemappedRows", (U32, U32, U32, U32)),
    ("nvmlDeviceGetRetiredPagesPendingStatus", (U32,)),
)


def nvml_device(asking: LibraryCalls, handle: ctypes.c_void_p, index: int) -> None:
    for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID"):
        asking.ask(name, text, handle, device=index)
    asking.ask("nvmlDeviceGetPciInfo_v3", bus_id, handle, device=index)
    found: dict[str, Value] = {}
    for name, kinds in NVML_CALLS:
        found[name] = asking.ask(name, numbers(*kinds), handle, device=index)
    asking.ask("nvmlDeviceGetTotalEccErrors", ecc_errors, handle, device=index)
    if asking.ask("nvmlDeviceGetGpuFabricInfoV", fabric(36, 2), handle, device=index) is None:
        asking.ask("nvmlDeviceGetGpuFabricInfo", fabric(28, 0), handle, device=index)
    asking.ask("nvmlDeviceGetComputeRunningProcesses_v3", processes, handle, device=index)
    asking.ask("nvmlDeviceGetGspFirmwareVersion", gsp_version, handle, device=index)
    asking.ask("nvmlDeviceGetAddressingMode", addressing, handle, device=index)
    kind = asking.ask("nvmlDeviceGetVirtualizationMode", numbers(U32), handle, device=index)
    if kind is not None and first(kind) == VGPU:
        asking.ask("nvmlDeviceGetGridLicensableFeatures_v4", licence, handle, device=index)
    if first(found["nvmlDeviceGetMigMode"]):
        mig_instances(asking, handle, index)


def mig_instances(asking: LibraryCalls, gpu: ctypes.c_void_p, index: int) -> None:
    most = asking.ask("nvmlDeviceGetMaxMigDeviceCount", numbers(U32), gpu, device=index)
    for place in range(first(most)):
        handle = asking.ask("nvmlDeviceGetMigDeviceHandleByIndex", numbers(POINTER), gpu, place, device=index)
        if handle is not None:
            # By a name of its own: it is no answer about the GPU.
            asking.send("call", name="nvmlDeviceGetUUID", device=index)
            code, uuid = text(asking.library.nvmlDeviceGetUUID, POINTER(first(handle))) if asking.library else (1, None)
            asking.send("answer", name="uuid of a MIG instance", device=index, code=code, value=uuid)


def cuda(asking: LibraryCalls) -> None:
    asking.ask("cuDriverGetVersion", numbers(ctypes.c_int))
    if asking.ask("cuInit", plain, 0) is None:
        return
    count = asking.ask("cuDeviceGetCount", numbers(ctypes.c_int))
    for ordinal in range(first(count)):
        device = asking.ask("cuDeviceGet", number_first(ctypes.c_int), ordinal, device=ordinal)
        if device is not None:
            cuda_device(asking, first(device), ordinal)
    if first(count):
        asking.ask("cuDevicePrimaryCtxRetain", number_first(POINTER), 0, device=0)
        asking.ask("cuDevicePrimaryCtxRelease_v2", plain, 0, device=0)


def cuda_device(asking: LibraryCalls, device: int, ordinal: int) -> None:
    asking.ask("cuDeviceGetName", cuda_name, device, device=ordinal)
    asking.ask("cuDeviceGetUuid_v2", cuda_uuid, device, device=ordinal)
    asking.ask("cuDeviceGetAttribute", capability, device, device=ordinal)


def runtime(asking: LibraryCalls) -> None:
    """The CUDA runtime, the newest that the loader finds."""
    for name in RUNTIMES:
        if asking.load(name):
            asking.ask("cudaGetDeviceCount", numbers(ctypes.c_int))
            return


def first(value: Value) -> int:
    """The first number of an answer; 0 where there is none."""
    return value[0] if isinstance(value, list) and value else 0


def plain(function: Function, *given: object) -> tuple[int, Value]:
    return function(*given), ""


def text(function: Function, *given: object) -> tuple[int, Value]:
    room = ctypes.create_string_buffer(128)
    return function(*given, room, 128), said(room.value)


def said(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def numbers(*kinds: type) -> Shape:
    """Room for one number a kind; an array's numbers are all told."""

    def shape(function: Function, *given: object) -> tuple[int, Value]:
        room = [kind() for kind in kinds]
        code = function(*given, *[ctypes.byref(place) for place in room])
        found: list[int] = []
        for place in room:
            found.extend(place if hasattr(place, "__len__") else [place.value or 0])
        return code, found

    return shape


def number_first(kind: type) -> Shape:
    """As CUDA has it: room for the answer comes before what is given."""

    def shape(function: Function, *given: object) -> tuple[int, Value]:
        room = kind()
        return function(ctypes.byref(room), *given), [room.value or 0]

    return shape


def bus_id(function: Function, *given: object) -> tuple[int, Value]:
    room = ctypes.create_string_buffer(256)
    code = function(*given, room)
    return code, said(room.raw[36:68].partition(b"\0")[0])


def ecc_errors(function: Function, *given: object) -> tuple[int, Value]:
    """Uncorrected, since the driver was loaded."""
    count = U64()
    return function(*given, 1, 0, ctypes.byref(count)), [count.value]


def fabric(size: int, version: int) -> Shape:
    """State and status; the structure of later drivers starts with its size and version."""

    def shape(function: Function, *given: object) -> tuple[int, Value]:
        room = ctypes.create_string_buffer(256)
        start = 4 if version else 0
        if version:
            ctypes.memmove(room, (size | version << 24).to_bytes(4, sys.byteorder), 4)
        code = function(*given, room)
        status = int.from_bytes(room.raw[start + 16 : start + 20], sys.byteorder)
        return code, [room.raw[start + 24], status]

    return shape


def processes(function: Function, *given: object) -> tuple[int, Value]:
    """How many; more than there is room for (code 7) is an answer too."""
    count, room = U32(MOST_PROCESSES), ctypes.create_string_buffer(24 * MOST_PROCESSES)
    code = function(*given, ctypes.byref(count), room)
    return (0 if code == 7 else code), [count.value]


def gsp_version(function: Function, *given: object) -> tuple[int, Value]:
    room = ctypes.create_string_buffer(128)
    return function(*given, room), said(room.value)


def addressing(function: Function, *given: object) -> tuple[int, Value]:
    room = (U32 * 2)(0x1000008, 0)
    return function(*given, room), [room[1]]


def licence(function: Function, *given: object) -> tuple[int, Value]:
    """Whether licensing is supported, and whether the first feature is licensed."""
    room = ctypes.create_string_buffer(8192)
    code = function(*given, room)
    return code, [int.from_bytes(room.raw[at : at + 4], sys.byteorder) for at in (0, 12)]


def cuda_name(function: Function, *device: object) -> tuple[int, Value]:
    room = ctypes.create_string_buffer(128)
    return function(room, 128, *device), said(room.value)


def cuda_uuid(function: Function, *device: object) -> tuple[int, Value]:
    room = ctypes.create_string_buffer(16)
    code = function(room, *device)
    found = room.raw.hex()
    return code, "GPU-" + "-".join((found[:8], found[8:12], found[12:16], found[16:20], found[20:]))


def capability(function: Function, *device: object) -> tuple[int, Value]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    code = function(ctypes.byref(major), CC_MAJOR, *device) or function(ctypes.byref(minor), CC_MINOR, *device)
    return code, [major.value, minor.value]


def file_of(library: ctypes.CDLL, name: str) -> str | None:
    """The file behind a loaded library, links followed: the loader's own word, else what is mapped."""
    try:
        found = ctypes.c_void_p()
        handle = ctypes.c_void_p(library._handle)  # noqa: SLF001  ctypes has no other name for it
        if ctypes.CDLL(None).dlinfo(handle, 2, ctypes.byref(found)) == 0 and found.value:
            # struct link_map: where it lies, then its name.
            path = ctypes.cast(found.value + ctypes.sizeof(POINTER), ctypes.POINTER(ctypes.c_char_p)).contents.value
            if path and os.path.exists(path):
                return os.path.realpath(os.fsdecode(path))
    except (AttributeError, OSError, ValueError):
        pass
    return mapped(name)


def mapped(name: str) -> str | None:
    stem = name.partition(".so")[0] + ".so"
    for line in lines_of("/proc/self/maps"):
        path = line.partition("/")[2].rstrip("\n")
        if path.rpartition("/")[2].startswith(stem):
            return "/" + path
    return None


def version_in(path: str | None) -> str | None:
    """The driver's version inside a libcuda whose file's name does not have it (a copy named libcuda.so.1)."""
    if path is None or re.search(r"\.so\.\d{3,}\.", path) or "libcuda" not in path:
        return None
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = VERSION.search(data)
            return found[1].decode() if found else None
    except (OSError, ValueError):
        return None


def is_mounted(path: str) -> bool | None:
    """A mount put this very file there; None where that cannot be told."""
    lines = lines_of("/proc/self/mountinfo")
    targets = [re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split()[4]) for line in lines]
    return path in targets if targets else None


def lines_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return list(file)
    except OSError:
        return []


if __name__ == "__main__":
    main(sys.argv[1:])
