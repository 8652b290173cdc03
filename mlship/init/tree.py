"""The files of a repository: a bounded walk that skips what is nobody's source, and bounded reading of text."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.paths import LEFT_OUT

_SKIPPED = {*LEFT_OUT, "site-packages", "dist", "build", ".tox", ".nox", ".mlship"}
_FILES = 20_000
_DEPTH = 8
_TEXT_LIMIT = 1_000_000
_SAFE = re.compile(r"[\w@%+=:,./ -]+")  # what mlship.yaml takes as a path


@dataclass(frozen=True)
class Tree:
    """Regular files, nearest to the root first.

    Attributes:
        files: paths in POSIX form.
        cut: the walk stopped at its limit, so there is more.
    """

    root: Path
    files: tuple[str, ...]
    cut: bool = False

    def __contains__(self, path: str) -> bool:
        return path in self.files

    def text(self, path: str) -> str | None:
        """The text of a file; None where it is not there, too large or cannot be read. Odd bytes are replaced."""
        full = self.root / path
        try:
            if not full.is_file() or full.stat().st_size > _TEXT_LIMIT:
                return None
            return full.read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return None

    def below(self, folder: str) -> tuple[str, ...]:
        """The files of one folder and of those in it."""
        return tuple(file for file in self.files if file.startswith(f"{folder}/"))


def read_tree(repo: Path) -> Tree:
    """Walk a repository.

    Raises:
        UsageError: it is no folder, or cannot be read.
    """
    try:
        next(repo.iterdir(), None)
    except OSError as error:
        raise UsageError(
            f"{repo} cannot be read as a folder: {error.strerror}", hint="name the folder of your model repository"
        ) from error
    files: list[str] = []
    for root, folders, names in os.walk(repo):
        place = Path(root).relative_to(repo)
        folders[:] = sorted(name for name in folders if _walked(Path(root, name), place))
        files += (path for name in sorted(names) if (path := _path(repo, place / name)) is not None)
        if len(files) > _FILES:
            break
    return Tree(repo, tuple(sorted(files[:_FILES], key=lambda path: (path.count("/"), path))), len(files) > _FILES)


def _walked(folder: Path, place: Path) -> bool:
    hidden = folder.name.startswith(".")
    deep = len(place.parts) >= _DEPTH
    return not (hidden or deep or folder.name in _SKIPPED or folder.is_symlink() or (folder / "pyvenv.cfg").exists())


def _path(repo: Path, place: Path) -> str | None:
    """The path of a regular file inside the repository that mlship.yaml could name; None for others."""
    full, path = repo / place, PurePosixPath(place).as_posix()
    try:
        inside = full.is_file() and (not full.is_symlink() or full.resolve().is_relative_to(repo.resolve()))
    except (OSError, RuntimeError):
        return None
    return path if inside and _SAFE.fullmatch(path) else None
