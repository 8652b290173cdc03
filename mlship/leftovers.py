"""Nothing outlives its run: temporary folders, containers and images of runs that were killed are removed by the next.

A folder is locked as long as its run lives. A container and an image name their run: the boot of the machine, the PID
namespace, the user, the process and when it started; a run that cannot be identified is left alone.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

OWN_IMAGES = "mlship-run"
_PREFIX = "mlship-run-"
_NEW = "mlship-new-"  # not locked yet; empty, and renamed at once


@contextmanager
def temporary_folder(purpose: str, beside: Path | None = None) -> Iterator[Path]:
    """A private folder in $TMPDIR, or hidden in the folder of `beside`, which is removed in the end."""
    parent = beside.parent if beside else Path(tempfile.gettempdir())
    prefix = f".{beside.name}.{_PREFIX}" if beside else _PREFIX
    remove_dead_folders(parent, prefix)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems cannot; then no one can take the folder for a dead run's
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new = new.rename(parent / f"{prefix}{purpose}-{new.name.removeprefix(_NEW)}")
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(handle)


def remove_dead_folders(parent: Path, prefix: str = _PREFIX) -> None:
    """Remove the folders of this user's runs that were killed."""
    with suppress(OSError):
        for entry in list(os.scandir(parent)):
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):  # removed by now, of another user, or locked: its run lives
                    _remove_if_dead(Path(entry.path))


def _remove_if_dead(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(handle).st_uid == os.geteuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def this_run() -> str:
    """Identifies this process among all machines, boots and PID namespaces."""
    return f"{_here()}/{os.getpid()}/{_started(os.getpid()) or 'unknown'}"


def own_image_name() -> str:
    """A name for an image that only this run uses."""
    return f"{OWN_IMAGES}:{this_run().replace('/', '_')}_{uuid4().hex[:8]}"


def is_dead_image(name: str) -> bool:
    """Whether a name is an `own_image_name` of a run that has ended."""
    repository, _, tag = name.partition(":")
    return repository == OWN_IMAGES and is_dead("/".join(tag.split("_")[:3]))


def is_dead(run: str) -> bool:
    """Whether a run was this user's, on this boot of this machine, in this PID namespace, and has ended."""
    here, _, process = run.partition("/")
    pid, _, started = process.partition("/")
    if here != _here() or "unknown" in run or not pid.isdecimal():
        return False
    return _started(int(pid)) != started


@cache
def _here() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}-{os.geteuid()}"
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the boot; None if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()  # the program's name may contain spaces and parentheses
    return None if fields[0] == "Z" else fields[19]
