"""From what was seen of a GPU to whether the model ran there, and why not.

Captured: onnxruntime-gpu 1.26 on a machine without CUDA's libraries, and torch 2.14's error 36. The other texts are
quoted from the sources of torch 2.6, tensorflow 2.21 and jax 0.10 and from reports of their users; shortened.
"""

from dataclasses import replace

import pytest

from mlship.driver import codes
from mlship.driver.answer import DriverAnswer, DriverCall, LoadedLibrary
from mlship.engine.base import ExitState
from mlship.smoke.events import Event, Failed
from mlship.smoke.gpu_causes import of_code, of_text
from mlship.smoke.gpu_seen import CudaSeen, FrameworkUse, GpuAfter, GpuBefore, GpuProcess, NvmlSeen, nvml_seen
from mlship.smoke.judge.gpu import gpu_used, gpu_visible, is_simulated
from mlship.smoke.judge.verdict import judge
from mlship.smoke.result import Check
from mlship.smoke.seen import ModelRun, Observed
from tests.helpers.smoke_events import GOOD, SPEC, stages
from tests.helpers.smoke_gpu_events import (
    A100,
    AFTER,
    BEFORE,
    BUSY,
    FELL_BACK,
    IDLE,
    MIB,
    NVML,
    ONNX,
    ORT_LOAD,
    ORT_REQUIRE,
    TORCH,
    observed,
)

ON_CPU = replace(TORCH, uses={"cpu": 13}, memory=0)
CPU_BUILD = replace(ON_CPU, cuda=None, offers=(), version="2.6.0+cpu")


def visible(found: Observed) -> Check:
    (check,) = gpu_visible(found)
    assert check.status == "pass" or check.remedy or check.status == "skip"
    return check


def used(found: Observed) -> Check:
    (check,) = gpu_used(found)
    assert check.status == "pass" or check.remedy or check.status == "skip"
    return check


def test_a_model_on_a_gpu_is_proven_with_all_that_shows_it() -> None:
    assert visible(observed()).seen == "NVIDIA A100-SXM4-80GB (8.0), driver 550.54.15, CUDA 12.4"
    check = used(observed())
    assert check.status == "pass"
    assert check.seen == (
        "torch 2.6.0: 1 on cpu, 12 on cuda:0, 512 MiB on GPUs; NVML lists 1 process with 600 MiB; "
        "libcuda.so.550.54.15 is mapped (CUDA 12.4)"
    )
    assert not [check for check in judge(observed())[0] if check.status != "pass"]


def test_the_checks_stand_where_things_happen() -> None:
    names = [check.id for check in judge(observed())[0]]
    assert (
        names.index("gpu.visible") < names.index("model.import") < names.index("gpu.used") < names.index("serve.live")
    )


def test_many_gpus_are_counted_by_kind() -> None:
    seen = visible(observed(replace(BEFORE, nvml=replace(NVML, devices=(A100, A100, replace(A100, name="NVIDIA T4"))))))
    assert seen.seen.startswith("2 x NVIDIA A100-SXM4-80GB (8.0), NVIDIA T4 (8.0), driver")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (replace(AFTER, words=(ONNX,)), "onnxruntime 1.22.0: 1 on CUDAExecutionProvider + CPUExecutionProvider"),
        (replace(AFTER, words=()), "NVML lists 1 process with 600 MiB"),
        (
            replace(AFTER, words=(), nvml=replace(NVML, devices=(replace(A100, memory_used=900 * MIB),))),
            "NVML lists no process, memory in use grew by 600 MiB",
        ),
        (replace(IDLE, nvml=replace(NVML, devices=(replace(A100, memory_used=900 * MIB),))), "grew by 600 MiB"),
        (replace(AFTER, words=(ON_CPU,), silent=("ctranslate2",)), "13 on cpu"),
        (replace(AFTER, words=(replace(TORCH, uses={}),)), "nothing in use"),
        (
            replace(AFTER, words=(FrameworkUse("jax", "0.10", problem="KeyError: 'x'"),)),
            "jax 0.10 cannot be read: KeyError",
        ),
        (
            replace(AFTER, nvml=replace(NVML, devices=(replace(BUSY, processes=(GpuProcess(4711, None),)),))),
            "NVML lists 1 process, their memory unknown",
        ),
    ],
)
def test_what_proves_it(after: GpuAfter, words: str) -> None:
    check = used(observed(after=after))
    assert check.status == "pass", check
    assert words in check.seen


def test_a_frameworks_word_alone_is_a_warning_that_names_pid_namespaces() -> None:
    check = used(observed(after=IDLE))
    assert check.status == "warn"
    assert "PID namespaces" in check.remedy


