"""Files and programs of the system in question, whose / may be a folder here."""

import os
import shutil
from pathlib import Path

from mlship import process
from mlship.doctor.facts.fact import Unreadable

HERE = Path("/")
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin")
_MOST_LINKS = 40
_LARGEST = 4_000_000


def below(root: Path, path: str) -> Path:
    """Where `path` lies here. Links, absolute ones too, are followed within the root."""
    if root == HERE:
        return Path(path)
    todo, done, links = [part for part in path.split("/") if part][::-1], root, 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.parent if done != root else root
            continue
        step = done / part
        if links < _MOST_LINKS and step.is_symlink():
            target, links = str(step.readlink()), links + 1
            done = root if target.startswith("/") else done
            todo += [piece for piece in target.split("/") if piece not in {"", "."}][::-1]
        else:
            done = step
    return done


def read(root: Path, path: str) -> str | Unreadable | None:
    """The text of a file; None where there is none."""
    try:
        with below(root, path).open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace")
    except OSError as error:
        return unread(error)


def unread(error: OSError) -> Unreadable | None:
    """Why a file could not be read; None where it is not there."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return None
    return Unreadable((error.strerror or str(error)).lower(), root=_root_could(error))


def _root_could(error: OSError) -> bool:
    return isinstance(error, PermissionError) and os.geteuid() != 0


def files(root: Path, folder: str, *suffixes: str) -> tuple[str, ...]:
    """Paths of the files in a folder that end so, sorted; none where it cannot be read."""
    try:
        names = sorted(entry.name for entry in below(root, folder).iterdir())
    except OSError:
        return ()
    return tuple(f"{folder}/{name}" for name in names if name.endswith(suffixes))


def program(root: Path, name: str, folders: tuple[str, ...] = ()) -> str | None:
    """Path of a program: on PATH where the root is this machine's, and in the usual folders."""
    found = shutil.which(name) if root == HERE and not folders else None
    for folder in folders or FOLDERS:
        if found is None and is_program(below(root, f"{folder}/{name}")):
            found = f"{folder}/{name}"
    return found


def is_program(path: Path) -> bool:
    """A file that somebody may run; what cannot be seen is none."""
    try:
        return path.is_file() and bool(path.stat().st_mode & 0o111)
    except OSError:
        return False


def say(root: Path, argv: list[str], seconds: float) -> process.Completed | None:
    """What a program of this machine says; None where it is not there, hangs, or the root is another system's."""
    if root != HERE:
        return None
    try:
        return process.run(argv, process.Options(timeout=seconds))
    except process.ProcessError:
        return None
