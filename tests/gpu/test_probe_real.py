"""The probe on a real GPU: what NVML says through it is what nvidia-smi says."""

import csv
import subprocess
from pathlib import Path

import pytest

from mlship.cuda.hosts.nvml import probe_nvml
from mlship.cuda.hosts.profile import parse_host
from mlship.driver.answer import DEVICE_COUNT, NVML
from tests.helpers.command import mlship
from tests.helpers.patience import limit
from tests.helpers.required import unavailable

FIELDS = ("driver_version", "name", "compute_cap", "memory.total", "uuid", "mig.mode.current")


@pytest.fixture
def smi() -> list[list[str]]:
    """One row a GPU, as nvidia-smi prints it."""
    if not Path("/proc/driver/nvidia/version").exists():
        unavailable("this machine has no NVIDIA driver", "gpu")
    argv = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=limit(60), check=True)
    return [[cell.strip() for cell in row] for row in csv.reader(done.stdout.splitlines())]


def test_nvml_and_nvidia_smi_agree(smi: list[list[str]]) -> None:
    answer = probe_nvml()
    assert (answer.crashed, answer.timed_out, answer.simulated) == ("", False, False)
    assert answer.libraries[NVML].path is not None
    assert answer.number(DEVICE_COUNT) == len(smi)
    for index, (driver, name, capability, memory, uuid, mig) in enumerate(smi):
        assert answer.text("nvmlSystemGetDriverVersion") == driver
        assert (answer.text("nvmlDeviceGetName", index), answer.text("nvmlDeviceGetUUID", index)) == (name, uuid)
        assert answer.numbers("nvmlDeviceGetCudaComputeCapability", index) == tuple(map(int, capability.split(".")))
        assert answer.number("nvmlDeviceGetMigMode", index) == {"Enabled": 1, "Disabled": 0}.get(mig)
        assert (answer.number("nvmlDeviceGetMemoryInfo", index) or 0) >> 20 == int(memory)


def test_this_machine_is_recorded_and_read(smi: list[list[str]], tmp_path: Path) -> None:
    done = mlship("hosts", "record", "hosts/real.json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    text = (tmp_path / "hosts/real.json").read_text()
    host = parse_host(text, "real.json")
    assert (host.simulated, host.source) == (False, "nvml")
    assert sum(gpu.count for gpu in host.gpus) == len(smi)
    assert not any(row[4] in text for row in smi)
    shown = mlship("hosts", cwd=tmp_path)
    assert shown.code == 0
    assert host.driver in shown.stdout