def test_one_session_on_the_cpu_beside_one_on_the_gpu_is_a_warning() -> None:
    half = replace(ONNX, uses={"CUDAExecutionProvider + CPUExecutionProvider": 1, "CPUExecutionProvider": 1})
    check = used(observed(after=replace(AFTER, words=(half,))))
    assert check.status == "warn"
    assert "providers=['CUDAExecutionProvider'] in app.model:load" in check.remedy


def test_codes_that_nvml_answers_with_are_shown() -> None:
    device = replace(A100, memory_used=None, codes={"memory_used": 3, "processes": 4})
    check = used(observed(after=replace(AFTER, nvml=replace(NVML, devices=(device,)))))
    assert "NVML codes: memory_used 3, processes 4" in check.seen


# Work that moves to the GPU for each request


def test_weights_on_the_cpu_and_work_on_the_gpu_is_a_warning_that_says_so() -> None:
    moved = replace(TORCH, uses={"cpu": 13}, memory=0, peak=512 * MIB)
    check = used(observed(after=replace(AFTER, words=(moved,))))
    assert check.status == "warn"
    assert check.seen.startswith("used for each request, while the weights are on the CPU: torch 2.6.0: 13 on cpu")
    assert "at most 512 MiB on GPUs at a time" in check.seen


@pytest.mark.parametrize("peak", [None, 0])
def test_gpu_memory_alone_proves_no_work_and_is_not_called_the_cpu(peak: int | None) -> None:
    idle = replace(TORCH, uses={"cpu": 13}, memory=0, peak=peak)
    check = used(observed(after=replace(AFTER, words=(idle,))))
    assert check.status == "fail"
    assert check.seen.startswith("nothing shows work on the GPU, although GPU memory is in use: ")


# It ran on the CPU

TORCH_36 = (
    "UserWarning: CUDA initialization: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
    "before calling NumCudaDevices() that might have already set an error? Error 36: API call is not supported in the "
    "installed CUDA driver (Triggered internally at /__w/pytorch/pytorch/c10/cuda/CUDAFunctions.cpp:119.)"
)
TORCH_804 = (
    "UserWarning: CUDA initialization: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
    "before calling NumCudaDevices() that might have already set an error? Error 804: forward compatibility was "
    "attempted on non supported HW"
)
JAX = "An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed. Falling back to cpu."
NOT_FOUND = ": cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("words", "log", "why", "remedy"),
    [
        ((CPU_BUILD,), (), "torch 2.6.0+cpu is a CPU build", "CUDA build"),
        ((ON_CPU,), (), "all its tensors are on the CPU", "`.to('cuda')` in app.model:load"),
        ((replace(ON_CPU, offers=()),), (), "built for CUDA 12.4 and finds no usable GPU", "torch.cuda.init()"),
        ((replace(FELL_BACK, offers=("CPUExecutionProvider",)),), (), "is the CPU package", "instead of onnxruntime"),
        ((FELL_BACK,), (), "sessions are created without it", "providers=['CUDAExecutionProvider'] in app.model:load"),
        (
            (FELL_BACK,),
            (ORT_LOAD + "libcudnn.so.9" + NOT_FOUND, ORT_REQUIRE),
            "libcudnn.so.9 of cuDNN 9 is not found in the image (the driver supports CUDA 12.4)",
            "onnxruntime-gpu[cuda,cudnn]",
        ),
        (
            (FELL_BACK,),
            (ORT_LOAD + "libcublasLt.so.12" + NOT_FOUND,),
            "libcublasLt.so.12 of CUDA 12 is not found",
            "preload_dlls()",
        ),
        (
            (FELL_BACK,),
            (ORT_LOAD + "libcudart.so.13" + NOT_FOUND,),
            "libcudart.so.13 of CUDA 13 is not found in the image (the driver supports CUDA 12.4)",
            "lock a build for CUDA 12",
        ),
        ((FELL_BACK,), (ORT_REQUIRE,), "needs cuDNN 9.* and CUDA 12.*", "onnxruntime-gpu before 1.27"),
        (
            (replace(ON_CPU, offers=()),),
            ("UserWarning: CUDA initialization: The NVIDIA driver on your system is too old (found version 12040).",),
            "the driver is too old for this torch: it supports CUDA 12.4",
            "update the host's driver",
        ),
        (
            (replace(ON_CPU, offers=()),),
            (TORCH_36,),
            "the driver lacks a call that the image's CUDA needs (36)",
            "update the host's driver",
        ),
        (
            (replace(ON_CPU, offers=()),),
            (TORCH_804,),
            "forward compatibility was attempted on a GPU that does not support it (804)",
            "compat folder",
        ),
        (
            (FrameworkUse("jax", "0.10.2", uses={"cpu:0": 1}),),
            (JAX,),
            "this jaxlib is a CPU build",
            "jax[cuda12]",
        ),
        (
            (FrameworkUse("tensorflow", "2.21.0", uses={"CPU": 1}),),
            ("W0000 gpu_device.cc:2342] Cannot dlopen some GPU libraries. Please make sure the missing libraries ...",),
            "no CUDA libraries of the versions",
            "tensorflow[and-cuda]",
        ),
        ((), (), "nothing shows that it was used", "app.model:load"),
    ],
)  # fmt: skip
def test_a_fall_back_is_a_failure_with_its_cause(
    words: tuple[FrameworkUse, ...], log: tuple[str, ...], why: str, remedy: str
) -> None:
    found = observed(after=replace(IDLE, words=words), log=log)
    check = used(found)
    assert check.status == "fail"
    assert check.seen.splitlines()[0].startswith("ran on the CPU: ")
    assert why in check.seen
    assert remedy in check.remedy
    assert [check.id for check in judge(found)[0] if check.status == "fail"] == ["gpu.used"]


