"""The repository's folder and its commit: how they differ, and the commit in a folder of its own."""

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship import process
from mlship.errors import EngineError, TransientError, UsageError
from mlship.project.paths import LEFT_OUT

_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
_SUBMODULE = "160000 "


@dataclass(frozen=True)
class Checkout:
    """A folder of a git repository that has a commit.

    Attributes:
        top: the top folder of the repository.
        path: of the folder below it, in POSIX form; empty for the top itself.
        changed: files that git tracks and that are not as in the commit, by their paths below the top.
    """

    top: Path
    path: str
    changed: tuple[str, ...]


def read_checkout(folder: Path) -> Checkout | None:
    """What git says of a folder; None where it belongs to no repository, or to one without a commit.

    Raises:
        EngineError: there is no git program.
    """
    where = _git(folder, "rev-parse", "--show-toplevel", "--show-prefix")
    changed = _git(folder, "diff", "--no-ext-diff", "--name-only", "-z", "HEAD")
    if not (where.ok and changed.ok):
        return None
    top, prefix = where.stdout.split("\n")[:2]
    return Checkout(Path(top), prefix.rstrip("/"), _entries(changed.stdout))


def beside_commit(folder: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Files at these paths of the folder, or below them, that are in no commit: git ignores or does not know them.

    What mlship never ships is left out; a submodule counts, as its files are in another repository's commits.
    """
    named = ("--", *dict.fromkeys(paths))
    others = _entries(_git(folder, "ls-files", "--others", "-z", *named).stdout)
    staged = _entries(_git(folder, "ls-files", "--stage", "-z", *named).stdout)
    modules = [entry.partition("\t")[2] for entry in staged if entry.startswith(_SUBMODULE)]
    found = dict.fromkeys((*others, *modules))
    return tuple(sorted(path for path in found if not set(PurePosixPath(path).parts) & set(LEFT_OUT)))


@contextmanager
def checked_out(folder: Path, commit: str) -> Iterator[Path]:
    """The commit in a temporary folder, as a worktree of the repository; gone afterwards, also when interrupted.

    The user's own worktree is not touched, and no hook is run.

    Raises:
        UsageError: the folder belongs to no repository, or the repository does not have the commit.
        TransientError: the disk is full.
    """
    _check_known(folder, commit)
    with tempfile.TemporaryDirectory(prefix="mlship-rebuild-", ignore_cleanup_errors=True) as temporary:
        tree = Path(temporary, "mlship-rebuild")
        try:
            _add(folder, tree, commit)
            yield tree
        finally:
            _git(folder, "worktree", "remove", "--force", "--force", str(tree))


def _check_known(folder: Path, commit: str) -> None:
    asked = _git(folder, "rev-parse", "--git-dir")
    if not asked.ok:
        raise UsageError(
            f"{folder.resolve()} is in no git repository ({_last(asked.stderr)})",
            hint="name the repository that has the commit: `--directory REPOSITORY`",
        )
    if not _git(folder, "cat-file", "-e", f"{commit}^{{commit}}").ok:
        raise UsageError(
            f"the repository of {folder.resolve()} does not have the commit {commit}",
            hint="fetch it with `git fetch --all --tags` (a shallow clone: `git fetch --unshallow`), "
            "or name another repository with --directory",
        )


def _add(folder: Path, tree: Path, commit: str) -> None:
    done = _git(folder, "worktree", "add", "--detach", "--quiet", str(tree), commit)
    if done.ok:
        return
    if re.search(r"(?i)no space left|quota exceeded", done.stderr):
        raise TransientError(
            f"the commit {commit[:12]} does not fit into {tree.parent}: the disk is full",
            hint="set TMPDIR to a folder with room for it, and run the same command again",
        )
    raise UsageError(
        f"git cannot check out {commit[:12]}: {_last(done.stderr)}",
        hint=f"`git worktree add --detach /tmp/try {commit[:12]}` must work in that repository",
    )


def _git(folder: Path, *arguments: str) -> process.Completed:
    """Paths are taken as they are: a `*` in a file name is no pattern."""
    try:
        return process.run(("git", "--literal-pathspecs", *_NO_HOOKS, "-C", str(folder), *arguments))
    except process.ProcessError as error:
        raise EngineError("there is no git program on PATH", hint="install git, then run the same command") from error


def _entries(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split("\0")))


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["git said nothing"])[-1]
