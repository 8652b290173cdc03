"""Record simulated GPU hosts, healthy and faulty, and NVIDIA's real libraries without the kernel module."""

import time
from pathlib import Path

import pytest

from mlship.cuda.hosts.nvml import probe_nvml
from mlship.cuda.hosts.profile import HostProfile, parse_host
from mlship.driver.answer import DEVICE_COUNT, DEVICE_HANDLE, LIBCUDA, NVML, NVML_CUDA_VERSION, NVML_INIT
from tests.helpers.command import Command, mlship
from tests.helpers.nvidia_libs import SERIES, Series, real_libraries
from tests.helpers.patience import limit
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, H100_MIG_HOST, HOSTS, T4_HOST, Scenario

CODES = {
    4: "NVML_ERROR_NO_PERMISSION",
    8: "NVML_ERROR_INSUFFICIENT_POWER",
    9: "NVML_ERROR_DRIVER_NOT_LOADED",
    10: "NVML_ERROR_TIMEOUT",
    11: "NVML_ERROR_IRQ_ISSUE",
    12: "NVML_ERROR_LIBRARY_NOT_FOUND",
    14: "NVML_ERROR_CORRUPTED_INFOROM",
    15: "NVML_ERROR_GPU_IS_LOST",
    16: "NVML_ERROR_RESET_REQUIRED",
    17: "NVML_ERROR_OPERATING_SYSTEM",
    18: "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    28: "NVML_ERROR_GPU_NOT_FOUND",
    999: "NVML_ERROR_UNKNOWN",
}


@pytest.fixture(autouse=True)
def _no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a real GPU, and would be asked too")


def record(scenario: Scenario, folder: Path) -> Command:
    host = SimHost.make(scenario, folder / "host")
    return mlship("hosts", "record", "hosts/sim.json", cwd=folder, env=host.env())


def recorded(scenario: Scenario, folder: Path) -> HostProfile:
    done = record(scenario, folder)
    assert done.code == 0, done.stderr
    assert "warning: the GPU is simulated" in done.stderr
    return parse_host((folder / "hosts/sim.json").read_text(), "sim.json")


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_is_recorded_correctly(name: str, tmp_path: Path) -> None:
    scenario = HOSTS[name]
    host = recorded(scenario, tmp_path)
    first = scenario.devices[0]
    assert (host.driver, host.simulated, host.source, host.notes) == (scenario.driver, True, "nvml", ())
    assert host.cuda == f"{scenario.cuda // 1000}.{scenario.cuda % 1000 // 10}"
    assert sum(gpu.count for gpu in host.gpus) == len(scenario.devices)
    gpu = host.gpus[0]
    assert (gpu.name, gpu.capability, gpu.mig) == (first.name, f"{first.cc_major}.{first.cc_minor}", first.mig)
    assert gpu.memory == first.memory
    assert "GPU-" not in host.to_json()


def test_a_recorded_host_is_a_fleet(tmp_path: Path) -> None:
    recorded(H100_MIG_HOST, tmp_path)
    done = mlship("hosts", cwd=tmp_path)
    assert done.code == 0
    assert "NVIDIA H100 80GB HBM3 (9.0, 80 GiB, MIG)" in done.stdout
    assert "sim: simulated, not a real GPU" in done.stdout
    assert "CUDA that every driver supports: 11.8 to 13.0" in done.stdout


@pytest.mark.parametrize("code", CODES)
def test_each_initialisation_error_is_reported(code: int, tmp_path: Path) -> None:
    done = record(T4_HOST.but(f"return {NVML_INIT} {code}"), tmp_path)
    assert (done.code, done.stdout) == (4, "")
    assert f"({NVML_INIT}: {CODES[code]} {code})" in done.stderr
    assert "hint:" in done.stderr
    assert not (tmp_path / "hosts").exists()


def test_one_gpu_of_two_is_lost(tmp_path: Path) -> None:
    done = record(A100_HOST.but(f"return {DEVICE_HANDLE}/1 15"), tmp_path)
    assert done.code == 4
    assert f"({DEVICE_HANDLE} of GPU 1: NVML_ERROR_GPU_IS_LOST 15)" in done.stderr


