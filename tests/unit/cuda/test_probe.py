"""What NVML's own process reports, and what becomes of it: the answer as a value, the error, the profile."""

import sys
import time
from pathlib import Path

import pytest

from mlship.cuda.hosts import nvml as probe
from mlship.cuda.hosts.nvml import check_answer
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.driver import ask, child, codes
from mlship.driver.answer import (
    DEVICE_COUNT,
    DEVICE_HANDLE,
    NVML,
    NVML_CUDA_VERSION,
    NVML_INIT,
    DriverAnswer,
    read_answer,
)
from mlship.errors import MatchError
from tests.helpers.nvml_lines import LIBRARY, answer_lines, call_lines, event, gpu, loaded
from tests.helpers.patience import limit

NAMES = {code: row.name for code, row in codes.code_tables().nvml.items() if code}


def profile(lines: list[str]) -> HostProfile:
    return probe.profile_of(read_answer(lines), "a", "linux/amd64", None, None)


def refused(answer: DriverAnswer) -> MatchError:
    with pytest.raises(MatchError) as caught:
        check_answer(answer)
    assert caught.value.exit_code == 4
    assert "`" in caught.value.hint
    return caught.value


def test_a_whole_answer() -> None:
    answer = read_answer(answer_lines(gpu(0), gpu(1)))
    assert (answer.timed_out, answer.crashed, answer.silent, answer.pending) == (False, "", False, None)
    assert answer.text("nvmlSystemGetDriverVersion") == "550.54.15"
    assert answer.text("nvmlSystemGetNVMLVersion") == "12.550.54.15"
    assert answer.number(NVML_CUDA_VERSION) == 12040
    assert [library.path for library in answer.libraries.values()] == [
        LIBRARY,
        "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15",
    ]
    assert [answer.text("nvmlDeviceGetUUID", index) for index in range(2)] == ["GPU-0", "GPU-1"]
    assert not answer.simulated
    check_answer(answer)


def test_a_simulation_is_known_by_either_library() -> None:
    for name in ("libnvidia-ml.so.1", "libcuda.so.1"):
        assert read_answer([*answer_lines(gpu(0)), *loaded(name, simulated=True)]).simulated


def test_alike_gpus_are_counted_and_nothing_names_one() -> None:
    answer = read_answer(answer_lines(gpu(0), gpu(1, "NVIDIA T4", "7.5", None), gpu(2)))
    host = probe.profile_of(answer, "mixed", "linux/amd64", "1.17.8", "Docker Engine 26.1.5")
    assert host.gpus == (
        HostGpu("NVIDIA A100-SXM4-80GB", "8.0", 2, 80 << 30, mig=False),
        HostGpu("NVIDIA T4", "7.5", 1, 80 << 30, mig=None),
    )
    assert (host.cuda, host.source, host.notes) == ("12.4", "nvml", ())
    assert "GPU-" not in host.to_json()


@pytest.mark.parametrize("code", NAMES)
def test_each_refused_start_keeps_its_code_and_has_a_remedy(code: int) -> None:
    error = refused(read_answer([*loaded(), *call_lines(NVML_INIT, code=code)]))
    assert f"{NVML_INIT}: {NAMES[code]} {code}" in error.message


@pytest.mark.parametrize(
    ("code", "words", "command"),
    [
        (4, "may not open", "sudo mlship hosts record"),
        (9, "kernel module is not loaded", "sudo modprobe nvidia"),
        (15, "fallen off the bus", "sudo reboot"),
        (18, "different versions", "sudo reboot"),
        (999, "without a reason", "mlship doctor"),
        (777, "NVML failed", "mlship doctor"),
    ],
)
def test_refusals_say_why_and_what_to_do(code: int, words: str, command: str) -> None:
    error = refused(read_answer([*loaded(), *call_lines(NVML_INIT, code=code)]))
    assert words in error.message
    assert command in error.hint


def test_a_lost_gpu_among_good_ones_is_named() -> None:
    answer = read_answer(answer_lines(gpu(0), call_lines(DEVICE_HANDLE, device=1, code=15)))
    assert f"{DEVICE_HANDLE} of GPU 1: NVML_ERROR_GPU_IS_LOST 15" in refused(answer).message


