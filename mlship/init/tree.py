"""Walk the files of a repository and read them as text, within limits."""

import codecs
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.paths import LEFT_OUT

_SKIPPED = {*LEFT_OUT, "site-packages", "dist", "build", ".tox", ".nox", ".mlship"}
_FILES = 20_000
_DEPTH = 8
_TEXT_LIMIT = 1_000_000
_SAFE = re.compile(r"[\w@%+=:,./ -]+")  # valid as a path in mlship.yaml


@dataclass(frozen=True)
class Tree:
    """Regular files, ordered by depth.

    Attributes:
        files: POSIX paths.
        cut: the walk stopped at its limit.
    """

    root: Path
    files: tuple[str, ...]
    cut: bool = False

    def __contains__(self, path: str) -> bool:
        return path in self.files

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders that hold files, directly or not."""
        return frozenset(str(folder) for file in self.files for folder in PurePosixPath(file).parents)

    def text(self, path: str, limit: int = _TEXT_LIMIT) -> str | None:
        """The text of a file; None if missing, too large or unreadable. Invalid characters are replaced."""
        full = self.root / path
        try:
            if not full.is_file() or full.stat().st_size > limit:
                return None
            return decoded(full.read_bytes())
        except (OSError, ValueError):
            return None

    def is_utf8(self, path: str) -> bool:
        """Whether other programs, which expect UTF-8, can read a text file."""
        try:
            (self.root / path).read_bytes().decode("utf-8-sig")
        except (OSError, ValueError):
            return False
        return True

    def below(self, folder: str) -> tuple[str, ...]:
        """All files under a folder."""
        return tuple(file for file in self.files if file.startswith(f"{folder}/"))


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark, as PowerShell writes it."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_tree(repo: Path) -> Tree:
    """Walk a repository.

    Raises:
        UsageError: `repo` is not a readable folder.
    """
    try:
        next(repo.iterdir(), None)
    except OSError as error:
        raise UsageError(
            f"cannot read the folder `{repo}`: {error.strerror}", hint="pass the folder of your model repository"
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
    hidden = folder.name.startswith(".") or folder.suffix == ".egg-info"
    deep = len(place.parts) >= _DEPTH
    return not (hidden or deep or folder.name in _SKIPPED or folder.is_symlink() or (folder / "pyvenv.cfg").exists())


def _path(repo: Path, place: Path) -> str | None:
    """The path of a regular file inside the repository, if it is valid in mlship.yaml."""
    full, path = repo / place, PurePosixPath(place).as_posix()
    try:
        inside = full.is_file() and (not full.is_symlink() or full.resolve().is_relative_to(repo.resolve()))
    except (OSError, RuntimeError):
        return None
    return path if inside and _SAFE.fullmatch(path) else None
