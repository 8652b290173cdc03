"""`mlship hosts` from the command line: the table, the files, exit codes, and no overwriting."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlship.cli.app import app
from mlship.cuda.hosts.profile import HostGpu, HostProfile, parse_host
from mlship.driver import child
from tests.helpers.cluster_nodes import cluster, device_of, labels, node, resource_slice
from tests.helpers.nvml_lines import answer_lines, call_lines, gpu, loaded, printing_program
from tests.helpers.toy import YAML, toy

A100 = HostProfile("a100", "550.54.15", (HostGpu("NVIDIA A100-SXM4-80GB", "8.0", 8, 80 << 30),), source="nvml")
GTX = HostProfile("gtx1080ti", "580.65.06", (HostGpu("NVIDIA GeForce GTX 1080 Ti", "6.1", 1, 11 << 30),), source="nvml")
B200 = HostProfile("b200", "580.95.05", (HostGpu("NVIDIA B200", "10.0", 8, 180 << 30),), source="nvml")


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["hosts", *arguments], input=given)


def fleet(folder: Path, *hosts: HostProfile) -> str:
    (folder / "hosts").mkdir()
    for host in hosts:
        (folder / "hosts" / f"{host.name}.json").write_text(host.to_json())
    return str(folder)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and nothing on PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def a100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with two A100, as NVML's own process reports it."""
    monkeypatch.setattr(child, "DRIVER_PROGRAM", printing_program(tmp_path / "driver.py", answer_lines(gpu(0), gpu(1))))


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without NVIDIA's libraries."""
    error = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(
        child, "DRIVER_PROGRAM", printing_program(tmp_path / "driver.py", loaded(path=None, error=error))
    )


# The fleet


def test_the_table_names_hosts_and_the_cuda_of_all(tmp_path: Path) -> None:
    result = run("-C", fleet(tmp_path, A100, GTX))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "2 kinds of host, from hosts/",
        "",
        "  host       driver     CUDA  GPUs",
        "  a100       550.54.15  12.4  8 x NVIDIA A100-SXM4-80GB (8.0, 80 GiB)",
        "  gtx1080ti  580.65.06  13.0  1 x NVIDIA GeForce GTX 1080 Ti (6.1, 11 GiB)",
        "",
        "  gtx1080ti: NVIDIA's support for driver branch R580 ends in 2028-06",
        "  gtx1080ti: CUDA 12.9 is the last for compute capability 6.1 (Pascal), whatever the driver",
        "CUDA that every driver supports: 11.0 to 12.4",
        "  12.4 is the newest for a100 (driver 550.54.15)",
        "  11.0 is the oldest for a100 (compute capability 8.0 (Ampere))",
        "CUDA that also runs everywhere through minor-version compatibility: 12.5 to 12.9",
        "  with kernels compiled for these GPUs; drivers do not compile PTX of a newer CUDA than their own",
    ]


def test_json_says_the_same(tmp_path: Path) -> None:
    result = run("--json", "-C", fleet(tmp_path, A100, GTX))
    said = json.loads(result.stdout)
    assert (result.exit_code, said["origin"], said["committed"]) == (0, "hosts/", True)
    assert [host["name"] for host in said["hosts"]] == ["a100", "gtx1080ti"]
    assert (said["cuda"]["most"], said["cuda"]["least"]) == ("12.4", "11.0")
    assert (said["cuda"]["outright"][0], said["cuda"]["outright"][-1]) == ("11.0", "12.4")
    assert said["cuda"]["by_minor_version"] == ["12.5", "12.6", "12.8", "12.9"]  # there is no toolkit 12.7
    assert said["cuda"]["hosts"] == [{"host": "a100", "cuda": "12.4"}, {"host": "gtx1080ti", "cuda": "13.0"}]


