"""A program of `inside` as a process of its own, with a limit that holds even where the process cannot be ended."""

import json
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlship import process

INSIDE = Path(__file__).parent / "inside"
_EXTRA_SECONDS = 0.5


@dataclass
class ChildResult:
    """How a program ended.

    Attributes:
        lines: of its stdout, as far as they came.
        how: "late" where it gave no more answer in time.
        signal: name of the one that ended it.
        stderr: what it said there.
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
        if self.code is None or self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


def run_inside(
    program: str, arguments: Sequence[str], seconds: float, env: Mapping[str, str] | None = None
) -> ChildResult:
    """Run one of our programs with this Python, nothing of this environment's packages or current folder with it."""
    argv = [sys.executable, "-I", "-S", str(INSIDE / f"{program}.py"), *arguments]
    return run(argv, seconds, env)


def run(argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> ChildResult:
    """Run a program; never raises, and never waits much longer than `seconds`.

    A process inside a call of a sick kernel driver cannot be ended, not even by SIGKILL: it is left behind.
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
        ended.how = "late" if error.reason == "timeout" else "missing"
    except OSError as error:
        ended.how, ended.stderr = "missing", str(error)
    else:
        ended.code, ended.stderr, ended.how = done.code, done.stderr, "ended"


def json_line(text: str) -> dict[str, object] | None:
    """A line as an object; None where it is none, be it cut off."""
    try:
        plain: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else None
