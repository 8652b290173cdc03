"""Lines as `mlship.driver.ask` tells them, and a program that tells them in its place."""

import json
from pathlib import Path

from mlship.driver.answer import CUDA, HANDLE, INIT

LIBRARY = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.54.15"
NAMES = {
    4: "NVML_ERROR_NO_PERMISSION",
    9: "NVML_ERROR_DRIVER_NOT_LOADED",
    12: "NVML_ERROR_LIBRARY_NOT_FOUND",
    15: "NVML_ERROR_GPU_IS_LOST",
    16: "NVML_ERROR_RESET_REQUIRED",
    17: "NVML_ERROR_OPERATING_SYSTEM",
    18: "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    23: "NVML_ERROR_INSUFFICIENT_RESOURCES",
    999: "NVML_ERROR_UNKNOWN",
}


def event(kind: str, **fields: object) -> str:
    return json.dumps({"event": kind, **fields}) + "\n"


def loaded(name: str = "libnvidia-ml.so.1", path: str | None = LIBRARY, **fields: object) -> list[str]:
    told = {"simulated": False, "error": "", **fields}
    return [
        event("call", name=f"dlopen {name}", device=None),
        event("library", name=name, path=path, **told),
    ]


def asked(name: str, value: object = None, device: int | None = None, code: int = 0) -> list[str]:
    answer: dict[str, object] = {"code": code, "error": NAMES.get(code, "")} if code else {"code": 0, "value": value}
    return [event("call", name=name, device=device), event("answer", name=name, device=device, **answer)]


def gpu(
    index: int, name: str = "NVIDIA A100-SXM4-80GB", capability: str = "8.0", mig: bool | None = False
) -> list[str]:
    return [
        *asked(HANDLE, None, index),
        *asked("nvmlDeviceGetName", name, index),
        *asked("nvmlDeviceGetUUID", f"GPU-{index}", index),
        *asked("nvmlDeviceGetCudaComputeCapability", capability, index),
        *asked("nvmlDeviceGetMemoryInfo", 80 << 30, index),
        *asked("nvmlDeviceGetMigMode", mig, index, code=3 if mig is None else 0),
        *asked("nvmlDeviceGetBrand", 14, index),
        *asked("nvmlDeviceGetArchitecture", 7, index),
    ]


def whole(*gpus: list[str], driver: str = "550.54.15", cuda: list[str] | None = None) -> list[str]:
    return [
        *loaded(),
        *asked(INIT),
        *asked("nvmlSystemGetDriverVersion", driver),
        *asked("nvmlSystemGetNVMLVersion", "12.550.54.15"),
        *asked("nvmlDeviceGetCount_v2", len(gpus)),
        *(line for each in gpus for line in each),
        *(asked(CUDA, 12040) if cuda is None else cuda),
        *loaded("libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"),
        event("done"),
    ]


def teller(path: Path, lines: list[str]) -> Path:
    """A program that tells these lines and ends well."""
    path.write_text(f"print({''.join(lines)!r}, end='')\n", encoding="utf-8")
    return path
