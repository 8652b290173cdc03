"""The working tree and its commit: their differences, and a commit checked out in a temporary folder."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship import process
from mlship.errors import EngineError, TransientError, UsageError
from mlship.leftovers import temporary_folder
from mlship.project.git import run_git
from mlship.project.paths import LEFT_OUT

_SUBMODULE = "160000 "


@dataclass(frozen=True)
class Checkout:
    """A folder in a git repository with at least one commit.

    Attributes:
        top: the top folder of the repository.
        path: the folder, relative to the top, in POSIX form; empty for the top itself.
        changed: tracked files that differ from the commit, relative to the top.
    """

    top: Path
    path: str
    changed: tuple[str, ...]


def read_checkout(folder: Path) -> Checkout | None:
    """Ask git about a folder; None if it is in no repository, or in one without commits.

    Raises:
        EngineError: git is not installed.
    """
    where = _git(folder, "rev-parse", "--show-toplevel", "--show-prefix")
    changed = _git(folder, "diff", "--no-ext-diff", "--name-only", "-z", "HEAD")
    if not (where.ok and changed.ok):
        return None
    top, prefix = where.stdout.split("\n")[:2]
    return Checkout(Path(top), prefix.rstrip("/"), _entries(changed.stdout))


def outside_commit(folder: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Untracked and ignored files at or below these paths, except those that mlship never ships.

    A submodule counts too, because its files are in another repository's commits.
    """
    named = ("--", *dict.fromkeys(paths))
    others = _entries(_git(folder, "ls-files", "--others", "-z", *named).stdout)
    staged = _entries(_git(folder, "ls-files", "--stage", "-z", *named).stdout)
    modules = [entry.partition("\t")[2] for entry in staged if entry.startswith(_SUBMODULE)]
    found = dict.fromkeys((*others, *modules))
    return tuple(sorted(path for path in found if not set(PurePosixPath(path).parts) & set(LEFT_OUT)))


@contextmanager
def temporary_worktree(folder: Path, commit: str) -> Iterator[Path]:
    """Check out a commit as a git worktree in a temporary folder, which is removed afterwards.

    The user's own worktree is not touched, and no hook runs.

    Raises:
        UsageError: the folder is in no repository, or the repository lacks the commit.
        TransientError: the disk is full.
    """
    _check_known(folder, commit)
    with temporary_folder("rebuild") as temporary:
        tree = temporary / "mlship-rebuild"
        try:
            _add(folder, tree, commit)
            yield tree
        finally:
            _git(folder, "worktree", "remove", "--force", "--force", str(tree))


def _check_known(folder: Path, commit: str) -> None:
    inside = _git(folder, "rev-parse", "--git-dir")
    if not inside.ok:
        raise UsageError(
            f"`{folder.resolve()}` is not in a git repository ({_last(inside.stderr)})",
            hint="name the repository with the commit: `--directory REPOSITORY`",
        )
    if not _git(folder, "cat-file", "-e", f"{commit}^{{commit}}").ok:
        raise UsageError(
            f"the repository of `{folder.resolve()}` does not contain the commit {commit}",
            hint="fetch it with `git fetch --all --tags` (a shallow clone: `git fetch --unshallow`), "
            "or name another repository with `--directory`",
        )


def _add(folder: Path, tree: Path, commit: str) -> None:
    done = _git(folder, "worktree", "add", "--detach", "--quiet", str(tree), commit)
    if done.ok:
        return
    if re.search(r"(?i)no space left|quota exceeded", done.stderr):
        raise TransientError(
            f"cannot check out {commit[:12]} in `{tree.parent}`: the disk is full",
            hint="set TMPDIR to a folder with enough free space, then run the same command again",
        )
    raise UsageError(
        f"git cannot check out {commit[:12]}: {_last(done.stderr)}",
        hint=f"run `git worktree add --detach /tmp/try {commit[:12]}` in that repository and fix what it reports",
    )


def _git(folder: Path, *arguments: str) -> process.Completed:
    try:
        return run_git(folder, "--literal-pathspecs", *arguments)  # a `*` in a file name is not a pattern
    except process.ProcessError as error:
        raise EngineError("no `git` on PATH", hint="install git, then run the same command again") from error


def _entries(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("\0")))


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["git printed nothing"])[-1]
