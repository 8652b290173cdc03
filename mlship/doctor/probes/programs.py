"""Files and programs of the examined system, whose / may be a folder here."""

import shutil
from pathlib import Path

from mlship import process
from mlship.doctor.facts.fact import Unreadable
from mlship.doctor.probes.files import below, names_in, text_fact

HERE = Path("/")
FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin")


def text_at(root: Path, path: str) -> str | Unreadable | None:
    """The text of a file; None if it does not exist."""
    found = text_fact(below(root, path))
    return found if isinstance(found, str | Unreadable) else None


def files(root: Path, folder: str, *suffixes: str) -> tuple[str, ...]:
    """Sorted paths of the files in a folder with these suffixes; empty if it cannot be read."""
    names = names_in(below(root, folder)) or ()
    return tuple(f"{folder}/{name}" for name in names if not suffixes or name.endswith(suffixes))


def program(root: Path, name: str, folders: tuple[str, ...] = ()) -> str | None:
    """Path of a program: on PATH if the root is this machine's, and in the standard folders."""
    found = shutil.which(name) if root == HERE and not folders else None
    for folder in folders or FOLDERS:
        if found is None and is_program(below(root, f"{folder}/{name}")):
            found = f"{folder}/{name}"
    return found


def is_program(path: Path) -> bool:
    """Whether the file exists and is executable by any user."""
    try:
        return path.is_file() and bool(path.stat().st_mode & 0o111)
    except OSError:
        return False


def run_here(root: Path, argv: list[str], seconds: float) -> process.Completed | None:
    """Run a program of this machine; None if it does not exist, hangs, or the root is another system's."""
    if root != HERE:
        return None
    try:
        return process.run(argv, process.Options(timeout=seconds))
    except process.ProcessError:
        return None
