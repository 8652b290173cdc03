"""The smoke test on a simulated GPU host, in containers with its GPUs through CDI."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.engine.base import Engine
from mlship.errors import EngineError
from mlship.report.smoke import smoke_text
from mlship.smoke.gpu_seen import GpuDevice
from mlship.smoke.result import Check, SmokeReport
from mlship.smoke.run import Bench, smoke
from mlship.smoke.spec import LABEL, SmokeSpec
from tests.docker.gpus import no_gpus
from tests.helpers.patience import limit
from tests.helpers.smoke_images import built, containers, quiet
from tests.helpers.toy import SERVER
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, T4_HOST, Scenario

MIB = 1 << 20
SPEC = SmokeSpec(
    load="model:load",
    weights=(),
    sample="sample.json",
    golden=None,
    rtol=1e-3,
    atol=1e-5,
    output_shape=None,
    port=8080,
    live="/health/live",
    ready="/health/ready",
    predict="/predict",
    startup_seconds=20,
    grace_seconds=3,
    load_seconds=20,
    memory=128 * MIB,
    gpu=True,
)
# FALL_BACK=1 continues on the CPU, like frameworks that find no library; the default requires the GPU.
MODEL = '''\
"""A model that uses a GPU like a framework: it creates a context and allocates memory."""
import ctypes
import os
import sys

FALL_BACK = os.environ.get("FALL_BACK")


def checked(code):
    if code:
        raise RuntimeError(f"CUDA error: {code}")


def to_gpu():
    cuda = ctypes.CDLL("libcuda.so.1")
    context, address = ctypes.c_void_p(), ctypes.c_ulonglong()
    checked(cuda.cuInit(0))
    checked(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
    checked(cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(64 << 20)))


def load():
    if not FALL_BACK:
        to_gpu()
    elif FALL_BACK != "1":
        print(FALL_BACK, file=sys.stderr)
        print("\\\\n" * 100, file=sys.stderr)
    return lambda payload: [2 * x for x in payload["x"]]
'''
DOCKERFILE = """\
FROM BASE
WORKDIR /app
COPY model.py server.py sample.json ./
USER 1001:1001
CMD ["python", "server.py"]
"""
CUDNN = (
    "[E:onnxruntime:Default, provider_bridge_ort.cc:2195 TryGetProviderInfo_CUDA] [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library libonnxruntime_providers_cuda.so with error: libcudnn.so.9: cannot open shared object file"
)


@pytest.fixture(scope="module")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gpu")
    for name, text in {"model.py": MODEL, "server.py": SERVER, "sample.json": '{"x": [1.0]}'}.items():
        (folder / name).write_text(text)
    with built(engine, folder, f"{DOCKERFILE}LABEL {LABEL}='{SPEC.to_json()}'\n") as tag:
        yield tag


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = containers()
    yield
    assert containers() <= before


def on(scenario: Scenario, engine: Engine, image: str, folder: Path, **env: str) -> SmokeReport:
    with SimHost.make(scenario, folder / "host").in_containers():
        return smoke(Bench(engine, image, SPEC, quiet, device="gpu", env=env))


def failures(report: SmokeReport) -> list[Check]:
    return [check for check in report.checks if check.status == "fail"]


def seen(report: SmokeReport, name: str) -> str:
    return next(check.seen for check in report.checks if check.id == name)


def test_a_model_on_a_simulated_gpu_is_never_called_proven_on_a_real_one(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    report = on(A100_HOST, engine, image, tmp_path)
    assert failures(report) == []
    assert (report.device, report.simulated, report.driver) == ("simulated gpu", True, "550.54.15")
    assert report.gpus == ("NVIDIA A100-SXM4-40GB",) * 2
    assert seen(report, "gpu.visible") == "simulated: 2 x NVIDIA A100-SXM4-40GB (8.0), driver 550.54.15, CUDA 12.4"
    assert seen(report, "gpu.used") == (
        "simulated: NVML lists 1 process with 64 MiB; libcuda.so.1 is mapped (CUDA 12.4)"
    )
    assert smoke_text(report).startswith("PROVEN on a simulated gpu, which proves nothing about a real one (")
    assert isinstance(report.gpu_seen[0].nvml.devices[0], GpuDevice)


def test_a_fallback_to_the_cpu_fails(engine: Engine, image: str, tmp_path: Path) -> None:
    found = failures(on(T4_HOST, engine, image, tmp_path, FALL_BACK="1"))
    assert [check.id for check in found] == ["gpu.used"]
    assert "libcuda is not mapped" in found[0].seen


def test_the_cause_of_a_fallback_is_found_before_long_output(engine: Engine, image: str, tmp_path: Path) -> None:
    found = failures(on(T4_HOST, engine, image, tmp_path, FALL_BACK=CUDNN))
    assert [check.id for check in found] == ["gpu.used"]
    assert "libcudnn.so.9 of cuDNN 9 is not found in the image (the driver supports CUDA 12.2)" in found[0].seen


@pytest.mark.parametrize(
    ("fault", "check", "words"),
    [
        ("return cuInit 803", "gpu.visible", "incompatible versions (803)"),
        ("return cuInit 100", "gpu.visible", "no CUDA-capable device is detected (100)"),
        ("return cuMemAlloc_v2 46", "model.load", "CUDA error: 46"),
    ],
)
def test_a_faulty_driver_is_reported_with_its_code(
    engine: Engine, image: str, tmp_path: Path, fault: str, check: str, words: str
) -> None:
    found = failures(on(T4_HOST.but(fault), engine, image, tmp_path))
    assert found[0].id == check
    assert words in found[0].seen
    assert found[0].remedy


def test_the_image_on_the_cpu_fails_with_the_cause(engine: Engine, image: str) -> None:
    found = failures(smoke(Bench(engine, image, SPEC, quiet, device="cpu")))
    assert [check.id for check in found] == ["model.load"]
    assert "libcuda.so.1: cannot open shared object file" in found[0].seen
    assert "--on gpu" in found[0].remedy


def test_smoke_on_the_cpu_proves_only_what_the_cpu_can(engine: Engine, image: str) -> None:
    report = smoke(Bench(engine, image, SPEC, quiet, device="cpu", env={"FALL_BACK": "1"}))
    assert report.passed
    assert (report.device, report.simulated) == ("cpu", False)
    assert {check.status for check in report.checks if check.id.startswith("gpu.")} == {"skip"}


def test_an_engine_without_gpu_support_is_an_engine_error(engine: Engine, image: str) -> None:
    with no_gpus(), pytest.raises(EngineError) as caught:
        smoke(Bench(engine, image, SPEC, quiet, device="gpu"))
    assert "--gpus all: the NVIDIA Container Toolkit is not set up" in caught.value.message
    assert "CDI: " in caught.value.message


@pytest.mark.parametrize(("arguments", "code"), [((), 5), (("--on", "gpu"), 5), (("--on", "cpu"), 1)])
def test_the_label_decides_unless_an_option_is_given(
    image: str, tmp_path: Path, arguments: tuple[str, ...], code: int
) -> None:
    command = [sys.executable, "-m", "mlship", "smoke", image, *arguments]
    with no_gpus():
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=limit(120), check=False)
    assert done.returncode == code, done.stderr