def test_what_runs_by_minor_version_compatibility_alone(tmp_path: Path) -> None:
    """A T4 on 535 knows CUDA 12.2, a B200 needs 12.8: torch's cu128 runs on both."""
    result = run("-C", fleet(tmp_path, replace(A100, name="t4", driver="535.183.01"), B200))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-6:] == [
        "No CUDA is supported by every driver and supports every GPU:",
        "  12.2 is the newest for t4 (driver 535.183.01)",
        "  12.8 is the oldest for b200 (compute capability 10.0 (Blackwell))",
        "CUDA that runs everywhere through minor-version compatibility: 12.8 to 12.9",
        "  with kernels compiled for these GPUs; drivers do not compile PTX of a newer CUDA than their own",
        "  t4: drivers before R550 cannot read the compressed kernels that CUDA 12.4 and newer can produce",
    ]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(A100, name="old", driver="470.82.01"), ["  11.4 is the newest for old (driver 470.82.01)"]),
        (replace(GTX, driver="590.48.01"), ["gtx1080ti: no CUDA runs: R580 is the last driver branch for"]),
    ],
    ids=["another major", "a driver that does not drive its GPU"],
)
def test_hosts_that_no_cuda_serves_together(tmp_path: Path, other: HostProfile, words: list[str]) -> None:
    result = run("-C", fleet(tmp_path, other, B200))
    assert result.exit_code == 0
    assert "No CUDA runs on all hosts; they need more than one image:" in result.stdout
    assert "minor-version" not in result.stdout
    for word in [*words, "  12.8 is the oldest for b200 (compute capability 10.0 (Blackwell))"]:
        assert word in result.stdout


def test_a_jetson_is_not_known_to_run_anything(tmp_path: Path) -> None:
    orin = HostProfile("orin", "540.3.0", (HostGpu("Orin", "8.7"),), "linux/arm64")
    assert "orin: Orin (compute capability 8.7) is a Jetson" in run("-C", fleet(tmp_path, orin)).stdout


def test_the_folder_that_the_project_names(tmp_path: Path) -> None:
    place = toy(tmp_path, mlship_yaml=f"{YAML}gpu: {{hosts: hosts/pascal}}\n")
    (place / "hosts/pascal").mkdir(parents=True)
    (place / "hosts/a100.json").write_text(A100.to_json())
    (place / "hosts/pascal/gtx.json").write_text(GTX.to_json())
    assert "1 kind of host, from hosts/pascal/" in run("-C", str(place)).stdout


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        ("390.157", ["The CUDA that runs on all hosts is unknown.", "driver 390.157 is older than R450"]),
        ("999.10", ["R999 is newer than", "at least"]),
    ],
)
def test_drivers_that_are_not_plainly_known(tmp_path: Path, driver: str, words: list[str]) -> None:
    result = run("-C", fleet(tmp_path, replace(A100, driver=driver)))
    assert result.exit_code == 0
    assert all(word in result.stdout for word in words), result.stdout


def test_notes_simulation_and_control_characters(tmp_path: Path) -> None:
    host = replace(A100, name="a\x1b[31m", simulated=True, notes=("seen\x1b]0;x\x07",), gpus=(HostGpu("T4", None),))
    result = run("-C", fleet(tmp_path, host))
    assert "simulated, not a real GPU" in result.stdout
    assert "1 x T4 (compute capability unknown)" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (replace(A100, driver="open"), "hosts/a100.json: 'open' is not a driver version such as 550.54.15"),
        (replace(A100, driver="550.54.15-grid"), "'550.54.15-grid' is not a driver version such as 550.54.15"),
        (replace(A100, gpus=(HostGpu("T4", "sm_75"),)), "'sm_75' is not a compute capability"),
        (replace(A100, gpus=()), "a host without a GPU"),
        (replace(A100, platform="linux/sparc"), "hosts/a100.json: unsupported platform 'linux/sparc'"),
    ],
)
def test_bad_files_are_usage_errors(tmp_path: Path, host: HostProfile, words: str) -> None:
    result = run("-C", fleet(tmp_path, host))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "hint:" in result.stderr


