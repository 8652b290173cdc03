"""Runs a program as a process of its own, with a time limit that holds even if the process cannot be ended."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from mlship import process
from mlship.background import in_background
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
        return process.signal_name(-self.code) if self.code and self.code < 0 else None

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


def run_child(argv: Sequence[str], seconds: float) -> ChildResult:
    """Run a program; never raises, and never waits much longer than `seconds`.

    A process inside a call of a hung kernel driver cannot be ended, not even by SIGKILL: it is left behind.
    """
    lines: list[str] = []
    running = in_background(partial(process.run, argv, process.Options(timeout=seconds, on_stdout=lines.append)))
    try:
        done = running.result(seconds + _EXTRA_SECONDS)
    except TimeoutError:
        return ChildResult(list(lines))
    except (process.ProcessError, OSError) as error:
        late = isinstance(error, process.ProcessError) and error.reason == "timeout"
        return ChildResult(list(lines), "late") if late else ChildResult(list(lines), "missing", None, str(error))
    return ChildResult(lines, "ended", done.code, done.stderr)
