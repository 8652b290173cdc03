"""Read small files below a folder that stands for /, without ever raising."""

import os
from pathlib import Path

from mlship.doctor.facts.fact import Fact, Unreadable

_MOST = 16_000_000  # bytes; /var/lib/dpkg/status has about 5 MB


def below(root: Path, path: str) -> Path:
    """Resolve an absolute path below `root`, following links as if `root` were /."""
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
            target = os.readlink(step)  # noqa: PTH115  text, not a path
            where = root if target.startswith("/") else where
            parts = target.strip("/").split("/") + parts
        else:
            where = step
    return where


def text_of(path: Path) -> str | None:
    """The text of a file; None if it does not exist or cannot be read."""
    found = text_fact(path)
    return found if isinstance(found, str) else None


def text_fact(path: Path) -> Fact[str]:
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