def test_without_libcuda_no_word_of_a_framework_is_believed() -> None:
    assert used(observed(after=replace(AFTER, libraries=()))).status == "fail"
    check = used(observed(after=replace(IDLE, libraries=(), words=())))
    assert "libcuda is not mapped: nothing in its process asked for a GPU" in check.seen


def test_a_process_that_was_there_before_proves_nothing() -> None:
    before = replace(BEFORE, nvml=replace(NVML, devices=(BUSY,)))
    assert used(observed(before, replace(AFTER, words=()))).status == "fail"


def test_a_frameworks_cpu_is_not_outweighed_by_memory_that_grew() -> None:
    assert used(observed(after=replace(AFTER, words=(ON_CPU,)))).status == "fail"


# What the container can do


@pytest.mark.parametrize(
    ("code", "words"), [(code, row.why) for code, row in codes.code_tables().cuda.items() if row.why]
)
def test_each_code_of_cuda_has_words_and_keeps_its_number(code: int, words: str) -> None:
    found = observed(GpuBefore(CudaSeen(code), NVML))
    check = visible(found)
    assert (check.status, check.seen) == ("fail", f"{words} ({code})")
    assert used(found).status == "skip"


def test_an_unknown_code_is_kept() -> None:
    assert visible(observed(GpuBefore(CudaSeen(4242), NVML))).seen == "the driver refuses (4242)"
    assert of_code(4242).remedy


def test_no_device_is_code_100() -> None:
    assert "(100)" in visible(observed(GpuBefore(CudaSeen(0, 12040, 0), NVML))).seen


@pytest.mark.parametrize(("code", "words"), [(9, "driver not loaded"), (18, "driver/library version mismatch")])
def test_each_code_of_nvml_has_words_and_keeps_its_number(code: int, words: str) -> None:
    check = visible(observed(GpuBefore(CudaSeen(999), NvmlSeen(code))))
    assert check.seen.endswith(f"; NVML: {code} ({words})")
    assert visible(observed(replace(BEFORE, nvml=NvmlSeen(code)))).status == "warn"


def test_no_driver_library_in_the_container() -> None:
    problem = "libcuda.so.1" + NOT_FOUND
    before = GpuBefore(CudaSeen(problem=problem), NvmlSeen(problem="libnvidia-ml.so.1" + NOT_FOUND))
    check = visible(observed(before))
    assert check.seen == f"{problem}; NVML: libnvidia-ml.so.1{NOT_FOUND}"
    assert "NVIDIA_DRIVER_CAPABILITIES: compute,utility" in check.remedy
    assert "without compute" in visible(observed(before, NVIDIA_DRIVER_CAPABILITIES="utility")).seen
    assert visible(observed(before, NVIDIA_DRIVER_CAPABILITIES="all")).seen == check.seen


def test_a_driver_that_ended_its_process() -> None:
    check = visible(observed(GpuBefore(CudaSeen(problem="cuInit crashed (SIGSEGV)"), NVML)))
    assert check.seen.startswith("cuInit crashed (SIGSEGV)")
    assert "docker run --rm --gpus all" in check.remedy


def test_gpus_that_the_image_hides_from_itself() -> None:
    check = visible(observed(GpuBefore(CudaSeen(100), NVML), CUDA_VISIBLE_DEVICES=""))
    assert "CUDA_VISIBLE_DEVICES=''" in check.seen
    assert visible(observed(CUDA_VISIBLE_DEVICES="0")).status == "pass"


# Beside the GPU checks


def test_nothing_is_said_of_gpus_where_none_is_meant() -> None:
    assert (gpu_visible(GOOD), gpu_used(GOOD)) == ((), ())


