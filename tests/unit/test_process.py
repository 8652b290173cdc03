"""The one door for subprocesses: real programs, real pipes, nothing left running."""

import os
import signal
import sys
import time
from pathlib import Path
from threading import Timer, get_ident

import pytest

from mlship import process


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_streams_and_keeps_both_outputs_apart() -> None:
    seen: list[str] = []
    done = process.run(
        python("import sys; print('a'); print('b', file=sys.stderr)"), process.Options(on_stderr=seen.append)
    )
    assert (done.ok, done.stdout, done.stderr, seen) == (True, "a\n", "", ["b"])


def test_output_beyond_the_limits_is_read_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LINE_LIMIT", 1000)
    monkeypatch.setattr(process, "_KEPT_LIMIT", 2500)
    seen: list[str] = []
    program = python("import sys; sys.stdout.write('x' * 1_000_000); sys.stderr.write('y' * 5000)")
    done = process.run(program, process.Options(on_stderr=seen.append))
    assert (done.ok, len(done.stdout), seen) == (True, 3000, ["y" * 1000] * 5)


def test_a_megabyte_on_stderr_does_not_block() -> None:
    done = process.run(python("import sys; sys.stderr.write('x' * 1_000_000 + '\\n'); print('end')"))
    assert (done.stdout, len(done.stderr)) == ("end\n", 1_000_001)


def test_exit_codes_are_results() -> None:
    assert process.run(python("raise SystemExit(7)")).code == 7


@pytest.mark.parametrize(("program", "reason"), [("mlship-no-such-program", "missing"), ("/etc/passwd", "denied")])
def test_what_cannot_run_says_why(program: str, reason: str) -> None:
    with pytest.raises(process.ProcessError) as caught:
        process.run((program,))
    assert caught.value.reason == reason


def test_timeout_ends_the_grandchildren_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        f"open({str(pid)!r}, 'w').write(str(child.pid)); child.wait()"
    )
    with pytest.raises(process.ProcessError, match="timeout"):
        process.run(python(code), process.Options(timeout=1.5))
    assert gone(int(pid.read_text()))


def test_a_time_limit_does_not_make_it_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    sleepers: list[int] = []  # threads: one that another test left may sleep meanwhile
    monkeypatch.setattr(time, "sleep", lambda _: sleepers.append(get_ident()))
    assert process.run(python("import time; time.sleep(0.3)"), process.Options(timeout=60)).ok
    assert get_ident() not in sleepers


def test_interruption_ends_the_program(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    timer = Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        process.run(python(code))
    assert gone(int(pid.read_text()))


def gone(pid: int) -> bool:
    """The process has ended (a zombie of another process counts as ended)."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False