def test_no_library_is_no_driver_here() -> None:
    error = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
    answer = read_answer(loaded(path=None, error=error))
    assert (answer.crashed, answer.libraries[NVML].error) == ("", error)
    assert "this machine has no user-space library of the NVIDIA driver" in refused(answer).message
    assert "NVML_ERROR_LIBRARY_NOT_FOUND, 12" in refused(answer).message


def test_a_library_that_is_no_library_is_another_matter() -> None:
    answer = read_answer(loaded(path=None, error="/usr/lib/libnvidia-ml.so.1: file too short"))
    assert refused(answer).message.startswith("libnvidia-ml.so.1 cannot be loaded (")


def test_a_hang_says_where() -> None:
    lines = [*loaded(), event("call", name=NVML_INIT, device=None)]
    answer = read_answer(lines, timed_out=True)
    assert (answer.timed_out, answer.pending_call) == (True, NVML_INIT)
    assert refused(answer).message == f"NVML did not answer within 10 s; it hangs in {NVML_INIT}"


def test_a_hang_before_the_first_word() -> None:
    assert refused(read_answer([], timed_out=True)).message == "NVML did not answer within 10 s"


def test_a_crash_says_where_and_what_was_known() -> None:
    lines = answer_lines(gpu(0))[:-5]
    lines.append(event("call", name=NVML_CUDA_VERSION, device=None))
    answer = read_answer(lines, signal="SIGABRT", code=-6, stderr="a\nb!\n\n")
    assert (answer.crashed, answer.pending_call) == ("SIGABRT", NVML_CUDA_VERSION)
    assert (answer.text("nvmlSystemGetDriverVersion"), answer.number(DEVICE_COUNT)) == ("550.54.15", 1)
    assert refused(answer).message == f"NVML crashed in {NVML_CUDA_VERSION} (SIGABRT): b!"


def test_no_gpu() -> None:
    assert "has no GPU" in refused(read_answer(answer_lines())).message


@pytest.mark.parametrize(
    "noise", ["", "{", "[[" * 5000, '{"event": "answer"}', '{"event": "else"}', "NVRM: hello", "\x00"]
)
def test_what_is_no_line_of_ours_is_passed_over(noise: str) -> None:
    lines = answer_lines(gpu(0))
    assert read_answer([noise, *lines, noise]) == read_answer(lines)


@pytest.mark.parametrize(
    ("reported", "driver", "notes"),
    [
        ("550.54.15", "550.54.15", 0),
        ("396.26", "396.26", 0),
        ("550.54.15-grid", "550.54.15", 1),
    ],
)
def test_driver_versions(reported: str, driver: str, notes: int) -> None:
    host = profile(answer_lines(gpu(0), driver=reported))
    assert (host.driver, len(host.notes)) == (driver, notes)
    assert all(reported in note for note in host.notes)


@pytest.mark.parametrize("reported", ["open", "", "550", "550.x", "1.2.3.4", "550.54.15\x1b[31m550.54"])
def test_what_is_no_driver_version_is_refused(reported: str) -> None:
    with pytest.raises(MatchError, match="a driver version such as 550"):
        profile(answer_lines(gpu(0), driver=reported))


def test_cuda_that_does_not_fit_the_driver_is_noted_with_both_and_why() -> None:
    host = probe.profile_of(
        read_answer(answer_lines(gpu(0), cuda=call_lines(NVML_CUDA_VERSION, [12080]))), "a", "linux/amd64", None, None
    )
    assert host.cuda == "12.8"
    (note,) = host.notes
    assert "NVML reports CUDA 12.8, but driver 550.54.15 supports 12.4" in note
    assert "(/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15)" in note
    assert "cuda-compat" in note


@pytest.mark.parametrize(
    ("code", "words"),
    [(12, "no libcuda.so.1 (code 12)"), (13, "does not report the supported CUDA version: 13 (function not found)")],
)
def test_cuda_that_nvml_does_not_say_is_noted(code: int, words: str) -> None:
    host = probe.profile_of(
        read_answer(answer_lines(gpu(0), cuda=call_lines(NVML_CUDA_VERSION, code=code))), "a", "linux/amd64", None, None
    )
    assert host.cuda is None
    assert words in host.notes[0]


