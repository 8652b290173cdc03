"""Asks NVIDIA's management library (NVML), in a process of its own: a sick driver hangs or ends whoever asks it.

It tells what it sees as JSON lines on stdout, each an event of `mlship.driver.answer`, each as soon as it is known, and
names each call before it is made, so that whoever reads knows where a hang or an abort happened. Every return code is
told as it is. It judges nothing, and never initialises CUDA.

It runs by its path and imports nothing of mlship: the answer should not wait for that.
"""

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import ModuleType

T = TypeVar("T")

LIBRARY = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
SIMULATED = "mlship_simulated_gpu"


class NvmlCalls:
    """Makes calls of NVML and tells their codes."""

    def __init__(self, pynvml: "ModuleType") -> None:
        # Libraries that print would spoil the lines: what is said on stdout goes to stderr.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._error: type[Exception] = pynvml.NVMLError
        self._names = {code: name for name, code in vars(pynvml).items() if name.startswith("NVML_ERROR_")}

    def send(self, event: str, **fields: object) -> None:
        self._out.write(json.dumps({"event": event, **fields}) + "\n")
        self._out.flush()

    def ask(self, name: str, call: Callable[[], T], show: Callable[[T], object], device: int | None = None) -> T | None:
        """Make one call; None where it failed.

        Args:
            name: of the function of NVML.
            show: makes what is told out of what was returned.
        """
        self.send("call", name=name, device=device)
        try:
            value = call()
        except self._error as error:
            code = vars(error)["value"]
            self.send("answer", name=name, device=device, code=code, error=self._names.get(code, ""))
            return None
        self.send("answer", name=name, device=device, code=0, value=show(value))
        return value


def main() -> None:
    import pynvml

    asking = NvmlCalls(pynvml)
    if not load(asking, LIBRARY):
        return
    if asking.ask("nvmlInitWithFlags", lambda: pynvml.nvmlInitWithFlags(0) or True, lambda _: None) is None:
        return
    asking.ask("nvmlSystemGetDriverVersion", pynvml.nvmlSystemGetDriverVersion, str)
    asking.ask("nvmlSystemGetNVMLVersion", pynvml.nvmlSystemGetNVMLVersion, str)
    count = asking.ask("nvmlDeviceGetCount_v2", pynvml.nvmlDeviceGetCount, int)
    for index in range(count or 0):
        ask_device(asking, pynvml, index)
    # Last: it loads libcuda, whichever the loader finds first, and that one may be broken.
    asking.ask("nvmlSystemGetCudaDriverVersion_v2", pynvml.nvmlSystemGetCudaDriverVersion_v2, int)
    load(asking, CUDA)
    asking.send("done")


def load(asking: NvmlCalls, name: str) -> bool:
    """Load a library as every program does, and tell which file that was; False where that fails."""
    asking.send("call", name=f"dlopen {name}", device=None)
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        asking.send("library", name=name, path=None, simulated=False, error=str(error))
        return False
    asking.send("library", name=name, path=_file_of(name), simulated=hasattr(library, SIMULATED), error="")
    return True


def ask_device(asking: NvmlCalls, pynvml: "ModuleType", index: int) -> None:
    handle = asking.ask(
        "nvmlDeviceGetHandleByIndex_v2", lambda: pynvml.nvmlDeviceGetHandleByIndex(index), lambda _: None, index
    )
    if handle is None:
        return
    asking.ask("nvmlDeviceGetName", lambda: pynvml.nvmlDeviceGetName(handle), str, index)
    asking.ask("nvmlDeviceGetUUID", lambda: pynvml.nvmlDeviceGetUUID(handle), str, index)
    asking.ask(
        "nvmlDeviceGetCudaComputeCapability",
        lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle),
        lambda pair: f"{pair[0]}.{pair[1]}",
        index,
    )
    asking.ask(
        "nvmlDeviceGetMemoryInfo",
        lambda: pynvml.nvmlDeviceGetMemoryInfo(handle),
        lambda memory: int(memory.total),
        index,
    )
    asking.ask("nvmlDeviceGetMigMode", lambda: pynvml.nvmlDeviceGetMigMode(handle), lambda modes: bool(modes[0]), index)
    asking.ask("nvmlDeviceGetBrand", lambda: pynvml.nvmlDeviceGetBrand(handle), int, index)
    asking.ask("nvmlDeviceGetArchitecture", lambda: pynvml.nvmlDeviceGetArchitecture(handle), int, index)


def _file_of(name: str) -> str | None:
    """The file behind a loaded library, links followed."""
    stem = name.partition(".so")[0] + ".so"
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as maps:
        for line in maps:
            path = line.partition("/")[2].rstrip("\n")
            if path.rpartition("/")[2].startswith(stem):
                return f"/{path}"
    return None


if __name__ == "__main__":
    main()
