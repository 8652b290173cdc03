"""Reading small files below a folder that stands for /, whatever is or is not there."""

import os
from pathlib import Path

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unknown, Unreadable

_MOST = 16_000_000  # bytes; /var/lib/dpkg/status is some 5 MB


def below(root: Path, path: str) -> Path:
    """Where an absolute path lies. Links within `root` are followed as if `root` were /."""
    if root == Path("/"):
        return Path(path)
    where, parts, steps = root, path.strip("/").split("/"), 0
    while parts:
        part = parts.pop(0)
        if part in {"", ".", ".."}:
            where = where.parent if part == ".." and where != root else where
            continue
        step = where / part
        if step.is_symlink() and steps < 40:
            steps += 1
            target = os.readlink(step)  # noqa: PTH115  its text, not a path
            where = root if target.startswith("/") else where
            parts = target.strip("/").split("/") + parts
        else:
            where = step
    return where


def text_of(path: Path) -> str | None:
    """The text of a file; None where it is not there or cannot be read."""
    found = text_fact(path)
    return found if isinstance(found, str) else None


def text_fact(path: Path) -> Fact[str]:
    """The text of a file; absent where it is not there, unreadable with the reason."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return unreadable(error)


def unreadable(error: OSError) -> Unreadable:
    """Why a file could not be read; root helps where permission is what lacks."""
    why = (error.strerror or str(error)).lower()
    return Unreadable(why, root=isinstance(error, PermissionError) and os.geteuid() != 0)


def names_in(path: Path) -> tuple[str, ...] | None:
    """What a folder holds, sorted; None where it is not there or cannot be read."""
    try:
        return tuple(sorted(os.listdir(path)))  # noqa: PTH208  names, not paths
    except OSError:
        return None


def absent_if(folder: Path) -> Unknown | None:
    """What to say of something that is not in a folder: absent where there is such a folder, else unknown."""
    return None if folder.is_dir() else UNKNOWN
