"""`mlship doctor` on simulated hosts: libraries on LD_LIBRARY_PATH, and a folder in place of /."""

import ast
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from mlship.doctor.facts.fact import Unreadable, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import read_facts
from mlship.doctor.probes.inside import INSIDE
from mlship.driver.child import DRIVER_PROGRAM
from tests.helpers.command import Command, mlship
from tests.helpers.nvidia_libs import SERIES, Series, real_libraries
from tests.helpers.patience import limit
from tests.simgpu.host import SimHost
from tests.simgpu.scenario import A100_HOST, H100_MIG_HOST, T4_HOST, Scenario

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Mar  5 22:23:56 UTC 2024\n"
PROGRAMS = [INSIDE / name for name in ("loader.py", "nodes.py", "python_env.py")]
KERNEL = "5.15.0-105-generic"


def tree(root: Path, files: dict[str, str]) -> Path:
    """Create a folder in place of /; a text that starts with "-> " becomes a link."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text.removeprefix("-> "))
        else:
            path.write_text(text, encoding="utf-8")
    return root


def healthy(scenario: Scenario, root: Path, **changes: str | None) -> Path:
    """A host with this driver and GPU; a change to None leaves the file out."""
    files: dict[str, str | None] = {
        "/proc/driver/nvidia/version": VERSION.format(scenario.driver),
        "/proc/sys/kernel/osrelease": f"{KERNEL}\n",
        "/proc/stat": "cpu 1 2\nbtime 1782885600\n",
        "/proc/devices": "Character devices:\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n",
        "/proc/self/environ": "LD_LIBRARY_PATH=/nowhere\0",
        "/proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n",
        "/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t27 44\n",
        "/sys/module/nvidia/version": f"{scenario.driver}\n",
        "/sys/module/nvidia_uvm/refcnt": "1\n",
        "/dev/nvidiactl": "",
        "/dev/nvidia-uvm": "",
        "/etc/os-release": 'ID=ubuntu\nVERSION_ID="22.04"\nID_LIKE=debian\n',
    }
    for number in range(len(scenario.devices)):
        device = f"/sys/bus/pci/devices/0000:00:{4 + number:02x}.0"
        files |= {f"{device}/vendor": "0x10de\n", f"{device}/device": "0x20b0\n", f"{device}/class": "0x030200\n"}
        files |= {f"{device}/revision": "0xa1\n", f"{device}/driver": "-> ../../drivers/nvidia"}
        files[f"/dev/nvidia{number}"] = ""
    files.update(changes)
    return tree(root, {name: text for name, text in files.items() if text is not None})


class Doctor(Protocol):
    """Run doctor on a scenario; return its output and the recorded facts."""

    def __call__(self, scenario: Scenario, **changes: str | None) -> tuple[Command, Facts]: ...


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    def run(scenario: Scenario, **changes: str | None) -> tuple[Command, Facts]:
        host = SimHost.make(scenario, tmp_path / "host")
        root = healthy(scenario, tmp_path / "root", **changes)
        file = tmp_path / "facts.json"
        argv = ("doctor", "--root", str(root), "--record", str(file), "--json")
        done = mlship(*argv, cwd=tmp_path, env=host.env())
        return done, read_facts(file)

    return run


def causes(done: Command) -> list[str]:
    return [cause["finding"]["id"] for cause in json.loads(done.stdout)["causes"]]


def unexplained(done: Command) -> list[str]:
    return [symptom["id"] for one in json.loads(done.stdout)["unexplained"] for symptom in one["symptoms"]]


@pytest.mark.parametrize(
    ("scenario", "name", "architecture"),
    [(T4_HOST, "Tesla T4", "Turing"), (A100_HOST, "NVIDIA A100-SXM4-40GB", "Ampere")],
    ids=["t4", "a100"],
)
def test_a_healthy_host(doctor: Doctor, scenario: Scenario, name: str, architecture: str) -> None:
    done, facts = doctor(scenario)
    assert (done.code, json.loads(done.stdout)["verdict"]) == (0, "healthy")
    assert facts.simulated is True
    nvml, cuda = facts.host.nvml, facts.host.cuda
    assert (nvml.init, nvml.driver_version, nvml.device_count) == (0, scenario.driver, len(scenario.devices))
    assert (cuda.init, cuda.driver_version, cuda.device_count) == (0, scenario.cuda, len(scenario.devices))
    device = (known(nvml.devices) or ())[0]
    assert (device.name, device.architecture, device.compute_mode) == (name, architecture, "Default")
    assert (known(cuda.devices) or ())[0].context_code == 0
    for library in (known(nvml.library), known(cuda.library)):
        assert library is not None
        assert library.version == scenario.driver
    assert facts.kernel.nvidia.version == scenario.driver
    assert (known(facts.kernel.pci) or ())[0].driver == "nvidia"
    assert facts.host.user.groups == (27, 44, 1000)


def test_mig_and_its_instances(doctor: Doctor) -> None:
    done, facts = doctor(H100_MIG_HOST)
    assert done.code == 0
    device = (known(facts.host.nvml.devices) or ())[0]
    assert device.mig_current == 1
    assert len(known(device.mig_devices) or ()) == 2
    assert (device.fabric_state, device.fabric_status, device.ecc_mode) == (3, 0, True)


@pytest.mark.parametrize("code", [18, 9, 999, 15])
def test_what_nvml_returns_is_kept_and_is_a_problem(doctor: Doctor, code: int) -> None:
    done, facts = doctor(T4_HOST.but(f"return nvmlInitWithFlags {code}"))
    assert facts.host.nvml.init == code
    assert done.code == 1
    assert f"nvml.init={code}" in done.stdout


def test_two_driver_versions_are_named(doctor: Doctor) -> None:
    changes = {
        "/proc/driver/nvidia/version": VERSION.format("535.104.05"),
        "/sys/module/nvidia/version": "535.104.05\n",
    }
    done, _ = doctor(T4_HOST.but("return nvmlInitWithFlags 18", "return cuInit 803"), **changes)
    assert causes(done) == ["nvml-lib-kmod-mismatch-after-upgrade"]


@pytest.mark.parametrize("code", [100, 999, 803, 804])
def test_what_cuda_returns_is_kept_and_is_a_problem(doctor: Doctor, code: int) -> None:
    done, facts = doctor(T4_HOST.but(f"return cuInit {code}"))
    assert (facts.host.cuda.init, facts.host.nvml.init) == (code, 0)
    assert done.code == 1
    assert f"cuda.init={code}" in done.stdout


def test_a_missing_uvm_node_is_named(doctor: Doctor) -> None:
    done, facts = doctor(T4_HOST.but("return cuInit 999"), **{"/dev/nvidia-uvm": None})
    assert is_absent((known(facts.host.device_nodes) or {})["/dev/nvidia-uvm"])
    assert causes(done) == ["nvidia-uvm-node-missing"]


def test_a_lost_gpu_is_found_beside_a_healthy_one(doctor: Doctor) -> None:
    done, facts = doctor(A100_HOST.but("return nvmlDeviceGetHandleByIndex_v2/1 15"))
    well, lost = known(facts.host.nvml.devices) or ()
    assert (well.name, lost.codes) == ("NVIDIA A100-SXM4-40GB", {"nvmlDeviceGetHandleByIndex_v2": 15})
    assert (done.code, "nvml.device=15" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("fault", "symptom"),
    [
        ("hang nvmlInitWithFlags", "nvml.hangs"),
        ("abort nvmlInitWithFlags", "nvml.crashes"),
        ("abort cuInit", "cuda.crashes"),
        ("hang nvmlDeviceGetName/0", "nvml.hangs"),
    ],
)
def test_a_driver_that_hangs_or_aborts_is_a_problem_in_time(doctor: Doctor, fault: str, symptom: str) -> None:
    done, facts = doctor(T4_HOST.but(fault))
    assert all((known(run.seconds) or 0) < 8 for run in known(facts.probes) or ())
    assert (done.code, unexplained(done)) == (1, [symptom])
    call = fault.split()[1].partition("/")[0]
    asked = facts.host.nvml if symptom.startswith("nvml") else facts.host.cuda
    reported = known(asked.hangs_at) or known(asked.crashes_at) or ""
    assert reported.startswith(call)
    if "Init" in fault:
        assert isinstance(asked.init, Unreadable)


def test_the_named_libcuda_is_the_loaders_first(tmp_path: Path) -> None:
    driver = SimHost.make(A100_HOST, tmp_path / "host")
    compat = SimHost.make(replace(A100_HOST, driver="525.60.13", cuda=12000), tmp_path / "cuda-12.0" / "compat")
    env = {**driver.env(), "LD_LIBRARY_PATH": f"{compat.libraries}:{driver.libraries}"}
    file = tmp_path / "facts.json"
    root = healthy(A100_HOST, tmp_path / "root")
    mlship("doctor", "--root", str(root), "--record", str(file), cwd=tmp_path, env=env)
    library = known(read_facts(file).host.cuda.library)
    assert library is not None
    assert (library.path, library.version) == (str(compat.libraries / "libcuda.so.525.60.13"), "525.60.13")


def test_compat_and_stub_folders_are_found_with_their_note(tmp_path: Path) -> None:
    root = healthy(A100_HOST, tmp_path / "root")
    for name in ("compat/libcuda.so.575.57.08", "lib64/stubs/libcuda.so"):
        path = root / "usr/local/cuda-12.9" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(elf_with_note('{"Format":1,"CUDA Version":"12.9","Driver":[535,550,575]}'))
    (root / "usr/local/cuda").symlink_to("/usr/local/cuda-12.9")
    file = tmp_path / "facts.json"
    mlship("doctor", "--root", str(root), "--record", str(file), cwd=tmp_path)
    loader = read_facts(file).host.loader
    (compat,) = known(loader.compat) or ()
    assert (compat.path, compat.version) == ("/usr/local/cuda-12.9/compat", "575.57.08")
    assert compat.driver_branches == ("535", "550", "575")
    assert loader.stubs == ("/usr/local/cuda-12.9/lib64/stubs",)


def elf_with_note(desc: str) -> bytes:
    """A minimal ELF file with a note like that of NVIDIA's compat libraries."""
    name, text = b"NVIDIA Corporation\0\0", desc.encode()
    note = struct.pack("<III", 19, len(text), 1) + name + text
    names = b"\0.note.cuda.fwd_compatibility\0.shstrtab\0"
    table = 64 + len(note) + len(names)
    head = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    )

    def row(at: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", at, kind, 0, 0, offset, size, 0, 0, 4, 0)

    rows = row(0, 0, 0, 0) + row(1, 7, 64, len(note)) + row(30, 3, 64 + len(note), len(names))
    return head + note + names + rows


@pytest.mark.parametrize("series", SERIES[:1], ids=lambda series: series.suite)
def test_nvidias_own_libraries_without_a_kernel_module(series: Series, tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has NVIDIA's kernel module")
    folder = real_libraries(series)
    file = tmp_path / "facts.json"
    done = mlship("doctor", "--record", str(file), cwd=tmp_path, env={"LD_LIBRARY_PATH": str(folder)})
    facts = read_facts(file)
    nvml, cuda = facts.host.nvml, facts.host.cuda
    assert (nvml.init, cuda.init, cuda.driver_version) == (9, 100, series.cuda)
    library = known(cuda.library)
    assert library is not None
    assert (known(library.version) or "").startswith(str(series.driver))
    assert (done.code, done.stdout.splitlines()[0]) == (0, "NO NVIDIA GPU to use here")


def test_with_root_no_library_of_this_machine_is_loaded(tmp_path: Path) -> None:
    """This machine's driver says nothing about the folder."""
    folder = real_libraries(SERIES[0])
    file = tmp_path / "facts.json"
    root = healthy(A100_HOST, tmp_path / "root")
    mlship("doctor", "--root", str(root), "--record", str(file), cwd=tmp_path, env={"LD_LIBRARY_PATH": str(folder)})
    facts = read_facts(file)
    assert facts == replace(facts, host=replace(facts.host, nvml=type(facts.host.nvml)(), cuda=type(facts.host.cuda)()))


def test_inside_a_container_the_facts_are_the_containers(doctor: Doctor) -> None:
    mounts = "".join(
        f"{n} 1 8:1 /x {path} rw - ext4 /dev/sda1 rw\n" for n, path in enumerate(("/etc/hosts", "/etc/hostname"))
    )
    done, facts = doctor(T4_HOST, **{"/proc/self/mountinfo": mounts, "/.dockerenv": ""})
    assert (facts.container.nvml.init, facts.container.engine) == (0, "docker")
    assert facts.host == Facts().host
    assert done.code == 0


def test_an_empty_folder_and_an_empty_path_do_not_crash(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = mlship("doctor", "--root", str(tmp_path / "empty"), cwd=tmp_path)
    assert (done.code, done.stdout.startswith("CANNOT TELL")) == (0, True)


# Import everything first: the user `nobody` may not read a Python installation in a home folder.
AS_NOBODY = """
import os
from mlship.doctor.facts.facts import Facts; from mlship.versioned import adapter
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.run import PROBES, look
adapter(Facts)
look(Look())
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(look(Look(), tuple(probe for probe in PROBES if probe.name in NAMES)).to_json())
"""
FILES_ALONE = ("kernel", "kernel log", "module files", "system", "packages", "services")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_user_nobody_records_all_readable_facts(tmp_path: Path) -> None:
    program = f"NAMES = {FILES_ALONE}\n{AS_NOBODY}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=limit(60)
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [(run["name"], run["problem"]) for run in facts["probes"]] == [(name, None) for name in FILES_ALONE]
    assert facts["kernel"]["enrolled_signers"]["root"] is True
    assert facts["kernel"]["release"] == os.uname().release


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("program", [*PROGRAMS, DRIVER_PROGRAM], ids=lambda path: path.name)
def test_the_programs_work_as_user_nobody_with_python_c(program: Path) -> None:
    argv = [
        "/usr/bin/python3",
        "-c",
        program.read_text(encoding="utf-8"),
        *(["nvml"] if program == DRIVER_PROGRAM else []),
    ]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=limit(30), user=65534, group=65534, cwd="/"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert isinstance(json.loads(done.stdout.splitlines()[-1]), dict)


@pytest.mark.parametrize("path", [*PROGRAMS, DRIVER_PROGRAM], ids=lambda path: path.name)
def test_the_programs_run_on_python_3_8_without_mlship(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_replay_of_what_was_recorded_has_the_same_verdict(doctor: Doctor, tmp_path: Path) -> None:
    uuid = "GPU-5f3a1c77-9d2e-4b60-8f11-7c9e2d4a6b03"
    host = T4_HOST.but("return cuInit 999")
    host = replace(host, devices=(replace(host.devices[0], uuid=uuid), *host.devices[1:]))
    done, _ = doctor(host, **{"/dev/nvidia-uvm": None})
    again = mlship("doctor", "--replay", str(tmp_path / "facts.json"), "--json", cwd=tmp_path)
    assert (again.code, causes(again)) == (done.code, causes(done))
    recorded = (tmp_path / "facts.json").read_text(encoding="utf-8")
    assert uuid[4:] not in recorded
    assert "GPU-00000000-0000-4000-8000-" in recorded


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text("mine", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    done = mlship("doctor", "--root", "empty", "--record", "facts.json", cwd=tmp_path)
    assert (done.code, (tmp_path / "facts.json").read_text(encoding="utf-8")) == (2, "mine")
    assert "facts.json` already exists" in done.stderr
