"""What a process sees of GPUs, and what the frameworks in it say: a second text that runs inside the image under test.

`mlship.smoke.inside.program` is given it as an argument where a GPU is asked for. It has nothing but the standard
library, judges nothing, and does not make true what it looks for: what has to load CUDA does so in a child.
Valid for Python 3.8, like the other.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

T = TypeVar("T")

CHILD_SECONDS = 60.0  # the first cuInit on a host without persistence takes many seconds
INSUFFICIENT_SIZE = 7
NOT_AVAILABLE = 2**64 - 1
MARK = "mlship_simulated_gpu"
LIBRARIES = re.compile(r"/lib(?:cuda|cudart|cublas|cudnn)[^/]*\.so[^/]*$")
# They use GPUs, and cannot be asked whether they do. What others import for themselves (`cuda`, of torch) is not here.
SILENT = ("ctranslate2", "llama_cpp", "mxnet", "numba.cuda", "paddle", "pycuda", "tensorrt")


class Process(ctypes.Structure):
    """nvmlProcessInfo_t of its versions 2 and 3."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class NvmlMemory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def before() -> dict[str, object]:
    """What this container can do with a GPU; found out by children, so that this process has not touched it."""
    return {"cuda": in_child(ask_cuda), "nvml": in_child(ask_nvml)}


def after() -> dict[str, object]:
    """What this process has loaded, what NVML knows of it, and what its frameworks say, asked last."""
    libraries = mapped()
    return {
        "pid": os.getpid(),
        "libraries": libraries,
        "cuda_version": cuda_version(libraries),
        "nvml": ask_nvml(),
        "simulated": any(is_simulated(path) for path in libraries),
        "silent": [name for name in SILENT if name in sys.modules],
        "words": words(),
    }


def in_child(ask: Callable[[], dict[str, object]]) -> dict[str, object]:
    """The answer of a child process; where it dies or hangs, that is the answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(ask()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as answer:
            if not select.select([answer], [], [], CHILD_SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
                return {"problem": f"it does not answer within {CHILD_SECONDS:.0f} s"}
            text = answer.read()
    finally:
        status = os.waitpid(child, 0)[1]
    if not text:
        return {"problem": f"asking it ended a process (signal {status & 0x7F})"}
    found: dict[str, object] = json.loads(text)
    return found


def ask_cuda() -> dict[str, object]:
    """The driver's own library: is it there, does it start, what does it offer."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"problem": str(error)}
    version, count = ctypes.c_int(), ctypes.c_int()
    init = cuda.cuInit(0)
    has_version = cuda.cuDriverGetVersion(ctypes.byref(version)) == 0
    has_count = init == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
    return {
        "init": init,
        "version": version.value if has_version else None,
        "count": count.value if has_count else None,
        "simulated": hasattr(cuda, MARK),
    }


def cuda_version(libraries: list[str]) -> int | None:
    """What the libcuda that this process has mapped calls its version; None where it has none."""
    path = next((path for path in libraries if "/libcuda.so" in path), None)
    version = ctypes.c_int()
    if path is None or ctypes.CDLL(path).cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value


def is_simulated(path: str) -> bool:
    """A library that is mapped already says so itself."""
    return "/libcuda.so" in path and hasattr(ctypes.CDLL(path), MARK)


def mapped() -> list[str]:
    """CUDA's libraries in this process, by the files that they are of."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {line.split(None, 5)[5] for line in lines if line.count("/")}
    return sorted(path for path in paths if LIBRARIES.search(path))


# NVML


def ask_nvml() -> dict[str, object]:
    """The driver's version, its devices, and the processes that compute on them. Loads no libcuda."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        return {"problem": str(error)}
    code = nvml.nvmlInit_v2()
    if code:
        return {"code": code}
    count = ctypes.c_uint()
    code = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found: dict[str, object] = {
        "code": code,
        "driver": read_text(nvml.nvmlSystemGetDriverVersion),
        "devices": [ask_device(nvml, index) for index in range(count.value)],
        "simulated": hasattr(nvml, MARK),
    }
    nvml.nvmlShutdown()
    return found


def ask_device(nvml: ctypes.CDLL, index: int) -> dict[str, object]:
    """One GPU. `codes` holds what NVML refused to say, and how."""
    handle = ctypes.c_void_p()
    code = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    if code:
        return {"codes": {"handle": code}}
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), NvmlMemory()
    capability = nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    used = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    listed, processes = list_processes(nvml, handle)
    codes = {"compute_capability": capability, "memory_used": used, "processes": listed}
    return {
        "name": read_text(lambda text, size: int(nvml.nvmlDeviceGetName(handle, text, size))),
        "compute_capability": f"{major.value}.{minor.value}" if capability == 0 else None,
        "memory_used": memory.used if used == 0 else None,
        "processes": processes,
        "codes": {name: code for name, code in codes.items() if code},
    }


