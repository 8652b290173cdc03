"""`mlship doctor` from a facts file: verdict, exit code, JSON, and broken or hostile facts files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlship import __version__
from mlship.doctor.facts.replay import SIZE_LIMIT
from tests.helpers.command import mlship, mlship_in_process
from tests.helpers.doctor_hosts import FOLDER
from tests.helpers.patience import limit

NOUVEAU = str(FOLDER / "hosts" / "nouveau-owns-gpu.json")


def test_report_order_is_verdict_chain_cause_fix_and_evidence(tmp_path: Path) -> None:
    done = mlship_in_process("doctor", "--replay", NOUVEAU, cwd=tmp_path)
    assert (done.code, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "PROBLEM: nouveau holds the GPU"
    broken = next(line for line in lines if line.startswith("  ✗ GPU bound to nvidia"))
    at = [lines.index(head) for head in (broken, "  Fix", "  Evidence", "  Consequences")]
    assert at == sorted(at)
    assert "        sudo update-initramfs -u" in lines


def test_json_has_the_same_verdict_and_code(tmp_path: Path) -> None:
    done = mlship("doctor", "--replay", NOUVEAU, "--json", cwd=tmp_path)
    plain = json.loads(done.stdout)
    assert (done.code, plain["verdict"]) == (1, "problem")
    assert [cause["finding"]["id"] for cause in plain["causes"]] == ["nouveau-owns-gpu"]


@pytest.mark.parametrize(
    ("name", "start"), [("bare-metal-closed", "HEALTHY"), ("laptop-without-nvidia-gpu", "NO NVIDIA GPU to use here")]
)
def test_a_healthy_host_exits_with_0(name: str, start: str, tmp_path: Path) -> None:
    done = mlship("doctor", "--replay", str(FOLDER / "healthy" / f"{name}.json"), cwd=tmp_path)
    assert done.code == 0
    assert done.stdout.startswith(start)


def test_verbose_lists_every_check(tmp_path: Path) -> None:
    text = mlship_in_process("doctor", "--replay", NOUVEAU, "--verbose", cwd=tmp_path).stdout
    assert "✗ nouveau-owns-gpu" in text
    assert "✓ open-module-on-pre-turing" in text


def test_explain(tmp_path: Path) -> None:
    assert "Sources" in mlship_in_process("doctor", "explain", "nouveau-owns-gpu", cwd=tmp_path).stdout
    done = mlship_in_process("doctor", "explain", "nouveau-owns-gp", cwd=tmp_path)
    assert done.code == 2
    assert "did you mean `nouveau-owns-gpu`?" in done.stderr
    listed = mlship_in_process("doctor", "explain", cwd=tmp_path)
    assert listed.code == 0
    layers = listed.stdout.split("\nkernel module\n")[1].split("\n\n")
    assert "  driver-module-not-loaded\n" in layers[0]


def test_facts_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(mlship("doctor", "--facts-schema", cwd=tmp_path).stdout)["title"] == "Facts of mlship doctor"


BAD = {
    "empty": ("", "is not valid JSON"),
    "cut off": ('{"schema": 1, "host": {"nvml": {"in', "is not valid JSON"),
    "no schema": ("{}", 'no key "schema"'),
    "a list": ("[]", 'no key "schema"'),
    "newer": ('{"schema": 2, "gpus": []}', "unsupported facts schema 2 in `facts.json` (expected 1)"),
    "schema of a wrong type": ('{"schema": [["x"]]}', "(expected 1)"),
    "wrong type": (
        '{"schema": 1, "host": {"nvml": {"init": "18"}}}',
        "host.nvml.init: input should be a valid integer",
    ),
    "slip": ('{"schema": 1, "kernel": {"pci": [{"vendro": "10de"}]}}', "kernel.pci.0.vendro: unknown key"),
    "table for a list": ('{"schema": 1, "messages": {"a": 1}}', "messages"),
    "deep": ('{"schema": 1, "host": ' + "[" * 100_000, "nested too deeply"),
    "deep and whole": ('{"schema": 1, "host": ' + "[" * 300 + "]" * 300 + "}", "recursion limit"),
    "long number": ('{"schema": 1, "host": {"shm": ' + "9" * 5000 + "}}", "is not valid JSON"),
    "half a character": ('{"schema": 1, "messages": ["\\ud800"]}', "is not a facts file"),
    "escape as a key": ('{"schema": 1, "\\u001b]0;x\\u0007\\u001b[31m": 1}', "unknown key"),
    "large": (" " * (SIZE_LIMIT + 1), "larger than 20 MB"),
}


@pytest.mark.parametrize("case", BAD)
def test_each_bad_file_is_one_error(case: str, tmp_path: Path) -> None:
    text, said = BAD[case]
    (tmp_path / "facts.json").write_text(text, encoding="utf-8")
    done = mlship_in_process("doctor", "--replay", "facts.json", cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert len(done.stderr) < 1500


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name, said in (
        ("none.json", "cannot read `none.json`"),
        (".", "cannot read `.`"),
        ("binary.json", "not UTF-8"),
    ):
        done = mlship_in_process("doctor", "--replay", name, cwd=tmp_path)
        assert done.code == 2
        assert said in done.stderr


def test_text_in_facts_is_never_executed(tmp_path: Path) -> None:
    """Neither the terminal nor a shell with a pasted command may execute it."""
    facts = json.loads((FOLDER / "hosts" / "runtime-35-no-libcuda.json").read_text(encoding="utf-8"))
    facts["image"]["reference"] = "x; rm -rf ~ \x1b[2J\x9b31m\nsudo reboot"
    facts["kernel"]["pci"][0]["name"] = "\x1b]0;title\x07"
    facts["host"]["nvml"]["init"] = {"unreadable": "\x1b[31mred\x9b", "root": True}
    (tmp_path / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    for options in ((), ("--verbose",), ("--json",)):
        done = mlship_in_process("doctor", "--replay", "facts.json", *options, cwd=tmp_path)
        assert done.code == 1
        assert "\x1b" not in done.stdout
        assert "\x9b" not in done.stdout
    text = mlship_in_process("doctor", "--replay", "facts.json", cwd=tmp_path).stdout
    assert "docker run --gpus all 'x; rm -rf ~ [2J31m sudo reboot'" in text
    assert "host.nvml.init: [31mred (root can read it)" in text


def test_a_page_is_written_once_and_changes_neither_report_nor_code(tmp_path: Path) -> None:
    done = mlship_in_process("doctor", "--replay", NOUVEAU, "--html", "page.html", cwd=tmp_path)
    assert (done.code, done.stderr) == (1, "wrote page.html\n")
    assert done.stdout == mlship_in_process("doctor", "--replay", NOUVEAU, cwd=tmp_path).stdout
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    again = mlship_in_process("doctor", "--replay", NOUVEAU, "--html", "page.html", cwd=tmp_path)
    assert (again.code, again.stdout) == (2, "")
    assert "page.html` already exists" in again.stderr
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    lost = mlship_in_process("doctor", "--replay", NOUVEAU, "--html", "none/page.html", cwd=tmp_path)
    assert (lost.code, lost.stdout) == (2, "")


def test_colour_only_on_a_terminal(tmp_path: Path) -> None:
    for env, coloured in (({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)):
        done = mlship("doctor", "--replay", NOUVEAU, cwd=tmp_path, env=env)
        assert ("\x1b[1;31m" in done.stdout) == coloured
        assert "PROBLEM: nouveau holds the GPU" in done.stdout


def test_a_terminal_that_cannot_show_the_symbols(tmp_path: Path) -> None:
    done = mlship("doctor", "--replay", NOUVEAU, "--verbose", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert done.code == 1
    assert "nouveau-owns-gpu" in done.stdout


def test_a_replay_uses_no_engine_and_no_library(tmp_path: Path) -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "mlship", "doctor", "--replay", NOUVEAU]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=limit(60))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "mlship.doctor.rules" in imported
    assert not imported & {"docker", "pynvml", "rich.console", "jinja2", "mlship.doctor.probes.run"}
    assert not any(name.startswith("mlship.engine") for name in imported)


def test_the_page_says_what_was_diagnosed_and_when(tmp_path: Path) -> None:
    for name, options, host in (("a.html", (), "nouveau-owns-gpu.json"), ("b.html", ("--mask",), "masked")):
        done = mlship_in_process("doctor", "--replay", NOUVEAU, "--html", name, *options, cwd=tmp_path)
        assert done.code == 1
        page = (tmp_path / name).read_text(encoding="utf-8")
        assert re.search(rf"{host} · \d{{4}}-\d\d-\d\d \d\d:\d\d UTC · mlship {re.escape(__version__)}<", page)
