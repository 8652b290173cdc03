"""The one place where errors become exit codes: message, hint, code; never a traceback for what a user can cause."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mlship import __version__
from mlship.cli.app import app
from tests.helpers.command import mlship, mlship_in_process
from tests.helpers.toy import YAML, toy

runner = CliRunner()


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"mlship {__version__}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_on_a_full_disk_is_no_bug(option: str) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mlship", option], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr.startswith("error: the disk is full")) == (75, True), done.stderr


@pytest.mark.parametrize("command", ["schema", "ci github", "--version"])
def test_a_closed_stdout_is_no_bug(command: str, tmp_path: Path) -> None:
    """As in a service, or with `>&-`."""
    shell = f"{sys.executable} -m mlship {command} >&-"
    done = subprocess.run(["sh", "-c", shell], cwd=toy(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_every_command_and_exit_code() -> None:
    text = " ".join(runner.invoke(app, ["--help"]).output.split())
    assert all(
        name in text
        for name in (
            "init",
            "lock",
            "plan",
            "dockerfile",
            "build",
            "smoke",
            "hosts",
            "schema",
            "4 no CUDA match",
            "130 interrupted",
        )
    )


def test_a_wrong_command_is_answered_with_those_that_may_be_meant() -> None:
    done = runner.invoke(app, ["buid"])
    assert done.exit_code == 2
    assert "No such command 'buid'. Did you mean 'build'" in done.output


@pytest.mark.parametrize("command", ["plan", "build", "dockerfile", "lock"])
def test_without_mlship_yaml(command: str, tmp_path: Path) -> None:
    done = mlship_in_process(command, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert "error: no `mlship.yaml`" in done.stderr
    assert "hint: run `mlship init`" in done.stderr


@pytest.mark.slow
def test_the_installed_program_reports_errors_the_same_way(tmp_path: Path) -> None:
    assert mlship("plan", cwd=tmp_path) == mlship_in_process("plan", cwd=tmp_path)
    assert mlship("plan", "--no-such-option", cwd=tmp_path).code == 2


def test_without_a_lock(tmp_path: Path) -> None:
    done = mlship_in_process("plan", cwd=toy(tmp_path))
    assert done.code == 3
    assert "hint: run `mlship lock`" in done.stderr


def test_usage_errors_keep_exit_2(tmp_path: Path) -> None:
    assert mlship_in_process("plan", "--no-such-option", cwd=tmp_path).code == 2
    assert mlship_in_process("no-such-command", cwd=tmp_path).code == 2
    assert mlship_in_process("plan", "-C", "no-such-folder", cwd=tmp_path).code == 2


def test_bad_tags_are_refused_before_anything_runs(tmp_path: Path) -> None:
    done = mlship_in_process("build", "--tag", "$(id)", cwd=toy(tmp_path))
    assert done.code == 2


def test_options_that_exclude_each_other_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = mlship_in_process("build", "--smoke", "gpu", "--no-smoke", cwd=toy(tmp_path))
    assert done.code == 2
    assert "`--smoke gpu` cannot be used with `--no-smoke`" in done.stderr


def test_markup_and_escapes_in_values_are_shown_as_they_are(tmp_path: Path) -> None:
    repo = toy(tmp_path, mlship_yaml=YAML.replace("name: toy", 'name: "[bold]x\\e[31m"'))
    done = mlship_in_process("plan", cwd=repo)
    assert done.code == 2
    assert "[bold]x" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_bug_of_ours_is_70_with_a_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("made for this test")

    monkeypatch.setattr("mlship.build.prepare.prepare", broken)
    done = runner.invoke(app, ["plan", "-C", str(tmp_path)])
    assert done.exit_code == 70
    assert "a bug in mlship: ZeroDivisionError" in done.stderr
    assert "open an issue" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(28, 75), (13, 2)])
def test_a_full_disk_is_transient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, code: int) -> None:
    def full(*_: object) -> None:
        raise OSError(number, "No space left on device", "/var/x")

    monkeypatch.setattr("mlship.build.prepare.prepare", full)
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == code


def test_a_user_without_a_name_and_a_home_has_the_root_folder() -> None:
    """As where a cluster chooses the user id: pathlib would raise RuntimeError."""
    program = """
import pathlib, pwd, sys
def unknown(_): raise KeyError
pwd.getpwuid = unknown
sys.argv = ["mlship", "--version"]
from mlship.__main__ import main
try:
    main()
except SystemExit:
    print(pathlib.Path.home())