def list_processes(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> tuple[int, list[dict[str, object]]]:
    """NVML's code, and who computes on a GPU, by the process ID that the host knows."""
    ask = getattr(nvml, "nvmlDeviceGetComputeRunningProcesses_v3", None)
    ask = ask or nvml.nvmlDeviceGetComputeRunningProcesses_v2
    size, code = 32, INSUFFICIENT_SIZE
    while code == INSUFFICIENT_SIZE and size <= 4096:
        size *= 2
        count, processes = ctypes.c_uint(size), (Process * size)()
        code = ask(handle, ctypes.byref(count), processes)
        if code == 0:
            return 0, [
                {"pid": one.pid, "memory": None if one.memory == NOT_AVAILABLE else one.memory}
                for one in processes[: count.value]
            ]
    return code, []


def read_text(ask: Callable[[object, int], int]) -> str | None:
    """What NVML writes into a buffer of this size."""
    buffer = ctypes.create_string_buffer(96)
    return buffer.value.decode("utf-8", "replace") if ask(buffer, len(buffer)) == 0 else None


# The frameworks' own word. Only what the model has imported is asked; what it has not started is not started.


def words() -> list[dict[str, object]]:
    """What each framework that is loaded says of where its things are."""
    return [{"framework": name, **said(read, sys.modules[name])} for name, read in READERS.items() if loaded(name)]


def loaded(name: str) -> bool:
    return getattr(sys.modules.get(name), "__version__", None) is not None


def said(read: Callable[[ModuleType], dict[str, object]], module: ModuleType) -> dict[str, object]:
    """One framework's word, or why it cannot be read."""
    version = str(module.__version__)
    try:
        return {"version": version, **read(module)}
    except Exception as error:  # noqa: BLE001  one that cannot be read must not hide the others
        return {"version": version, "problem": f"{type(error).__name__}: {error}"[:300]}


def live(kind: type[T]) -> Iterator[T]:
    """Objects of a class that are alive. By their true type: a lazy proxy that is asked for its class may wake up."""
    return (thing for thing in gc.get_objects() if issubclass(type(thing), kind))


def count_of(places: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in places:
        found[place] = found.get(place, 0) + 1
    return found


def read_torch(torch: ModuleType) -> dict[str, object]:
    """Devices of live tensors, those of modules included: TorchScript's have no Python object until they are asked."""
    tensors = {id(tensor): tensor for tensor in live(torch.Tensor)}
    for module in list(live(torch.nn.Module)):
        tensors.update((id(tensor), tensor) for tensor in (*module.parameters(), *module.buffers()))
    started = torch.cuda.is_initialized()
    return {
        "cuda": torch.version.cuda,
        "uses": count_of(str(tensor.device) for tensor in tensors.values()),
        "offers": ["cuda"] if torch.cuda.is_available() else [],
        "memory": torch.cuda.memory_allocated() if started else 0,
    }


def read_onnxruntime(onnxruntime: ModuleType) -> dict[str, object]:
    """The providers of each live session, which are what it runs on; the available ones are only what was built in."""
    sessions = live(onnxruntime.InferenceSession)
    return {
        "uses": count_of(" + ".join(session.get_providers()) for session in sessions),
        "offers": list(onnxruntime.get_available_providers()),
    }


def read_tensorflow(tensorflow: ModuleType) -> dict[str, object]:
    """Memory of its GPUs, where it has started: listing them would start it."""
    build = tensorflow.sysconfig.get_build_info()
    context = sys.modules["tensorflow.python.eager.context"].context()
    if not context._initialized:  # noqa: SLF001  there is no other way to ask without starting it
        return {"cuda": build.get("cuda_version"), "uses": {}}
    gpus = [device.name for device in tensorflow.config.list_logical_devices("GPU")]
    held = {name: tensorflow.config.experimental.get_memory_info(name)["current"] for name in gpus}
    used = {name: 1 for name, memory in held.items() if memory}
    return {
        "cuda": build.get("cuda_version"),
        "uses": used or {"CPU": 1},
        "offers": gpus,
        "memory": sum(held.values()),
    }


def read_jax(jax: ModuleType) -> dict[str, object]:
    """Devices of live arrays, where a backend has started."""
    backends = sys.modules["jax._src.xla_bridge"]._backends  # noqa: SLF001  jax.devices() would start one
    if not backends:
        return {"uses": {}}
    devices = (device for array in jax.live_arrays() for device in array.devices())
    return {
        "uses": count_of(f"{device.platform}:{device.id}" for device in devices),
        "offers": sorted(backends),
    }


def read_cupy(cupy: ModuleType) -> dict[str, object]:
    """Memory of its pool."""
    held = cupy.get_default_memory_pool().total_bytes()
    return {"uses": {"cuda": 1} if held else {}, "memory": held}


READERS = {
    "torch": read_torch,
    "onnxruntime": read_onnxruntime,
    "tensorflow": read_tensorflow,
    "jax": read_jax,
    "cupy": read_cupy,
}
