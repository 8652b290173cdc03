"""Symbolic links that are text files here, as git writes them with `core.symlinks=false`: one relative path each."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.git import linked_paths
from mlship.project.paths import LEFT_OUT

_LONGEST = 4096  # bytes of a path


def text_links(repo: Path, paths: Iterable[str] = (".",)) -> dict[str, str]:
    """Targets of the links at or below these paths that are text, relative to the repository.

    Git says which files are links. In the cache of the Hugging Face Hub, every snapshot file that is text with the
    path of a blob is one, too.
    """
    paths = tuple(paths)
    candidates = (*linked_paths(repo, paths), *(path for named in paths for path in _snapshots(repo, named)))
    found = ((path, _target(repo, path)) for path in sorted(set(candidates)))
    return {path: target for path, target in found if target}


def refuse_text_links(links: Mapping[str, str], repo: Path) -> None:
    """Stop at links that are text, with the command that makes them links.

    Raises:
        UsageError: there is one.
    """
    if not links:
        return
    path, target = next(iter(links.items()))
    more = f", like {len(links) - 1} more" if len(links) > 1 else ""
    if tracked := [link for link in linked_paths(repo, (".",)) if link in links]:
        command = f"git config core.symlinks true && git checkout -- {shlex.join(tracked[:5])}"
        command += " ..." if len(tracked) > 5 else ""
    else:
        relative = os.path.relpath(target, PurePosixPath(path).parent)
        command = f"ln -sf {shlex.quote(relative)} {shlex.quote(path)}"
    raise UsageError(
        f"`{path}` is a symbolic link to `{target}`, but here it is a text file with that path{more}",
        hint=f"on a disk with symbolic links, run `{command}`",
    )


def _snapshots(repo: Path, named: str) -> Iterator[str]:
    """The files in snapshots of the Hub's cache at or below a path."""
    for folder, folders, names in os.walk(repo / named):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        if _is_snapshot(PurePosixPath(folder)):
            yield from (Path(folder, name).relative_to(repo).as_posix() for name in names)
    if (repo / named).is_file() and _is_snapshot(PurePosixPath(named).parent):
        yield named


def _is_snapshot(folder: PurePosixPath) -> bool:
    return any(part == "snapshots" and above.startswith("models--") for above, part in pairwise(folder.parts))


def _target(repo: Path, path: str) -> str | None:
    """What a text file names as its whole content, if that exists in the repository."""
    full = repo / path
    try:
        if full.is_symlink() or not full.is_file() or not 0 < full.stat().st_size <= _LONGEST:
            return None
        text = full.read_bytes().decode()
        place = (full.parent / text).resolve()
        known = text.isprintable() and not text.startswith("/") and place.exists() and place != full.resolve()
        return place.relative_to(repo.resolve()).as_posix() if known else None
    except (OSError, ValueError, RuntimeError):
        return None
