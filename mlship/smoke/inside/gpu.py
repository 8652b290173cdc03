"""What a process has of GPUs, and what the frameworks in it report: a second text that runs inside the tested image.

`mlship.smoke.inside.program` receives it as an argument if a GPU is requested, with the text of `mlship.driver.ask`.
Standard library only, valid for Python 3.8. It judges nothing and must not cause what it looks for: what loads CUDA
runs in a child process.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

T = TypeVar("T")

CHILD_SECONDS = 60.0  # the first cuInit on a host without persistence takes many seconds
MARK = "mlship_simulated_gpu"
LIBRARIES = re.compile(r"/lib(?:cuda|cudart|cublas|cudnn)[^/]*\.so[^/]*$")


def before(driver: ModuleType) -> dict[str, object]:
    """What this container can do with a GPU; found out by children, so that this process has not touched it."""
    return {"cuda": in_child(driver, "cuda", "--brief"), "nvml": in_child(driver, "nvml", "--brief")}


def after(driver: ModuleType, silent: list[str]) -> dict[str, object]:
    """What this process has loaded, what NVML reports of it, and last what its frameworks report.

    Args:
        silent: modules that use a GPU and have no way to report it.
    """
    libraries = mapped()
    lines: list[str] = []
    driver.main(["nvml", "--brief", "--no-libcuda"], lines.append)
    libcuda = next((ctypes.CDLL(path) for path in libraries if "/libcuda.so" in path), None)
    return {
        "pid": os.getpid(),
        "libraries": libraries,
        "cuda_version": cuda_version(libcuda),
        "nvml": {"lines": lines},
        "simulated": hasattr(libcuda, MARK),
        "silent": [name for name in silent if name in sys.modules],
        "words": words(),
    }


def in_child(driver: ModuleType, *arguments: str) -> dict[str, object]:
    """What the driver program prints in a child process, and how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            driver.main(list(arguments), lambda line: os.write(writing, line.encode()))
        finally:
            os._exit(0)
    os.close(writing)
    text, ended = read_until(reading, time.monotonic() + CHILD_SECONDS)
    os.close(reading)
    if not ended:
        os.kill(child, signal.SIGKILL)
    # A child inside a hung kernel driver cannot be ended, and is not waited for.
    status = os.waitpid(child, 0 if ended else os.WNOHANG)[1] & 0x7F
    return {
        "lines": text.decode("utf-8", "replace").splitlines(),
        "timed_out": not ended,
        "signal": signal.Signals(status).name if ended and status else None,
    }


def read_until(file: int, until: float) -> tuple[bytes, bool]:
    """What is written to a pipe, and whether its end was reached in time."""
    text = b""
    while select.select([file], [], [], max(0.0, until - time.monotonic()))[0]:
        part = os.read(file, 65536)
        if not part:
            return text, True
        text += part
    return text, False


def cuda_version(libcuda: ctypes.CDLL | None) -> int | None:
    """The CUDA version of the libcuda that this process has mapped."""
    version = ctypes.c_int()
    if libcuda is None or libcuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return version.value


def mapped() -> list[str]:
    """The files of CUDA's libraries that this process has mapped."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {line.split(None, 5)[5] for line in lines if line.count("/")}
    return sorted(path for path in paths if LIBRARIES.search(path))


# What the frameworks report. Only those that the model has imported; nothing is started for it.


def words() -> list[dict[str, object]]:
    """Where each loaded framework says that its objects are."""
    return [{"framework": name, **report(read, sys.modules[name])} for name, read in READERS.items() if loaded(name)]


def loaded(name: str) -> bool:
    return getattr(sys.modules.get(name), "__version__", None) is not None


def report(read: Callable[[ModuleType], dict[str, object]], module: ModuleType) -> dict[str, object]:
    """What one framework reports, or why it cannot be read."""
    version = str(module.__version__)
    try:
        return {"version": version, **read(module)}
    except Exception as error:  # noqa: BLE001  one that cannot be read must not hide the others
        return {"version": version, "problem": f"{type(error).__name__}: {error}"[:300]}


def live(kind: type[T]) -> Iterator[T]:
    """Live objects of a class, by their true type: asking a lazy proxy for its class may start it."""
    return (thing for thing in gc.get_objects() if issubclass(type(thing), kind))


def count_of(places: Iterator[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in places:
        found[place] = found.get(place, 0) + 1
    return found


def read_torch(torch: ModuleType) -> dict[str, object]:
    """Devices of live tensors. Modules are asked too: TorchScript's tensors have no Python object before that."""
    tensors = {id(tensor): tensor for tensor in live(torch.Tensor)}
    for module in list(live(torch.nn.Module)):
        tensors.update((id(tensor), tensor) for tensor in (*module.parameters(), *module.buffers()))
    started = torch.cuda.is_initialized()
    return {
        "cuda": torch.version.cuda,
        "uses": count_of(str(tensor.device) for tensor in tensors.values()),
        "offers": ["cuda"] if torch.cuda.is_available() else [],
        "memory": torch.cuda.memory_allocated() if started else 0,
        "peak": torch.cuda.max_memory_allocated() if started else 0,
    }


def read_onnxruntime(onnxruntime: ModuleType) -> dict[str, object]:
    """The providers that each live session runs on; the available ones are only what was built in."""
    sessions = live(onnxruntime.InferenceSession)
    return {
        "uses": count_of(" + ".join(session.get_providers()) for session in sessions),
        "offers": list(onnxruntime.get_available_providers()),
    }


def read_tensorflow(tensorflow: ModuleType) -> dict[str, object]:
    """Memory of its GPUs, if it has started: listing them would start it."""
    build = tensorflow.sysconfig.get_build_info()
    context = sys.modules["tensorflow.python.eager.context"].context()
    if not context._initialized:  # noqa: SLF001  no other way to ask without starting it
        return {"cuda": build.get("cuda_version"), "uses": {}}
    gpus = [device.name for device in tensorflow.config.list_logical_devices("GPU")]
    held = {name: tensorflow.config.experimental.get_memory_info(name) for name in gpus}
    return {
        "cuda": build.get("cuda_version"),
        "uses": {name: 1 for name, memory in held.items() if memory["current"]} or {"CPU": 1},
        "offers": gpus,
        "memory": sum(memory["current"] for memory in held.values()),
        "peak": sum(memory["peak"] for memory in held.values()),
    }


def read_jax(jax: ModuleType) -> dict[str, object]:
    """Devices of live arrays, if a backend has started."""
    backends = sys.modules["jax._src.xla_bridge"]._backends  # noqa: SLF001  jax.devices() would start one
    if not backends:
        return {"uses": {}}
    devices = (device for array in jax.live_arrays() for device in array.devices())
    return {"uses": count_of(f"{device.platform}:{device.id}" for device in devices), "offers": sorted(backends)}


def read_cupy(cupy: ModuleType) -> dict[str, object]:
    held = cupy.get_default_memory_pool().total_bytes()
    return {"uses": {"cuda": 1} if held else {}, "memory": held}


READERS = {
    "torch": read_torch,
    "onnxruntime": read_onnxruntime,
    "tensorflow": read_tensorflow,
    "jax": read_jax,
    "cupy": read_cupy,
}
