"""Query the simulated GPU host in child processes, with NVIDIA's Python library and with ctypes."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from tests.helpers.patience import limit
from tests.simgpu.ask_cuda import BYTES
from tests.simgpu.build import built_libraries
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import (
    A100_HOST,
    H100_HOST,
    H100_MIG_HOST,
    HOSTS,
    LIBRARIES,
    T4,
    T4_HOST,
    Device,
    Scenario,
    calls,
)

PROGRAMS = Path(__file__).parents[1] / "simgpu"
NOT_SUPPORTED, FUNCTION_NOT_FOUND = {"error": 3}, {"error": 13}
NO_INSTANCE = 0xFFFFFFFF
MIB = 1024**2
Make = Callable[[Scenario], SimHost]

# All numbers differ, so that no answer can be mistaken for another.
STRANGE = replace(
    T4,
    cc_major=21,
    cc_minor=22,
    architecture=23,
    brand=24,
    minor=25,
    pci_subsystem_id=26,
    persistence=0,
    compute_mode=3,
    ecc_corrected=31,
    ecc_uncorrected=32,
    retired_pending=1,
    remapped_correctable=41,
    remapped_uncorrectable=42,
    remapped_pending=1,
    remapped_failed=0,
    fabric_state=2,
    fabric_status=51,
    fabric_health=52,
    virtualization=1,
    pci="0000000A:0B:0C.0",
    memory=100 * MIB,
    reserved=1 * MIB,
)
STRANGE_ANSWERS = {
    "name": "Tesla T4",
    "uuid": T4.uuid,
    "pci": {
        "busIdLegacy": "000A:0B:0C.0",
        "busId": "0000000A:0B:0C.0",
        "domain": 10,
        "bus": 11,
        "device": 12,
        "pciDeviceId": T4.pci_device_id,
        "pciSubSystemId": 26,
    },
    "minor": 25,
    "capability": [21, 22],
    "architecture": 23,
    "brand": 24,
    "memory": {"total": 100 * MIB, "free": 99 * MIB, "used": 1 * MIB},
    "memory_v2": {"version": 0x02000028, "total": 100 * MIB, "reserved": MIB, "free": 99 * MIB, "used": 0},
    "mig": NOT_SUPPORTED,
    "most_instances": 0,
    "is_instance": 0,
    "gpu_instance": NOT_SUPPORTED,
    "compute_instance": NOT_SUPPORTED,
    "persistence": 0,
    "compute_mode": 3,
    "ecc": [1, 1],
    "ecc_corrected": 31,
    "ecc_uncorrected": 32,
    "remapped": [41, 42, 1, 0],
    "retired_pending": 1,
    "fabric": {"state": 2, "status": 51},
    "fabric_v2": {"state": 2, "status": 51, "healthMask": 52},
    "fabric_v3": {"state": 2, "status": 51, "healthMask": 52},
    "virtualization": 1,
    "addressing": FUNCTION_NOT_FOUND,
    "processes": [],
    "instances": [],
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return lambda scenario: SimHost.make(scenario, tmp_path / "host")


def run(host: SimHost, *argv: str | Path, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **host.env()}
    argv = (sys.executable, *argv)
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=limit(timeout))


def ask(host: SimHost, program: str) -> dict[str, object]:
    done = run(host, PROGRAMS / program)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def gpus(host: SimHost) -> list[dict[str, object]]:
    found = ask(host, "ask_nvml.py")["devices"]
    assert isinstance(found, list)
    return found


@contextmanager
def holding(host: SimHost) -> Iterator[int]:
    """The pid of a process that holds BYTES on the first GPU."""
    with subprocess.Popen(
        [sys.executable, PROGRAMS / "ask_cuda.py", "hold"],
        env={**os.environ, **host.env()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["codes"] == [0, 0, 0]
        try:
            yield process.pid
        finally:
            process.kill()


def test_every_device_returns_its_own_values(make: Make) -> None:
    assert gpus(make(replace(H100_HOST, devices=(STRANGE,)))) == [STRANGE_ANSWERS]


@pytest.mark.parametrize(
    ("gpu", "keys"),
    [
        (replace(STRANGE, ecc=None), ["ecc", "ecc_corrected", "ecc_uncorrected"]),
        (replace(STRANGE, retired_pending=None), ["retired_pending"]),
        (replace(STRANGE, remapped_pending=None), ["remapped"]),
        (replace(STRANGE, fabric_state=None), ["fabric", "fabric_v2", "fabric_v3"]),
        (replace(STRANGE, persistence=None), ["persistence"]),
        (replace(STRANGE, compute_mode=None), ["compute_mode"]),
        (replace(STRANGE, virtualization=None), ["virtualization"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_missing_features_of_a_gpu_are_not_supported(make: Make, gpu: Device, keys: list[str]) -> None:
    found = gpus(make(replace(H100_HOST, devices=(gpu,))))
    assert found == [STRANGE_ANSWERS | dict.fromkeys(keys, NOT_SUPPORTED)]


@pytest.mark.parametrize("name", HOSTS)
def test_the_system_reports_its_versions(make: Make, name: str) -> None:
    scenario = HOSTS[name]
    found = ask(make(scenario), "ask_nvml.py")
    del found["devices"]
    assert found == {
        "driver": scenario.driver,
        "branch": scenario.branch or FUNCTION_NOT_FOUND,
        "nvml": f"{scenario.cuda // 1000}.{scenario.driver}",
        "cuda": scenario.cuda,
        "cuda_v2": scenario.cuda,
        "count": len(scenario.devices),
    }


@pytest.mark.parametrize("name", HOSTS)
def test_cuda_and_nvml_agree_on_every_host(make: Make, name: str) -> None:
    host = make(HOSTS[name])
    cuda, (gpu, *others) = ask(host, "ask_cuda.py"), gpus(host)
    assert cuda["version"] == HOSTS[name].cuda
    assert cuda["count"] == 1 + len(others)
    assert [cuda["major"], cuda["minor"]] == gpu["capability"]
    assert cuda["compute_mode"] == gpu["compute_mode"]


def test_driver_535_lacks_newer_calls(make: Make) -> None:
    (gpu,) = gpus(make(replace(T4_HOST, devices=(STRANGE,))))
    assert gpu == STRANGE_ANSWERS | {"fabric_v2": FUNCTION_NOT_FOUND, "fabric_v3": FUNCTION_NOT_FOUND}


def test_nvml_uses_the_libcuda_that_the_loader_finds(make: Make) -> None:
    host = make(T4_HOST)
    (host.libraries / "libcuda.so.1").unlink()
    found = ask(host, "ask_nvml.py")
    assert (found["cuda"], found["cuda_v2"]) == (12020, {"error": 12})


def test_nvml_may_disagree_with_libcuda(make: Make) -> None:
    host = make(replace(T4_HOST, nvml_cuda=12040))
    assert ask(host, "ask_nvml.py")["cuda_v2"] == 12040
    assert ask(host, "ask_cuda.py")["version"] == 12020


def test_mig_devices_have_their_own_memory(make: Make) -> None:
    (gpu,) = gpus(make(H100_MIG_HOST))
    wanted = H100_MIG_HOST.devices[0].instances
    parts = gpu["instances"]
    assert isinstance(parts, list)
    assert (gpu["mig"], gpu["most_instances"]) == ([1, 1], 7)
    found = [(p["name"], p["uuid"], p["memory"]["total"], p["gpu_instance"], p["compute_instance"]) for p in parts]
    assert found == [(w.name, w.uuid, w.memory, w.gpu_instance, w.compute_instance) for w in wanted]


def test_cuda_sees_the_first_mig_device_and_nothing_of_a_gpu_without_one(make: Make, tmp_path: Path) -> None:
    found = ask(make(H100_MIG_HOST), "ask_cuda.py")
    assert (found["name"], found["count"]) == (H100_MIG_HOST.devices[0].instances[0].name, 1)
    bare = replace(H100_MIG_HOST, devices=(replace(H100_MIG_HOST.devices[0], instances=()),))
    assert ask(SimHost.make(bare, tmp_path / "bare"), "ask_cuda.py")["codes"] == [0, 100, 3]


@pytest.mark.parametrize(
    ("scenario", "ids"), [(A100_HOST, [NO_INSTANCE, NO_INSTANCE]), (H100_MIG_HOST, [7, 0])], ids=["whole", "mig"]
)
def test_an_allocation_is_visible_to_other_processes_until_it_ends(
    make: Make, scenario: Scenario, ids: list[int]
) -> None:
    host = make(scenario)
    idle = gpus(host)
    with holding(host) as pid:
        busy = gpus(host)
    assert busy[0]["processes"] == [[pid, BYTES, *ids]]
    assert used(busy[0]) - used(idle[0]) == BYTES
    assert busy[1:] == idle[1:]
    # It was killed, so its record is still there and must be ignored.
    assert (host.state / str(pid)).exists()
    assert gpus(host) == idle


def used(gpu: dict[str, object]) -> int:
    memory = gpu["memory"]
    assert isinstance(memory, dict)
    return int(memory["used"])


def test_a_process_that_ends_leaves_no_allocation(make: Make) -> None:
    host = make(T4_HOST)
    found = ask(host, "ask_cuda.py")
    assert found["free_before"] == T4.memory - T4.reserved
    assert found["free"] == T4.memory - T4.reserved - BYTES
    assert list(host.state.iterdir()) == []


@pytest.mark.parametrize("code", [*range(1, 31), 999])
def test_every_code_is_returned_as_its_error(make: Make, code: int) -> None:
    host = make(T4_HOST.but(f"return nvmlInit_v2 {code}"))
    program = "import pynvml\ntry: pynvml.nvmlInit()\nexcept pynvml.NVMLError as e: print(type(e).__name__, e.value)"
    assert run(host, "-c", program).stdout == f"{type(pynvml.NVMLError(code)).__name__} {code}\n"


@pytest.mark.parametrize(
    ("library", "call"), [(name, call) for name, source in LIBRARIES.items() for call in sorted(calls(source))]
)
def test_any_call_can_return_anything(make: Make, library: str, call: str) -> None:
    host = make(T4_HOST.but(f"return {call} 77"))
    program = f"import ctypes; print(ctypes.CDLL('{library}.1').{call}(None, None, None, None, None))"
    assert run(host, "-c", program).stdout == "77\n"


def test_a_fault_of_one_gpu_does_not_affect_others(make: Make) -> None:
    first, second = gpus(make(A100_HOST.but("return nvmlDeviceGetName/1 15")))
    assert (first["name"], second["name"]) == (A100_HOST.devices[0].name, {"error": 15})


def test_a_hang_lasts_until_the_time_limit(make: Make) -> None:
    host = make(T4_HOST.but("hang cuInit"))
    with pytest.raises(subprocess.TimeoutExpired):
        run(host, PROGRAMS / "ask_cuda.py", timeout=1)


@pytest.mark.parametrize(("fault", "code"), [("abort cuInit", -signal.SIGABRT), ("exit cuInit 7", 7)])
def test_a_call_can_end_the_process(make: Make, fault: str, code: int) -> None:
    assert run(make(T4_HOST.but(fault)), PROGRAMS / "ask_cuda.py").returncode == code


@pytest.mark.parametrize("fault", ["return nvmlInti_v2 9", "return cuInit", "hang cuInit 3", "explode cuInit"])
def test_an_impossible_fault_is_refused(fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        T4_HOST.but(fault)


def test_a_bad_scenario_file_is_an_error(make: Make) -> None:
    host = make(T4_HOST)
    host.scenario_file().write_text(T4_HOST.text() + "colour green\n", encoding="utf-8")
    done = run(host, PROGRAMS / "ask_cuda.py")
    assert (done.returncode, "bad line: colour" in done.stderr) == (-signal.SIGABRT, True)


def test_the_libraries_are_named_like_the_drivers_and_marked_as_simulated(make: Make) -> None:
    host = make(T4_HOST)
    links = {path.name: str(path.readlink()) for path in host.libraries.iterdir() if path.is_symlink()}
    assert links == {f"{name}.1": f"{name}.535.183.01" for name in LIBRARIES}
    for name in LIBRARIES:
        library = ctypes.CDLL(str(built_libraries() / name))
        assert ctypes.c_int.in_dll(library, "mlship_simulated_gpu").value == 1


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("gpu", pytest.skip.Exception)]
    + [(layers, pytest.fail.Exception) for layers in ("simgpu", "docker", "gpu,docker")],
)
def test_without_gcc_a_test_skips_unless_the_host_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MLSHIP_REQUIRE", required)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(outcome, match="needs Linux and gcc"):
        built_libraries()


CONTEXTS = """
import ctypes
from ctypes import byref
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
first, second, address = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_ulonglong()
assert cuda.cuMemAlloc_v2(byref(address), ctypes.c_size_t(1)) == 201
assert cuda.cuCtxCreate_v2(byref(first), 0, 0) == 0
assert cuda.cuCtxCreate_v3(byref(second), None, 0, 0, 0) == 0
assert cuda.cuCtxCreate_v4(byref(second), None, 0, 0) == 500
assert cuda.cuMemAlloc_v2(byref(address), ctypes.c_size_t(16 << 30)) == 2
assert cuda.cuMemAlloc_v2(byref(address), ctypes.c_size_t(1000)) == 0
assert cuda.cuMemFree_v2(address) == 0
assert cuda.cuMemFree_v2(address) == 1
assert cuda.cuCtxDestroy_v2(second) == 0
assert cuda.cuCtxSynchronize() == 201
assert cuda.cuCtxSetCurrent(second) == 201
assert cuda.cuCtxSetCurrent(first) == 0
assert cuda.cuCtxSynchronize() == 0
assert cuda.cuDevicePrimaryCtxRelease_v2(0) == 201
assert cuda.cuDevicePrimaryCtxRetain(byref(second), 0) == 0
assert cuda.cuDevicePrimaryCtxRelease_v2(0) == 0
assert cuda.cuDeviceGet(byref(ctypes.c_int()), 1) == 101
"""


def test_contexts_and_memory_can_be_created_and_released(make: Make) -> None:
    done = run(make(T4_HOST), "-c", CONTEXTS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "cuda", "symbol", "status"),
    [
        ("cuMemAlloc", 12000, "cuMemAlloc_v2", 0),
        ("cuMemAlloc_v2", 12000, None, 1),
        ("cuCtxCreate", 11030, "cuCtxCreate_v2", 0),
        ("cuCtxCreate", 12000, "cuCtxCreate_v3", 0),
        ("cuCtxCreate", 13000, "cuCtxCreate_v4", 0),
        ("cuGetProcAddress", 11020, None, 2),
        ("cuGetProcAddress", 11030, "cuGetProcAddress", 0),
        ("cuGetProcAddress", 12000, "cuGetProcAddress_v2", 0),
    ],
)
def test_a_function_is_found_by_name_and_cuda_version(
    make: Make, name: str, cuda: int, symbol: str | None, status: int
) -> None:
    program = f"""
import ctypes
cuda, found, status = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p(), ctypes.c_int(-1)
code = cuda.cuGetProcAddress_v2(b"{name}", ctypes.byref(found), {cuda}, ctypes.c_uint64(0), ctypes.byref(status))
wanted = {symbol!r} and ctypes.cast(getattr(cuda, {symbol!r} or "cuInit"), ctypes.c_void_p).value
print(code, found.value == wanted, status.value)
"""
    assert run(make(H100_HOST), "-c", program).stdout == f"0 True {status}\n"
