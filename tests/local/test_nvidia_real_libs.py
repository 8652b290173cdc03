"""Compare the simulated libraries with NVIDIA's real ones, on a machine without the kernel module."""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.nvidia_libs import SERIES, Series, real_libraries
from tests.helpers.patience import limit
from tests.simgpu.build import built_libraries
from tests.simgpu.scenario import LIBRARIES, SOURCES, calls

# Functions of later drivers; the simulation exports them, and refuses them on an older host.
NEWER = {535: {"nvmlDeviceGetGpuFabricInfoV"}, 550: set[str]()}
NEWER_THAN_BOTH = {"nvmlSystemGetDriverBranch", "cuCtxCreate_v4"}
NAMES = sorted({name for source in LIBRARIES.values() for name in calls(source)} - NEWER_THAN_BOTH)
PROC_NAMES = ("cuInit", "cuMemAlloc", "cuMemAlloc_v2", "cuCtxCreate", "cuGetProcAddress", "cuCtxDestroy", "")
CUDA_VERSIONS = (6000, 11000, 11030, 11040, 12000, 12020)

# A process loads a library once, so each query runs in its own process. Arguments: FOLDER, the query.
ASK = """
import ctypes, json, sys
from ctypes import byref
folder, names, proc_names, versions, codes = json.loads(sys.argv[1])
libraries = [ctypes.CDLL(f"{folder}/{name}") for name in ("libnvidia-ml.so.1", "libcuda.so.1")]
nvml, cuda = libraries
found = {}
for name in names:
    call = getattr(libraries[name.startswith("cu")], name)
    room = [ctypes.create_string_buffer(256) for _ in range(5)]
    found[name] = call(0) if name in ("cuInit", "nvmlInitWithFlags") else call(*room[:-1], 0)
nvml.nvmlErrorString.restype = ctypes.c_char_p
found["nvml texts"] = [nvml.nvmlErrorString(code).decode() for code in [*range(28), 999]]
texts = {}
for code in codes:
    name, text = ctypes.c_char_p(), ctypes.c_char_p()
    cuda.cuGetErrorName(code, byref(name)), cuda.cuGetErrorString(code, byref(text))
    texts[code] = [str(name.value), str(text.value)]
found["cuda texts"] = texts
symbols = {ctypes.cast(getattr(cuda, n), ctypes.c_void_p).value: n for n in names if n.startswith("cu")}
for name in proc_names:
    for version in versions:
        at, status = ctypes.c_void_p(), ctypes.c_int(-1)
        code = cuda.cuGetProcAddress_v2(name.encode(), byref(at), version, ctypes.c_uint64(0), byref(status))
        found[f"{name} {version}"] = [code, symbols.get(at.value, at.value), status.value]
        code = cuda.cuGetProcAddress(name.encode(), byref(at), version, ctypes.c_uint64(0))
        found[f"{name} {version} v1"] = [code, symbols.get(at.value, at.value)]
print(json.dumps(found, indent=0))
"""


@pytest.fixture(params=SERIES, ids=lambda series: series.suite)
def series(request: pytest.FixtureRequest) -> Series:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has NVIDIA's kernel module")
    found: Series = request.param
    return found


def ask(folder: Path, names: list[str]) -> dict[str, object]:
    codes = [int(code) for code in re.findall(r'\{(\d+), "CUDA', (SOURCES / "cuda.c").read_text(encoding="utf-8"))]
    question = json.dumps([str(folder), names, PROC_NAMES, CUDA_VERSIONS, [*codes, 12345]])
    env = {**os.environ, "MLSHIP_SIMGPU": str(folder / "no-scenario")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, question], env=env, capture_output=True, text=True, check=False, timeout=limit(60)
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_without_a_kernel_module_there_is_a_version_and_no_driver(series: Series) -> None:
    folder = real_libraries(series)
    nvml, cuda = (ctypes.CDLL(str(folder / name)) for name in ("libnvidia-ml.so.1", "libcuda.so.1"))
    version = ctypes.c_int()
    assert nvml.nvmlInit_v2() == 9
    assert (cuda.cuDriverGetVersion(ctypes.byref(version)), version.value) == (0, series.cuda)
    assert cuda.cuInit(0) == 100


def test_the_real_libraries_export_all_simulated_functions(series: Series) -> None:
    folder = real_libraries(series)
    for name in LIBRARIES:
        missing = exported(built_libraries() / name) - exported(folder / f"{name}.1")
        newer = NEWER[series.driver] | NEWER_THAN_BOTH
        assert missing - newer == {"mlship_simulated_gpu"}
    assert NEWER_THAN_BOTH.isdisjoint(exported(folder / "libnvidia-ml.so.1") | exported(folder / "libcuda.so.1"))
    assert NEWER[series.driver].isdisjoint(exported(folder / "libnvidia-ml.so.1"))


def test_without_a_scenario_the_simulated_libraries_answer_as_the_real_ones(series: Series, tmp_path: Path) -> None:
    for name in LIBRARIES:
        (tmp_path / f"{name}.1").symlink_to(built_libraries() / name)
    names = [name for name in NAMES if name not in NEWER[series.driver]]
    assert ask(tmp_path, names) == ask(real_libraries(series), names)


def test_simulated_libraries_need_no_newer_libc_than_bookworms() -> None:
    for name in LIBRARIES:
        said = subprocess.run(
            ["objdump", "-T", built_libraries() / name], capture_output=True, text=True, check=True, timeout=limit(30)
        ).stdout
        needed = {tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", said)}
        assert max(needed) <= (2, 36)


def exported(library: Path) -> set[str]:
    """The exported symbols, without `@@VERSION`."""
    said = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True, timeout=limit(60)
    ).stdout
    return {line.split()[-1].partition("@")[0] for line in said.splitlines()}