def test_a_branch_that_no_table_knows_is_not_contradicted() -> None:
    lines = answer_lines(gpu(0), driver="999.10", cuda=call_lines(NVML_CUDA_VERSION, [15000]))
    assert profile(lines).notes == ()


# With a real process


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs instead of `mlship.driver.ask`."""
    path = tmp_path / "program.py"
    monkeypatch.setattr(child, "DRIVER_PROGRAM", path)
    return path


def test_a_process_that_aborts(program: Path) -> None:
    lines = "".join([*loaded(), event("call", name=NVML_INIT, device=None)])
    program.write_text(f"import os\nprint({lines!r}, end='', flush=True)\nos.abort()\n")
    answer = probe.probe_nvml()
    assert (answer.crashed, answer.pending_call, answer.libraries[NVML].path) == ("SIGABRT", NVML_INIT, LIBRARY)


def test_a_process_that_hangs(program: Path) -> None:
    lines = "".join([*loaded(), event("call", name=NVML_INIT, device=None)])
    program.write_text(f"import time\nprint({lines!r}, end='', flush=True)\ntime.sleep(60)\n")
    started = time.monotonic()
    answer = probe.probe_nvml(0.5)
    assert (answer.timed_out, answer.pending_call) == (True, NVML_INIT)
    assert time.monotonic() - started < limit(5)


def test_a_process_that_raises(program: Path) -> None:
    program.write_text("raise ValueError('broken')\n")
    answer = probe.probe_nvml()
    assert (answer.silent, answer.crashed, answer.stderr) == (True, "exit code 1", "ValueError: broken")


def test_an_interpreter_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    answer = probe.probe_nvml()
    assert (answer.silent, answer.crashed, answer.stderr) == (True, "exit code 1", f"{tmp_path}/python: missing")


def test_the_current_folder_stands_in_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    answer = probe.probe_nvml()
    assert (answer.crashed, answer.timed_out, list(answer.libraries)) == ("", False, [NVML, "libcuda.so.1"])


def test_the_program_and_its_readers_name_the_same_calls() -> None:
    source = Path(ask.__file__).read_text(encoding="utf-8")
    for name in (
        NVML_INIT,
        DEVICE_HANDLE,
        NVML_CUDA_VERSION,
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetName",
        "nvmlDeviceGetMigMode",
    ):
        assert f'"{name}"' in source


# What stands beside NVML


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH but for the shell's."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_toolkit_and_engine_that_are_not_there(tools: Path) -> None:
    assert (probe.toolkit_version(), probe.engine_version()) == (None, None)


def test_the_toolkit_by_its_own_words(tools: Path) -> None:
    tool(tools, "nvidia-ctk", "echo 'NVIDIA Container Toolkit CLI version 1.17.8'; echo 'commit: f202b80'")
    assert probe.toolkit_version() == "1.17.8"


@pytest.mark.parametrize(
    ("server", "engine"),
    [
        ('{"Version":"26.1.5","Components":[{"Name":"Engine","Version":"26.1.5"}]}', "Docker Engine 26.1.5"),
        ('{"Version":"5.1.0","Components":[{"Name":"Podman Engine","Version":"5.1.0"}]}', "Podman 5.1.0"),
        ('{"Version":"20.10.5"}', "Docker Engine 20.10.5"),
        ("null", None),
        ("template: no such field", None),
        ('["Version"]', None),
        ('{"Version":"1","Components":[1]}', None),
    ],
)
def test_the_engine_by_its_own_words(tools: Path, server: str, engine: str | None) -> None:
    tool(tools, "docker", f"echo '{server}'")
    assert probe.engine_version() == engine


def test_an_engine_that_fails_is_none(tools: Path) -> None:
    tool(tools, "docker", 'echo \'{"Version":"1"}\'; exit 1')
    assert probe.engine_version() is None