"""
    env = {key: value for key, value in os.environ.items() if key != "HOME"}
    done = subprocess.run((sys.executable, "-c", program), env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"mlship {__version__}", "/"]


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlship.build.prepare.prepare", interrupted)
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals) -> None:
    monkeypatch.setattr("mlship.build.prepare.prepare", lambda *_, **__: signal.raise_signal(number))
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == 130


def test_under_nohup_a_hangup_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr("mlship.build.prepare.prepare", lambda *_, **__: signal.raise_signal(signal.SIGHUP))
        assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code != 130
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_import_ends_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An exception in importlib's own code can leave the import lock locked: other threads then wait forever."""
    done: list[str] = []
    code = "import signal\nsignal.raise_signal(signal.SIGINT)\ndone.append('import')"
    importing = compile(code, "<frozen importlib._bootstrap>", "exec")

    def interrupted(*_: object, **__: object) -> None:
        exec(importing, {"done": done})
        time.sleep(5)
        done.append("more")

    monkeypatch.setattr("mlship.build.prepare.prepare", interrupted)
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == 130
    assert done == ["import"]


class _Lost:
    """As a callback of pydantic's core: Python drops what it raises."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_that_python_drops_comes_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: int
) -> None:
    done: list[str] = []

    def interrupted(*_: object, **__: object) -> None:
        for _number in range(times):
            _Lost()
        done.append("dropped")
        time.sleep(5)
        done.append("more")

    before = sys.unraisablehook
    monkeypatch.setattr("mlship.build.prepare.prepare", interrupted)
    result = runner.invoke(app, ["plan", "-C", str(tmp_path)])
    assert (result.exit_code, done, sys.unraisablehook) == (130, ["dropped"], before)
    assert "Exception ignored" not in result.output


def test_an_interruption_that_a_library_wraps_is_no_bug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pydantic raises SchemaError when it is interrupted while it builds a validator."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError from None

    monkeypatch.setattr("mlship.build.prepare.prepare", interrupted)
    result = runner.invoke(app, ["plan", "-C", str(tmp_path)])
    assert (result.exit_code, "a bug in mlship" in result.output) == (130, False)


def test_an_interrupted_lock_says_what_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlship.lock.resolve.resolve", interrupted)
    done = runner.invoke(app, ["lock", "-C", str(toy(tmp_path))])
    assert (done.exit_code, "until then, the lock is out of date" in done.stderr) == (130, True)


def test_a_second_ctrl_c_does_not_stop_the_cleaning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cleaned: list[bool] = []

    def interrupted_twice(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("mlship.build.prepare.prepare", interrupted_twice)
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == 130
    assert cleaned
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_at_a_question_is_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def asked(*_: object) -> None:
        raise typer.Abort

    monkeypatch.setattr("mlship.build.prepare.prepare", asked)
    assert runner.invoke(app, ["plan", "-C", str(tmp_path)]).exit_code == 130


def test_no_word_between_colons_becomes_a_picture(tmp_path: Path) -> None:
    repo = toy(tmp_path, mlship_yaml=YAML.replace("name: toy", 'name: "a:x:b"'))
    assert "'a:x:b'" in mlship_in_process("plan", cwd=repo).stderr


@pytest.mark.parametrize("command", [("scan", ""), ("models", "ls", "--store", ""), ("audit", "", "--json")])
def test_an_empty_argument_is_not_the_current_folder(command: tuple[str, ...], tmp_path: Path) -> None:
    done = mlship_in_process(*command, cwd=tmp_path)
    assert (done.code, done.stdout, "error: an argument is empty" in done.stderr) == (2, "", True)


@pytest.mark.slow
def test_signs_are_written_out_where_the_locale_has_none(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\n")
    done = mlship("audit", "Dockerfile", cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert (done.code, "\\u2717 user" in done.stdout) == (1, True), done.stderr


def test_schema_is_json(tmp_path: Path) -> None:
    import json

    assert json.loads(mlship_in_process("schema", cwd=tmp_path).stdout)["title"] == "mlship.yaml"


@pytest.mark.parametrize("command", [(), ("doctor",), ("hosts",), ("models",), ("shadow",), ("ci",)])
def test_help_cuts_no_description(command: tuple[str, ...], tmp_path: Path) -> None:
    """In a process of its own: Typer's test runner has two more columns than a terminal."""
    lines = mlship(*command, "--help", cwd=tmp_path, env={"COLUMNS": "80"}).stdout.splitlines()
    assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []
    assert max(map(len, lines)) <= 80