def test_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    result = run("-C", fleet(tmp_path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no host files in `hosts/`" in result.stderr


@pytest.mark.usefixtures("a100")
def test_without_a_folder_it_is_this_machine() -> None:
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("1 kind of host, from this machine\n")
    assert "2 x NVIDIA A100-SXM4-80GB (8.0, 80 GiB)" in result.stdout


@pytest.mark.usefixtures("bare")
def test_no_host_at_all() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (4, "")
    assert (
        "there is no folder `hosts/`, and this machine has no user-space library of the NVIDIA driver" in result.stderr
    )
    assert "mlship hosts import -" in result.stderr


def test_options_before_a_command_are_refused(tmp_path: Path) -> None:
    result = run("-C", str(tmp_path), "record", "a.json")
    assert result.exit_code == 2
    assert "`-C` and `--json` cannot be used with `mlship hosts record`" in result.stderr


# record


@pytest.mark.usefixtures("a100")
def test_recording_twice_and_then_something_else(tmp_path: Path) -> None:
    first = run("record", "hosts/pair.json")
    assert (first.exit_code, first.stdout) == (0, "")
    assert "wrote hosts/pair.json: driver 550.54.15, 2 x NVIDIA A100-SXM4-80GB (8.0, 80 GiB)" in first.stderr
    text = Path("hosts/pair.json").read_text()
    host = parse_host(text, "hosts/pair.json")
    assert (host.name, host.driver, host.cuda, host.source) == ("pair", "550.54.15", "12.4", "nvml")
    assert "unchanged: hosts/pair.json" in run("record", "hosts/pair.json").stderr
    printing_program(tmp_path / "driver.py", answer_lines(gpu(0)))
    third = run("record", "hosts/pair.json")
    assert third.exit_code == 2
    assert "`rm hosts/pair.json`" in third.stderr
    assert Path("hosts/pair.json").read_text() == text


@pytest.mark.usefixtures("a100")
def test_recording_to_stdout_writes_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = run("record", "-")
    assert result.exit_code == 0
    assert parse_host(result.stdout, "stdout").name == "this-machine"
    assert sorted(tmp_path.iterdir()) == before


def test_a_simulated_host_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [*answer_lines(gpu(0)), *loaded(simulated=True)]
    monkeypatch.setattr(child, "DRIVER_PROGRAM", printing_program(tmp_path / "driver.py", lines))
    result = run("record", "sim.json")
    assert "warning: the GPU is simulated" in result.stderr
    assert parse_host(Path("sim.json").read_text(), "sim.json").simulated


@pytest.mark.parametrize(("name", "hint"), [("hosts/a", "hosts/a.json"), (".", "NAME.json")])
def test_a_wrong_name_is_refused_before_anything_is_asked(name: str, hint: str) -> None:
    result = run("record", name)
    assert result.exit_code == 2
    assert f"mlship hosts record {hint}" in result.stderr


@pytest.mark.parametrize("code", [4, 9, 18, 999])
def test_a_host_that_does_not_answer_is_no_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    lines = [*loaded(), *call_lines("nvmlInitWithFlags", code=code)]
    monkeypatch.setattr(child, "DRIVER_PROGRAM", printing_program(tmp_path / "driver.py", lines))
    result = run("record", "a.json")
    assert result.exit_code == 4
    assert f" {code})" in result.stderr
    assert not Path("a.json").exists()


# import

MIXED = cluster(
    node("n2", labels()),
    node("n1", labels()),
    node("t4", labels("Tesla-T4", "535.161.07", "7.5", gpu__count="1", gpu__memory="15360")),
    node("bare", {"nvidia.com/gpu.present": "true"}),
    node("cpu", {"kubernetes.io/arch": "amd64"}),
)


def test_a_cluster_becomes_files() -> None:
    result = run("import", "-", given=MIXED)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "  file                                        nodes  driver      GPUs of a node",
        "  hosts/nvidia-a100-sxm4-80gb-r550.json  new  2      550.54.15   8 x NVIDIA-A100-SXM4-80GB (8.0, 80 GiB)",
        "  hosts/tesla-t4-r535.json               new  1      535.161.07  1 x Tesla-T4 (7.5, 15 GiB)",
        "tesla-t4-r535: the nodes report CUDA 12.4, but driver 535.161.07 supports 12.2",
        "1 node without an NVIDIA GPU",
    ]
    assert "warning: skipped bare: NVIDIA GPU, but label nvidia.com/gpu.product is missing" in result.stderr
    assert "install GPU Feature Discovery" in result.stderr
    assert run().exit_code == 0


ASSUMED = "ResourceSlices do not name the processor; amd64 is assumed, unless the import includes the nodes"


def test_nodes_that_differ_from_plain_ones_are_mentioned() -> None:
    cordoned = node("n2", labels())
    cordoned["spec"] = {"unschedulable": True}
    amd = node("mi300", {}, {"amd.com/gpu": "8"})
    result = run("import", "-", given=cluster(node("n1", labels()), cordoned, amd, resource_slice("h100", device_of())))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "  hosts/nvidia-a100-sxm4-80gb-r550.json  new  2      550.54.15   8 x NVIDIA-A100-SXM4-80GB (8.0, 80 GiB)",
        "  hosts/nvidia-h100-80gb-hbm3-r580.json  new  1      580.105.08  1 x NVIDIA-H100-80GB-HBM3 (9.0, 80 GiB)",
        f"nvidia-h100-80gb-hbm3-r580: {ASSUMED}",
        "1 node without an NVIDIA GPU (1 with AMD's, which mlship does not support)",
        "cordoned, and included like any other node: n2",
    ]


