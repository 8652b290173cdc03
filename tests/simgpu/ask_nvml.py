"""Ask NVML, by NVIDIA's own Python library, everything that mlship may ask, and print the answers as JSON.

A program for a child process: NVML is loaded once a process. What raises is answered by the number of its NVMLError.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial

import pynvml

SYSTEM: Mapping[str, Callable[[], object]] = {
    "driver": pynvml.nvmlSystemGetDriverVersion,
    "branch": lambda: pynvml.nvmlSystemGetDriverBranch().branch,
    "nvml": pynvml.nvmlSystemGetNVMLVersion,
    "cuda": pynvml.nvmlSystemGetCudaDriverVersion,
    "cuda_v2": pynvml.nvmlSystemGetCudaDriverVersion_v2,
    "count": pynvml.nvmlDeviceGetCount,
}
DEVICE: Mapping[str, Callable[[object], object]] = {
    "name": pynvml.nvmlDeviceGetName,
    "uuid": pynvml.nvmlDeviceGetUUID,
    "pci": lambda gpu: as_dict(pynvml.nvmlDeviceGetPciInfo(gpu)),
    "minor": pynvml.nvmlDeviceGetMinorNumber,
    "capability": pynvml.nvmlDeviceGetCudaComputeCapability,
    "architecture": pynvml.nvmlDeviceGetArchitecture,
    "brand": pynvml.nvmlDeviceGetBrand,
    "memory": lambda gpu: as_dict(pynvml.nvmlDeviceGetMemoryInfo(gpu)),
    "memory_v2": lambda gpu: as_dict(pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)),
    "mig": pynvml.nvmlDeviceGetMigMode,
    "most_instances": pynvml.nvmlDeviceGetMaxMigDeviceCount,
    "is_instance": lambda gpu: pynvml.nvmlDeviceIsMigDeviceHandle(gpu).value,
    "gpu_instance": pynvml.nvmlDeviceGetGpuInstanceId,
    "compute_instance": pynvml.nvmlDeviceGetComputeInstanceId,
    "persistence": pynvml.nvmlDeviceGetPersistenceMode,
    "compute_mode": pynvml.nvmlDeviceGetComputeMode,
    "ecc": pynvml.nvmlDeviceGetEccMode,
    "ecc_corrected": lambda gpu: pynvml.nvmlDeviceGetTotalEccErrors(gpu, 0, 0),
    "ecc_uncorrected": lambda gpu: pynvml.nvmlDeviceGetTotalEccErrors(gpu, 1, 0),
    "remapped": pynvml.nvmlDeviceGetRemappedRows,
    "retired_pending": pynvml.nvmlDeviceGetRetiredPagesPendingStatus,
    "fabric": lambda gpu: fabric(gpu, pynvml.nvmlDeviceGetGpuFabricInfo, pynvml.c_nvmlGpuFabricInfo_t()),
    "fabric_v2": lambda gpu: fabric(gpu, pynvml.nvmlDeviceGetGpuFabricInfoV, pynvml.c_nvmlGpuFabricInfo_v2_t()),
    "fabric_v3": lambda gpu: fabric(gpu, pynvml.nvmlDeviceGetGpuFabricInfoV, pynvml.c_nvmlGpuFabricInfo_v3_t()),
    "virtualization": pynvml.nvmlDeviceGetVirtualizationMode,
    "addressing": pynvml.nvmlDeviceGetAddressingMode,
    "processes": lambda gpu: [
        [p.pid, p.usedGpuMemory, p.gpuInstanceId, p.computeInstanceId]
        for p in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    ],
}


def main() -> None:
    pynvml.nvmlInit()
    found: dict[str, object] = {key: answer(ask) for key, ask in SYSTEM.items()}
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    found["devices"] = [{**describe(gpu), "instances": [describe(part) for part in instances(gpu)]} for gpu in gpus]
    pynvml.nvmlShutdown()
    print(json.dumps(found))  # noqa: T201


def answer(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except pynvml.NVMLError as error:
        return {"error": error.value}


def describe(gpu: object) -> dict[str, object]:
    return {key: answer(partial(ask, gpu)) for key, ask in DEVICE.items()}


def instances(gpu: object) -> list[object]:
    found = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
        except pynvml.NVMLError_NotFound:
            break
    return found


def as_dict(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name, _type in getattr(struct, "_fields_")}  # noqa: B009


def fabric(gpu: object, ask: Callable[[object, object], object], info: object) -> dict[str, object]:
    ask(gpu, pynvml.byref(info))
    return {key: value for key, value in as_dict(info).items() if key in {"state", "status", "healthMask"}}


if __name__ == "__main__":
    main()
