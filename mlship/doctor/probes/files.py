"""Small files and programs of the examined system, whose / may be a folder here. Nothing raises."""

import os
import shutil
from pathlib import Path

from mlship.doctor.facts.fact import Unreadable
from mlship.doctor.probes.inside.loader import real, under
from mlship.driver.child import ChildResult, run_child

HERE = Path("/")
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/snap/bin")
_MOST = 16_000_000  # bytes; /var/lib/dpkg/status has about 5 MB


def live(root: Path) -> bool:
    """Whether the folder is this machine's root, so that programs may be run and libraries called."""
    return os.path.realpath(root) == "/"


def below(root: Path, path: str) -> Path:
    """Resolve an absolute path below `root`, following links as if `root` were /."""
    return Path(path) if root == HERE else Path(under(str(root), real(str(root), path)))


def text_of(path: Path) -> str | None:
    """The text of a file; None if it does not exist or cannot be read."""
    found = text_fact(path)
    return found if isinstance(found, str) else None


def text_at(root: Path, path: str) -> str | Unreadable | None:
    """The text of a file below `root`, as `text_fact`."""
    return text_fact(below(root, path))


def text_fact(path: Path) -> str | Unreadable | None:
    """The text of a file: absent if it does not exist, or unreadable with the reason."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return unreadable(error)


def unreadable(error: OSError) -> Unreadable:
    """The reason why a file cannot be read; `root` is set for a permission error."""
    why = (error.strerror or str(error)).lower()
    return Unreadable(why, root=isinstance(error, PermissionError) and os.geteuid() != 0)


def names_in(path: Path) -> tuple[str, ...] | None:
    """Sorted names in a folder; None if it does not exist or cannot be read."""
    try:
        return tuple(sorted(os.listdir(path)))  # noqa: PTH208  names, not paths
    except OSError:
        return None


def files_in(root: Path, folder: str, *suffixes: str) -> tuple[str, ...]:
    """Sorted paths of the files in a folder with these suffixes; empty if it cannot be read."""
    names = names_in(below(root, folder)) or ()
    return tuple(f"{folder}/{name}" for name in names if not suffixes or name.endswith(suffixes))


def program(root: Path, name: str, folders: tuple[str, ...] = ()) -> str | None:
    """Path of a program: on PATH if the root is this machine's, and in the standard folders."""
    found = shutil.which(name) if root == HERE and not folders else None
    for folder in folders or _FOLDERS:
        if found is None and _is_program(below(root, f"{folder}/{name}")):
            found = f"{folder}/{name}"
    return found


def _is_program(path: Path) -> bool:
    """Whether the file exists and is executable by any user."""
    try:
        return path.is_file() and bool(path.stat().st_mode & 0o111)
    except OSError:
        return False


def run_here(root: Path, argv: list[str], seconds: float) -> ChildResult | None:
    """Run a program of this machine; None if it does not exist, hangs, or the root is another system's."""
    ended = run_child(argv, seconds) if live(root) else None
    return ended if ended and ended.how == "ended" else None