def test_no_gpu_at_all(tmp_path: Path) -> None:
    done = record(Scenario("550.54.15", 12040, ()), tmp_path)
    assert done.code == 4
    assert "has no GPU" in done.stderr


def test_an_abort_is_reported_with_its_call(tmp_path: Path) -> None:
    done = record(T4_HOST.but(f"abort {NVML_INIT}"), tmp_path)
    assert done.code == 4
    assert f"NVML crashed in {NVML_INIT} (SIGABRT)" in done.stderr


def test_a_late_abort_keeps_earlier_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(T4_HOST.but(f"abort {NVML_CUDA_VERSION}"), tmp_path, monkeypatch)
    answer = probe_nvml()
    assert (answer.crashed, answer.pending_call) == ("SIGABRT", NVML_CUDA_VERSION)
    assert answer.text("nvmlSystemGetDriverVersion") == T4_HOST.driver
    assert (answer.number(DEVICE_COUNT), answer.number(NVML_CUDA_VERSION)) == (1, None)


@pytest.mark.parametrize("call", [NVML_INIT, "nvmlDeviceGetName", NVML_CUDA_VERSION])
def test_a_hang_is_ended_and_reported_with_its_call(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(T4_HOST.but(f"hang {call}"), tmp_path, monkeypatch)
    started = time.monotonic()
    answer = probe_nvml(1.0)
    assert (answer.timed_out, (answer.pending or ("",))[0]) == (True, call)
    assert time.monotonic() - started < limit(5)


def test_library_paths_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = on(T4_HOST, tmp_path, monkeypatch)
    answer = probe_nvml()
    assert answer.libraries[NVML].path == str(host.libraries / f"libnvidia-ml.so.{T4_HOST.driver}")
    assert answer.libraries[LIBCUDA].path == str(host.libraries / f"libcuda.so.{T4_HOST.driver}")
    assert answer.text("nvmlDeviceGetUUID", 0) == T4_HOST.devices[0].uuid


def test_a_libcuda_of_another_driver_is_recorded(tmp_path: Path) -> None:
    host = recorded(Scenario("550.54.15", 12080, A100_HOST.devices), tmp_path)
    assert host.cuda == "12.8"
    assert "NVML reports CUDA 12.8, but driver 550.54.15 supports 12.4" in host.notes[0]


def test_a_missing_libcuda_is_recorded(tmp_path: Path) -> None:
    host = SimHost.make(T4_HOST, tmp_path / "host")
    for path in host.libraries.glob("libcuda.so*"):
        path.unlink()
    done = mlship("hosts", "record", "-", cwd=tmp_path, env=host.env())
    assert done.code == 0
    assert "no libcuda.so.1 (code 12)" in parse_host(done.stdout, "stdout").notes[0]


def test_an_empty_library_as_containers_leave_it(tmp_path: Path) -> None:
    host = SimHost.make(T4_HOST, tmp_path / "host")
    (host.libraries / f"libnvidia-ml.so.{T4_HOST.driver}").write_bytes(b"")
    done = mlship("hosts", "record", "-", cwd=tmp_path, env=host.env())
    assert done.code == 4
    assert "libnvidia-ml.so.1 cannot be loaded" in done.stderr
    assert "file too short" in done.stderr


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.suite)
def test_nvidias_real_libraries_without_their_module(
    series: Series, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real_libraries(series)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    answer = probe_nvml()
    assert (answer.crashed, answer.timed_out, answer.code(NVML_INIT)) == ("", False, 9)
    assert answer.libraries[NVML].path == str((folder / "libnvidia-ml.so.1").resolve())
    assert not answer.simulated
    done = mlship("hosts", "record", "-", cwd=tmp_path)
    assert done.code == 4
    assert "its kernel module is not loaded" in done.stderr


def on(scenario: Scenario, folder: Path, monkeypatch: pytest.MonkeyPatch) -> SimHost:
    """Run child processes of this test on the host."""
    host = SimHost.make(scenario, folder / "host")
    for key, value in host.env().items():
        monkeypatch.setenv(key, value)
    return host
