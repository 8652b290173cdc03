"""Containers with a simulated GPU host, through CDI as with the NVIDIA Container Toolkit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.helpers.patience import limit
from tests.simgpu import host as simgpu_host
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, T4_HOST

IMAGES = ("python:3.11-slim-bookworm", "python:3.13-slim-trixie")
CONFINED = ("--rm", "--read-only", "--cap-drop", "ALL", "--user", "1001:1001", "--network", "none")
ASK_CUDA = (Path(simgpu_host.__file__).with_name("ask_cuda.py")).read_text(encoding="utf-8")
# Standard library only, since the image has no NVIDIA package.
ASK_NVML = """
import ctypes, os
from ctypes import byref
nvml, cuda = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.CDLL("libcuda.so.1")
driver, count, version = ctypes.create_string_buffer(80), ctypes.c_uint(), ctypes.c_int()
codes = [nvml.nvmlInit_v2(), nvml.nvmlSystemGetDriverVersion(driver, 80), nvml.nvmlDeviceGetCount_v2(byref(count))]
codes.append(nvml.nvmlSystemGetCudaDriverVersion_v2(byref(version)))
simulated = [ctypes.c_int.in_dll(library, "mlship_simulated_gpu").value for library in (nvml, cuda)]
print(codes, driver.value.decode(), count.value, version.value, simulated, os.environ["NVIDIA_VISIBLE_DEVICES"])
"""
# The process that queries is the one that holds memory, which a read-only root must not hide.
OWN_MEMORY = """
import ctypes
from ctypes import byref
nvml, cuda = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.CDLL("libcuda.so.1")
context, address, gpu, count = ctypes.c_void_p(), ctypes.c_ulonglong(), ctypes.c_void_p(), ctypes.c_uint(9)
infos = (ctypes.c_ulonglong * 27)()
print(cuda.cuInit(0), cuda.cuCtxCreate_v2(byref(context), 0, 0))
print(cuda.cuMemAlloc_v2(byref(address), ctypes.c_size_t(4096)))
print(nvml.nvmlInit_v2(), nvml.nvmlDeviceGetHandleByIndex_v2(0, byref(gpu)))
print(nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu, byref(count), infos), count.value, infos[1])
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimHost]:
    made = SimHost.make(A100_HOST, tmp_path / "host")
    with made.in_containers():
        yield made


def run(device: str, program: str, image: str = IMAGES[0]) -> subprocess.CompletedProcess[str]:
    mirror = os.environ.get("MLSHIP_BASE_MIRROR")
    reference = f"{mirror}/library/{image}" if mirror else image
    run_it = ("docker", "run", "--quiet", *CONFINED, "--device", f"nvidia.com/gpu={device}")
    argv = [*run_it, reference, "python", "-c", program]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=limit(300))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize(("device", "count"), [("all", 2), ("0", 1), ("1", 1), (A100_HOST.devices[1].uuid, 1)])
@pytest.mark.usefixtures("host")
def test_a_confined_container_sees_its_gpus(image: str, device: str, count: int) -> None:
    done = run(device, ASK_NVML, image)
    assert (done.stdout, done.stderr) == (f"[0, 0, 0, 0] 550.54.15 {count} 12040 [1, 1] void\n", "")


@pytest.mark.usefixtures("host")
def test_cuda_works_in_a_confined_container() -> None:
    done = run("1", ASK_CUDA)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    gpu = A100_HOST.devices[1]
    assert (found["codes"], found["name"], found["total"]) == ([0, 0, 0], gpu.name, gpu.memory - gpu.reserved)


@pytest.mark.usefixtures("host")
def test_a_process_sees_its_own_memory_although_the_root_is_read_only() -> None:
    assert run("all", OWN_MEMORY).stdout == "0 0\n0\n0 0\n0 1 4096\n"


def test_a_fault_happens_in_the_container_too(tmp_path: Path) -> None:
    with SimHost.make(T4_HOST.but("return cuInit 803"), tmp_path / "host").in_containers():
        assert json.loads(run("all", ASK_CUDA).stdout)["codes"] == [0, 803, 3]


def test_consecutive_hosts_leave_nothing_behind(tmp_path: Path) -> None:
    # The device is unique to this test, since another test process may add its host by then.
    uuid = f"GPU-{uuid4()}"
    mine = replace(T4_HOST, devices=(replace(T4_HOST.devices[0], uuid=uuid),))
    for index, scenario in enumerate((A100_HOST, mine)):
        with SimHost.make(scenario, tmp_path / str(index)).in_containers() as spec:
            assert scenario.driver in run(scenario.devices[0].uuid, ASK_NVML).stdout
        assert not spec.exists()
    done = run(uuid, ASK_NVML)
    assert (done.returncode, f"unresolvable CDI devices nvidia.com/gpu={uuid}" in done.stderr) == (125, True)


def test_a_real_specification_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cdi"
    folder.mkdir()
    real = folder / "nvidia.yaml"
    real.write_text("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n", encoding="utf-8")
    monkeypatch.setattr(simgpu_host, "CDI_FOLDER", folder)
    monkeypatch.setattr(simgpu_host, "CDI_FOLDERS", (Path("/etc/cdi"), folder))
    monkeypatch.delenv("MLSHIP_REQUIRE", raising=False)
    with (
        pytest.raises(pytest.skip.Exception, match="describes real GPUs"),
        SimHost.make(T4_HOST, tmp_path / "host").in_containers(),
    ):
        pytest.fail("it went ahead")
    assert [path.name for path in folder.iterdir()] == ["nvidia.yaml"]


def test_another_process_waits_for_its_turn(host: SimHost, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import T4_HOST
with SimHost.make(T4_HOST, Path({str(tmp_path / "other")!r})).in_containers():
    print("in")
"""
    root = Path(__file__).parents[2]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", program], cwd=root, check=False, timeout=3, capture_output=True)
    assert "550.54.15" in run("all", ASK_NVML).stdout
