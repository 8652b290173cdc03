"""What the scripts share: progress messages, errors, subprocesses, background programs and saved state."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ENGINE_TROUBLE = 5
TRY_AGAIN = 75
INTERRUPTED = 130
RUN_AGAIN = "run `scripts/engine up` again"

# What apt, mmdebstrap and docker print for errors of the network or the disk, where a retry may help.
_TRANSIENT = (
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


class Problem(Exception):  # noqa: N818  (a report to the user, not a bug)
    """An error that the user can act on: what happened, why, and a hint. Never shown as a traceback."""

    def __init__(self, what: str, why: str, hint: str, code: int = ENGINE_TROUBLE) -> None:
        super().__init__(what)
        self.what, self.why, self.hint, self.code = what, why, hint, code

    def __str__(self) -> str:
        return f"error: {self.what}\n{textwrap.indent(self.why, '  ')}\nhint: {self.hint}"


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended: 127 if there is no such program, 124 if it exceeded its time limit."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0


@dataclasses.dataclass(frozen=True)
class State:
    """What scripts/engine saves for its next run."""

    dockerd: int | None = None
    registry: int | None = None
    port: int | None = None
    base: str = ""  # "pulled", "stand-ins", or "" for not yet decided
    recipe: str = ""  # the recipe of the checked stand-ins in the registry
    installed: tuple[str, ...] = ()

    @property
    def mirror(self) -> str:
        return f"127.0.0.1:{self.port}" if self.base == "stand-ins" and self.port else ""


def say(text: str) -> None:
    """Print progress to stderr, with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f} s] {text}", file=sys.stderr, flush=True)


def run(argv: Sequence[str], *, limit: float = 60, env: dict[str, str] | None = None) -> Result:
    """Run to the end and capture the output. A failure is a Result, not an exception."""
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
        return Result(124, "", f"{argv[0]}: timed out after {limit:.0f} s")
    return Result(done.returncode, done.stdout, done.stderr)


def run_unbroken(argv: Sequence[str], env: dict[str, str]) -> Result:
    """Run to the end even after Ctrl-C, which is raised afterwards: no package is left half installed."""
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
    """75 if a retry may help (network, disk), else 5."""
    return TRY_AGAIN if any(sign in text.lower() for sign in _TRANSIENT) else ENGINE_TROUBLE


def last_lines(text: str, count: int = 12) -> str:
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def state_dir() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "mlship-engine"


def load_state() -> State:
    """The saved state; an empty one if the file cannot be read, since all of it can be found again."""
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
    """Replace the file atomically: readers see the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Allow one `up` or `down` at a time; a second one waits and then finds the work done."""
    state_dir().mkdir(parents=True, exist_ok=True)
    with (state_dir() / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another scripts/engine")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclasses.dataclass(frozen=True)
class Background:
    """A program that outlives this script; the config file in its argv identifies it."""

    program: str
    argv: tuple[str, ...]
    config: Path

    @property
    def log(self) -> Path:
        return state_dir() / f"{self.program}.log"

    def is_alive(self, pid: int | None) -> bool:
        """Whether the recorded pid is still this program, since pids are reused."""
        argv = command_line(pid)
        return bool(argv) and Path(argv[0]).name == self.program and str(self.config) in argv

    def start(self) -> subprocess.Popen[bytes]:
        self.log.unlink(missing_ok=True)
        return start_detached(self.argv, self.log)

    def wait_until(self, answers: Callable[[], bool], child: subprocess.Popen[bytes], limit: float) -> None:
        wait_until(answers, child, self.log, limit, f"fix the cause, then {RUN_AGAIN}")

    def stop(self, pid: int, limit: float = 30) -> None:
        """Send SIGTERM and wait. There is no SIGKILL, after which dockerd would leave its containerd running."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + limit
        while self.is_alive(pid):
            if time.monotonic() > end:
                why = f"it is still running {limit:.0f} s after SIGTERM"
                raise Problem(f"cannot stop `{self.program}` (pid {pid})", why, f"run `kill {pid}`")
            time.sleep(0.1)


def start_detached(argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program in its own session: it outlives this script and the terminal, and gets no Ctrl-C."""
    with log.open("ab") as sink:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd="/", start_new_session=True
        )


def wait_until(answers: Callable[[], bool], child: subprocess.Popen[bytes], log: Path, limit: float, hint: str) -> None:
    """Wait up to `limit` seconds; raise a Problem with the end of the log if the program exits or does not answer."""
    end = time.monotonic() + limit
    while not answers():
        if child.poll() is not None or time.monotonic() > end:
            code = child.returncode
            how = f"did not answer within {limit:.0f} s" if code is None else f"exited with code {code}"
            output = log.read_text(errors="replace")
            raise Problem(f"`{log.stem}` {how}", f"the end of {log}:\n{last_lines(output)}", hint, code_for(output))
        time.sleep(0.05)


def port_answers(port: int) -> bool:
    """Whether something listens on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def file_system(folder: str, facts: Path = Path("/sys/fs/ext4")) -> str:
    """The file system of a folder. For ext4, also whether it has no journal.

    Without one, the kernel reuses no file number for minutes after its file was deleted, and looks at all of these
    numbers for each file that it creates (`recently_deleted` in fs/ext4/ialloc.c).
    """
    found = run(("findmnt", "--noheadings", "--first-only", "--output", "FSTYPE,SOURCE", "--target", folder)).out
    kind, source, *_ = [*found.split(), "unknown", ""]
    journal = facts / Path(source).name / "journal_task"
    without = kind == "ext4" and journal.is_file() and journal.read_text().strip() == "<none>"
    return f"{kind} without a journal" if without else kind


def command_line(pid: int | None) -> list[str]:
    """The argv of a running process; empty if there is none or it is a zombie."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return raw.decode(errors="replace").rstrip("\0").split("\0") if raw else []
