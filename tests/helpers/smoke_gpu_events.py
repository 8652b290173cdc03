"""The events of a GPU, for tests of the judges."""

from dataclasses import replace

from mlship.driver.device_code import DeviceCode
from mlship.smoke.events import InstalledCode, PackageCode
from mlship.smoke.gpu_seen import CudaSeen, FrameworkUse, GpuAfter, GpuBefore, GpuDevice, GpuProcess, NvmlSeen
from mlship.smoke.seen import Observed
from tests.helpers.smoke_events import GOOD, MODEL

MIB = 1 << 20


A100 = GpuDevice("NVIDIA A100-SXM4-80GB", "8.0", 300 * MIB)


NVML = NvmlSeen(0, "550.54.15", (A100,))


BEFORE = GpuBefore(CudaSeen(0, 12040, 1), NVML)


BUSY = replace(A100, memory_used=900 * MIB, processes=(GpuProcess(4711, 600 * MIB),))


LIBCUDA = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"


TORCH = FrameworkUse("torch", "2.6.0", "12.4", {"cuda:0": 12, "cpu": 1}, ("cuda",), 512 * MIB)


ONNX = FrameworkUse(
    "onnxruntime", "1.22.0", None, {"CUDAExecutionProvider + CPUExecutionProvider": 1}, ("CUDAExecutionProvider",)
)


AFTER = GpuAfter(7, (LIBCUDA,), 12040, replace(NVML, devices=(BUSY,)), simulated=False, silent=(), words=(TORCH,))


IDLE = replace(AFTER, nvml=NVML)


CODE = InstalledCode(
    (PackageCode("torch", "2.6.0", loaded=True, code=(DeviceCode(((7, 0), (8, 0), (9, 0)), (), ()),)),), unread=0
)


def observed(
    before: GpuBefore | None = BEFORE, after: GpuAfter | None = AFTER, log: tuple[str, ...] = (), **env: str
) -> Observed:
    seen = tuple(event for event in (before, after, CODE) if event is not None)
    run = replace(MODEL, events=(*MODEL.events, *seen), log=log)
    return replace(GOOD, model=run, device="gpu", image=replace(GOOD.image, env=env))


ORT_LOAD = (
    "\x1b[1;31m2026-11-24 18:33:19.645522267 [E:onnxruntime:Default, provider_bridge_ort.cc:2369 "
    "TryGetProviderInfo_CUDA] /onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:1962 "
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library "
    "/opt/venv/lib/python3.11/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so with error: "
)


ORT_REQUIRE = (
    "\x1b[0;93m2026-11-24 18:33:19.645569555 [W:onnxruntime:Default, onnxruntime_pybind_state.cc:1094 "
    "CreateExecutionProviderFactoryInstance] Failed to create CUDAExecutionProvider. Require cuDNN 9.* and CUDA 12.*. "
    "Please install all dependencies as mentioned in the GPU requirements page"
)


FELL_BACK = replace(ONNX, uses={"CPUExecutionProvider": 1})