def test_a_gpu_image_on_the_cpu_is_not_called_proven_on_a_gpu() -> None:
    found = replace(GOOD, spec=replace(SPEC, gpu=True))
    assert [(check.id, check.status) for check in (*gpu_visible(found), *gpu_used(found))] == [
        ("gpu.visible", "skip"),
        ("gpu.used", "skip"),
    ]


def test_what_was_not_reached_is_skipped() -> None:
    loading = replace(observed(None, None), model=ModelRun(stages("load"), None))
    assert (visible(loading).status, used(loading).status) == ("skip", "skip")


@pytest.mark.parametrize("found", [observed(None, None), observed(after=None)])
def test_a_model_that_answers_without_a_word_of_a_gpu_is_not_proven_on_one(found: Observed) -> None:
    assert used(found).status == "fail"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (replace(BEFORE, cuda=replace(BEFORE.cuda, simulated=True)), None),
        (replace(BEFORE, nvml=replace(NVML, simulated=True)), None),
        (BEFORE, replace(AFTER, simulated=True)),
    ],
)
def test_who_simulates_is_believed(before: GpuBefore, after: GpuAfter | None) -> None:
    found = observed(before, after or AFTER)
    assert is_simulated(observed(before, after))
    assert visible(found).seen.startswith("simulated: NVIDIA A100")
    assert used(found).seen.startswith("simulated: torch")
    assert not is_simulated(observed())


def load_fails(message: str, device: str) -> Check:
    events: tuple[Event, ...] = (*stages("load"), BEFORE, Failed("load", "ImportError", message, None, None, ()))
    run = ModelRun(events, ExitState(1, out_of_memory=False))
    found = Observed(SPEC, GOOD.image, run, None, "gpu" if device == "gpu" else "cpu")
    return next(check for check in judge(found)[0] if check.status == "fail")


@pytest.mark.parametrize(
    ("message", "device", "remedy"),
    [
        ("libcuda.so.1" + NOT_FOUND, "cpu", "mlship smoke IMAGE --on gpu"),
        ("libcuda.so.1" + NOT_FOUND, "gpu", "NVIDIA_DRIVER_CAPABILITIES"),
        ("libcudart.so.12" + NOT_FOUND, "cpu", "add nvidia-cuda-runtime-cu12 to requirements.in"),
        ("libcudnn.so.9" + NOT_FOUND, "cpu", "add the nvidia-cudnn of your CUDA to requirements.in"),
        ("libcublas.so.13" + NOT_FOUND, "cpu", "add nvidia-cublas to requirements.in"),
        ("libcublas.so.13" + NOT_FOUND, "gpu", "lock a build for CUDA 12"),
        ("libcufft.so.11" + NOT_FOUND, "gpu", "add nvidia-cufft-cu12 to requirements.in"),
        ("libcusparseLt.so.0" + NOT_FOUND, "gpu", "add the nvidia-cusparselt of your CUDA to requirements.in"),
        ("libcupti.so.12" + NOT_FOUND, "gpu", "add nvidia-cuda-cupti-cu12 to requirements.in"),
        ("Found no NVIDIA driver on your system", "cpu", "--on gpu"),
        ("Torch not compiled with CUDA enabled", "gpu", "CUDA build of torch"),
        ("CUDA driver version is insufficient for CUDA runtime version", "gpu", "update the host's driver"),
        ("CUDA error: no kernel image is available for execution on the device", "gpu", "a build that has them"),
        ("No CUDA GPUs are available", "cpu", "--on gpu"),
        ("No CUDA GPUs are available", "gpu", "CUDA_VISIBLE_DEVICES"),
        ("Could not find cuda drivers on your machine, GPU will not be used.", "gpu", "tensorflow[and-cuda]"),
    ],
)
def test_a_model_that_does_not_load_for_want_of_cuda(message: str, device: str, remedy: str) -> None:
    found = load_fails(message, device)
    assert found.id == "model.load"
    assert remedy in found.remedy


def test_lines_that_say_nothing_of_gpus_are_not_kept() -> None:
    assert of_text(ORT_REQUIRE)
    assert not of_text("INFO: 127.0.0.1 - GET /health 200, error 100 times")
    assert of_text("KeyError: 'x'") is None


def test_every_process_has_its_own_memory() -> None:
    calls = (
        DriverCall("nvmlInit_v2", None, 0),
        DriverCall("nvmlDeviceGetCount_v2", None, 0, (1,)),
        DriverCall("nvmlDeviceGetComputeRunningProcesses_v3", 0, 0, (3, 11, 100, 12, -1, 13, 300)),
    )
    loaded = {"libnvidia-ml.so.1": LoadedLibrary("libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1")}
    (device,) = nvml_seen(DriverAnswer(calls, loaded)).devices
    assert device.processes == (GpuProcess(11, 100), GpuProcess(12, None), GpuProcess(13, 300))
