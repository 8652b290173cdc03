"""Walk the files of a repository and read them as text, within limits."""

import codecs
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from mlship.errors import UsageError
from mlship.project.paths import LEFT_OUT, leads_outside
from mlship.project.values import needs_no_quoting

# Their code is for people who work on the repository.
SIDE_FOLDERS = {"tests", "test", "docs", "doc", "notebooks", "training", "scripts", "examples", "tools"}
_SKIPPED = {*LEFT_OUT, "site-packages", "dist", "build", ".tox", ".nox", ".mlship"}
_FILES = 20_000
_DEPTH = 8
_TEXT_LIMIT = 1_000_000


@dataclass(frozen=True)
class Tree:
    """Regular files, ordered by depth.

    Attributes:
        files: POSIX paths.
        cut: the walk stopped at its limit.
        misnamed: files that cannot be shipped under their names.
        outside: links that lead out of the repository or nowhere.
    """

    root: Path
    files: tuple[str, ...]
    cut: bool = False
    misnamed: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    def __contains__(self, path: str) -> bool:
        return path in self.files

    @cached_property
    def folders(self) -> frozenset[str]:
        """All folders that hold files, directly or not."""
        return frozenset(str(folder) for file in self.files for folder in PurePosixPath(file).parents)

    def text(self, path: str, limit: int = _TEXT_LIMIT) -> str | None:
        """The text of a file; None if missing, too large or unreadable. Invalid characters are replaced."""
        full = self.root / path
        with suppress(OSError, ValueError):
            if full.is_file() and full.stat().st_size <= limit:
                return decoded(full.read_bytes())
        return None

    def is_utf8(self, path: str) -> bool:
        """Whether other programs, which expect UTF-8, can read a text file."""
        with suppress(OSError, ValueError):
            (self.root / path).read_bytes().decode("utf-8-sig")
            return True
        return False

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
    found: dict[str, list[str]] = {"files": [], "misnamed": [], "outside": []}
    for root, folders, names in os.walk(repo):
        place = Path(root).relative_to(repo)
        links = [name for name in folders if Path(root, name).is_symlink()]
        folders[:] = sorted(name for name in folders if _walked(Path(root, name), place))
        for name in sorted([*names, *links]):
            if kind := _kind(repo, place / name):
                found[kind].append((place / name).as_posix())
        if len(found["files"]) > _FILES:
            break
    files = sorted(found["files"][:_FILES], key=lambda path: (path.count("/"), path))
    cut = len(found["files"]) > _FILES
    return Tree(repo, tuple(files), cut, tuple(found["misnamed"]), tuple(found["outside"]))


def _walked(folder: Path, place: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.suffix == ".egg-info"
    deep = len(place.parts) >= _DEPTH
    skipped = folder.name in _SKIPPED and not any(folder.glob("*Dockerfile*"))
    return not (hidden or deep or skipped or folder.is_symlink() or (folder / "pyvenv.cfg").exists())


def _kind(repo: Path, place: Path) -> Literal["files", "misnamed", "outside"] | None:
    """What a regular file or a link is for mlship.yaml."""
    full = repo / place
    if full.is_symlink() and (leads_outside(repo, full) or not full.exists()):
        return "outside"
    try:
        if not full.is_file():
            return None
    except (OSError, RuntimeError):
        return None
    return "files" if needs_no_quoting(place.as_posix()) else "misnamed"
