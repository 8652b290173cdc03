"""Runs a program as a process of its own, with a time limit that holds even if the process cannot be ended."""

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlship import process
from mlship.driver.answer import DriverAnswer, read_answer

DRIVER_PROGRAM = Path(__file__).with_name("ask.py")
_EXTRA_SECONDS = 0.5


@dataclass
class ChildResult:
    """How a program ended.

    Attributes:
        lines: of its stdout, as far as they came.
        how: "late" if it did not end in time, "missing" if it could not be started.
    """

    lines: list[str] = field(default_factory=list)
    how: Literal["ended", "late", "missing"] = "late"
    code: int | None = None
    stderr: str = ""

    @property
    def ok(self) -> bool:
        return self.how == "ended" and self.code == 0

    @property
    def stdout(self) -> str:
        return "\n".join(self.lines)

    @property
    def signal(self) -> str | None:
        """Name of the signal that ended it."""
        if self.code is None or self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"

    @property
    def driver(self) -> DriverAnswer:
        """What `mlship.driver.ask` reported, if that was the program."""
        code = 1 if self.how == "missing" else self.code
        return read_answer(self.lines, timed_out=self.how == "late", signal=self.signal, code=code, stderr=self.stderr)


def ask_driver(arguments: Sequence[str], seconds: float) -> DriverAnswer:
    """Run `mlship.driver.ask` on this machine; never raises."""
    return run_script(DRIVER_PROGRAM, arguments, seconds).driver


def run_script(script: Path, arguments: Sequence[str], seconds: float) -> ChildResult:
    """Run a script with this Python, isolated from site-packages, PYTHON* variables and the current folder."""
    return run_child([sys.executable, "-I", "-S", str(script), *arguments], seconds)


def run_child(argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> ChildResult:
    """Run a program; never raises, and never waits much longer than `seconds`.

    A process inside a call of a hung kernel driver cannot be ended, not even by SIGKILL: it is left behind.
    """
    ended = ChildResult()
    worker = threading.Thread(target=_work, args=(argv, seconds, env, ended), daemon=True)
    worker.start()
    worker.join(seconds + _EXTRA_SECONDS)
    return ChildResult(list(ended.lines), ended.how, ended.code, ended.stderr)


def _work(argv: Sequence[str], seconds: float, env: Mapping[str, str] | None, ended: ChildResult) -> None:
    options = process.Options(timeout=seconds, env=env, on_stdout=ended.lines.append)
    try:
        done = process.run(argv, options)
    except process.ProcessError as error:
        if error.reason != "timeout":
            ended.how, ended.stderr = "missing", str(error)
    except OSError as error:
        ended.how, ended.stderr = "missing", str(error)
    else:
        ended.code, ended.stderr, ended.how = done.code, done.stderr, "ended"