def test_importing_again_changes_what_changed_and_names_what_is_gone(tmp_path: Path) -> None:
    run("import", "-", given=MIXED)
    (tmp_path / "nodes.json").write_text(cluster(node("n1", labels(gpu__count="4"))))
    result = run("import", "nodes.json")
    assert "hosts/nvidia-a100-sxm4-80gb-r550.json  changed  1" in result.stdout
    assert "`rm hosts/tesla-t4-r535.json`" in result.stderr
    assert Path("hosts/tesla-t4-r535.json").exists()
    assert "  same " in run("import", "nodes.json").stdout


def test_what_was_recorded_is_not_overwritten_and_then_nothing_is_written() -> None:
    Path("hosts").mkdir()
    recorded = replace(A100, name="tesla-t4-r535").to_json()
    Path("hosts/tesla-t4-r535.json").write_text(recorded)
    result = run("import", "-", given=MIXED)
    assert result.exit_code == 2
    assert "`rm hosts/tesla-t4-r535.json`" in result.stderr
    assert [path.name for path in Path("hosts").iterdir()] == ["tesla-t4-r535.json"]
    assert run("import", "-", "--into", "elsewhere", given=MIXED).exit_code == 0


def test_names_of_nodes_cannot_write_to_the_terminal() -> None:
    result = run(
        "import", "-", given=cluster(node("n\x1b[2J", {"nvidia.com/gpu.present": "true"}), node("a", labels()))
    )
    assert result.exit_code == 0
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "the input is empty"),
        (b"apiVersion: v1\n", "the input is YAML"),
        (b"\xff\xfe{\x00}\x00", "is not UTF-8 text"),
        (b" " * 50_000_001, "is larger than 50 MB"),
        (cluster(node("cpu", {})).encode(), "none of 1 nodes has labels for its GPU and driver"),
        (cluster(node("bare", {"nvidia.com/gpu.present": "true"})).encode(), "none of 1 nodes has labels"),
    ],
    ids=["empty", "yaml", "utf-16", "huge", "no GPU", "no labels"],
)
def test_nothing_usable_is_a_usage_error(given: bytes, words: str) -> None:
    result = run("import", "-", given=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert not Path("hosts").exists()


def test_a_file_that_is_not_there() -> None:
    result = run("import", "absent.json")
    assert result.exit_code == 2
    assert "absent.json: No such file or directory" in result.stderr
