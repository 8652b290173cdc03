"""Lines as `mlship.driver.ask` prints them, and a program that prints them instead."""

import json
from pathlib import Path

from mlship.driver.answer import DEVICE_HANDLE, NVML_CUDA_VERSION, NVML_INIT

LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.15"


def event(kind: str, **fields: object) -> str:
    return json.dumps({"event": kind, **fields}) + "\n"


def loaded(name: str = "libnvidia-ml.so.1", path: str | None = LIBRARY, **fields: object) -> list[str]:
    found = {"mounted": False, "simulated": False, "version": None, "error": "", **fields}
    return [
        event("call", name=f"dlopen {name}", device=None),
        event("library", name=name, path=path, **found),
    ]


def call_lines(name: str, value: object = "", device: int | None = None, code: int = 0) -> list[str]:
    answer = {"code": code, "value": None if code else value}
    return [event("call", name=name, device=device), event("answer", name=name, device=device, **answer)]


def gpu(
    index: int, name: str = "NVIDIA A100-SXM4-80GB", capability: str = "8.0", mig: bool | None = False
) -> list[str]:
    return [
        *call_lines(DEVICE_HANDLE, [94000], index),
        *call_lines("nvmlDeviceGetName", name, index),
        *call_lines("nvmlDeviceGetUUID", f"GPU-{index}", index),
        *call_lines("nvmlDeviceGetCudaComputeCapability", [int(part) for part in capability.split(".")], index),
        *call_lines("nvmlDeviceGetMemoryInfo", [80 << 30, 79 << 30, 1 << 30], index),
        *call_lines("nvmlDeviceGetMigMode", [int(bool(mig))] * 2, index, code=3 if mig is None else 0),
    ]


def answer_lines(*gpus: list[str], driver: str = "550.54.15", cuda: list[str] | None = None) -> list[str]:
    return [
        *loaded(),
        *call_lines(NVML_INIT),
        *call_lines("nvmlSystemGetNVMLVersion", "12.550.54.15"),
        *call_lines("nvmlSystemGetDriverVersion", driver),
        *call_lines("nvmlDeviceGetCount_v2", [len(gpus)]),
        *(line for each in gpus for line in each),
        *(call_lines(NVML_CUDA_VERSION, [12040]) if cuda is None else cuda),
        *loaded("libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"),
        event("done"),
    ]


def printing_program(path: Path, lines: list[str]) -> Path:
    """A program that prints these lines and exits with 0."""
    path.write_text(f"print({''.join(lines)!r}, end='')\n", encoding="utf-8")
    return path
