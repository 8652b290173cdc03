"""The only door to subprocesses: argument lists, streamed output, time limits, nothing left running."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Literal

Reason = Literal["missing", "timeout", "denied"]
LineSink = Callable[[str], None]

_GRACE_SECONDS = 10.0
_LINE_LIMIT = 16 << 20  # characters; a longer line is passed on in parts
_KEPT_LIMIT = 256 << 20  # characters


@dataclass(frozen=True)
class Completed:
    """How a program ended.

    Attributes:
        code: exit code; negative if a signal ended it, as in `subprocess`.
    """

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.code == 0


class ProcessError(Exception):
    """The program could not be run, or did not end in time; callers turn this into an error with a hint."""

    def __init__(self, argv: Sequence[str], reason: Reason) -> None:
        super().__init__(f"{argv[0]}: {reason}")
        self.program = argv[0]
        self.command = " ".join(argv[:3])
        self.reason: Reason = reason


@dataclass(frozen=True)
class Options:
    """Where and how a program runs.

    Attributes:
        on_stdout, on_stderr: called with each line, which `Completed` then does not hold.
        env: added to this process's environment.
        timeout: seconds until the program and its children are stopped; None means no limit.
    """

    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    timeout: float | None = None
    on_stdout: LineSink | None = None
    on_stderr: LineSink | None = None


def signal_name(number: int) -> str:
    """Such as SIGSEGV."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def run(argv: Sequence[str], options: Options = Options()) -> Completed:
    """Run a program to its end and return its output, whatever its exit code.

    The program runs in a session of its own, so that an interruption stops its children too.

    Raises:
        ProcessError: the program is missing, not executable, or did not end in time.
    """
    process = _start(argv, options)
    captured: tuple[list[str], list[str]] = ([], [])
    readers = [
        Thread(target=_pump, args=(stream, kept, sink), daemon=True)
        for stream, kept, sink in zip(
            (process.stdout, process.stderr), captured, (options.on_stdout, options.on_stderr), strict=True
        )
    ]
    for reader in readers:
        reader.start()
    try:
        if not _has_ended(process, options.timeout):
            raise ProcessError(argv, "timeout")
    finally:
        # After Ctrl-C, or if a sink raises, the whole group has to end first.
        _end_group(process)
        for reader in readers:
            reader.join(_GRACE_SECONDS)
    return Completed(tuple(argv), process.returncode, "".join(captured[0]), "".join(captured[1]))


def _has_ended(process: subprocess.Popen[str], timeout: float | None) -> bool:
    """Wait, and return whether it ended in time. With a limit, `Popen.wait` would poll, up to 50 ms late."""
    waiter = Thread(target=process.wait, daemon=True)
    waiter.start()
    waiter.join(timeout)
    return not waiter.is_alive()


def _start(argv: Sequence[str], options: Options) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            list(argv),
            cwd=options.cwd,
            env={**os.environ, **(options.env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ProcessError(argv, "missing") from error
    except PermissionError as error:
        raise ProcessError(argv, "denied") from error


def _pump(stream: IO[str], kept: list[str], sink: LineSink | None) -> None:
    """Pass lines to the sink, or keep them; what is beyond the limits is read and dropped."""
    room = _KEPT_LIMIT
    with stream:
        while line := stream.readline(_LINE_LIMIT):
            if sink is not None:
                sink(line.rstrip("\n"))
            elif room > 0:
                kept.append(line)
                room -= len(line)


def _end_group(process: subprocess.Popen[str]) -> None:
    """Send SIGTERM to the program and its children, then SIGKILL; do nothing if it has ended."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # A process blocked in a kernel driver survives even SIGKILL: do not wait any longer.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
