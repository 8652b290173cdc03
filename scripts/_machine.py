"""The ground floor of scripts/engine: talk, problems, subprocesses, background programs and what is remembered."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ENGINE_TROUBLE = 5
TRY_AGAIN = 75
INTERRUPTED = 130

# What apt, mmdebstrap and docker write when the network or the disk is to blame: trying again may help.
_PASSING = (
    "could not resolve",
    "temporary failure",
    "failed to fetch",
    "unable to fetch",
    "could not connect",
    "connection refused",
    "connection timed out",
    "timeout",
    "no space left on device",
    "could not get lock",
)

_started = time.monotonic()


class Problem(Exception):  # noqa: N818  (it is told to a user, like mlship's own)
    """Something the user can act on: what happened, why, and the next command. Never shown as a traceback."""

    def __init__(self, what: str, why: str, remedy: str, code: int = ENGINE_TROUBLE) -> None:
        super().__init__(what)
        self.what, self.why, self.remedy, self.code = what, why, remedy, code

    def __str__(self) -> str:
        return f"error: {self.what}\n  why:  {_indented(self.why)}\n  next: {_indented(self.remedy)}"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended: 127 is "no such program", 124 "ran past its time limit"."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0


@dataclasses.dataclass(frozen=True)
class State:
    """What one run of scripts/engine tells the next one."""

    dockerd: int | None = None
    registry: int | None = None
    port: int | None = None
    base: str = ""  # "pulled", "stand-ins", or "" for not yet decided
    recipe: str = ""  # which recipe made the stand-ins in the registry, once they were checked
    installed: tuple[str, ...] = ()

    @property
    def mirror(self) -> str:
        return f"127.0.0.1:{self.port}" if self.base == "stand-ins" and self.port else ""


def say(text: str) -> None:
    """Talk, never data: stderr, with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f} s] {text}", file=sys.stderr, flush=True)


def run(argv: Sequence[str], *, limit: float = 60, env: dict[str, str] | None = None) -> Result:
    """Run to the end and keep the output; never raises for what the command does."""
    whole_env = {**os.environ, **env} if env else None
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            env=whole_env,
            check=False,
        )
    except FileNotFoundError:
        return Result(127, "", f"{argv[0]}: no such program")
    except subprocess.TimeoutExpired:
        return Result(124, "", f"{argv[0]}: no end after {limit:.0f} s")
    return Result(done.returncode, done.stdout, done.stderr)


def run_unbroken(argv: Sequence[str], env: dict[str, str]) -> Result:
    """Run to the end even through Ctrl-C, which is passed on after it: a package is never left half installed."""
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, **env},
        start_new_session=True,
    )
    try:
        out, err = child.communicate()
    except KeyboardInterrupt:
        say(f"interrupted; letting {argv[0]} finish first")
        child.communicate()
        raise
    return Result(child.returncode, out, err)


def code_for(text: str) -> int:
    """75 where trying again may help (network, disk), 5 otherwise."""
    return TRY_AGAIN if any(sign in text.lower() for sign in _PASSING) else ENGINE_TROUBLE


def last_lines(text: str, count: int = 12) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "mlship-engine"


def load_state() -> State:
    """The remembered state; an unreadable or foreign file counts as none, since all of it can be found out again."""
    try:
        raw = json.loads((state_dir() / "state.json").read_text())
        known = {field.name for field in dataclasses.fields(State)}
        values = {key: value for key, value in raw.items() if key in known}
        return State(**{**values, "installed": tuple(values.get("installed", ()))})
    except (OSError, ValueError, AttributeError, TypeError):
        return State()


def save_state(state: State) -> State:
    write_whole(state_dir() / "state.json", json.dumps(dataclasses.asdict(state), indent=2) + "\n")
    return state


def write_whole(path: Path, text: str) -> None:
    """Write all of it or nothing: whoever reads at the same time sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One `up` or `down` at a time: a second one waits and then finds the work done."""
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another scripts/engine is at work; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclasses.dataclass(frozen=True)
class Background:
    """A program kept running after this script ends. The config file in its argv tells it from anybody else's."""

    program: str
    argv: tuple[str, ...]
    config: Path

    @property
    def log(self) -> Path:
        return state_dir() / f"{self.program}.log"

    def is_alive(self, pid: int | None) -> bool:
        """Whether the recorded pid is still this very program: pids are reused."""
        argv = command_line(pid)
        return bool(argv) and Path(argv[0]).name == self.program and str(self.config) in argv

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            # A session of its own: it outlives this script and the terminal, and Ctrl-C does not reach it.
            return subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )

    def wait_until(self, answers: Callable[[], bool], child: subprocess.Popen[bytes], limit: float) -> None:
        """Wait until it answers; a program that died, or takes too long, is a Problem with its own last words."""
        end = time.monotonic() + limit
        while not answers():
            if child.poll() is not None:
                raise self._trouble(f"ended at once (exit {child.returncode})")
            if time.monotonic() > end:
                raise self._trouble(f"did not answer in {limit:.0f} s")
            time.sleep(0.1)

    def stop(self, pid: int, limit: float = 30) -> None:
        """Ask it to end and wait; it is never killed hard, since dockerd would leave its containerd behind."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + limit
        while self.is_alive(pid):
            if time.monotonic() > end:
                raise Problem(f"{self.program} (pid {pid}) has not ended", f"no end after {limit:.0f} s", f"kill {pid}")
            time.sleep(0.1)

    def _trouble(self, how: str) -> Problem:
        words = self.log.read_text(errors="replace") if self.log.exists() else ""
        why = f"the end of {self.log}:\n{last_lines(words)}"
        return Problem(
            f"{self.program} was started but {how}", why, "mend that, then: scripts/engine up", code_for(words)
        )


def command_line(pid: int | None) -> list[str]:
    """The argv of a running process; empty for none, and for one that is dead but not yet collected."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0") if raw else []


def _indented(text: str) -> str:
    return text.replace("\n", "\n        ")
