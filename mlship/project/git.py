"""The repository's revision, for labels and the default tag. Unknown without git; never an error."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mlship import process
from mlship.errors import UsageError

_LONGEST_TAG = 100
_LAST_SECOND = 253_402_300_799  # of the year 9999
# A repository's own configuration may name programs, and git runs them even for questions.
_NO_PROGRAMS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", "-c", "core.sshCommand=false")


@dataclass(frozen=True)
class Revision:
    """The commit that is built; None for unknown values.

    Attributes:
        describe: nearest tag, distance and "-dirty", as `git describe --always` prints them.
        commit: full hash. source: URL of the remote, without credentials.
        epoch: SOURCE_DATE_EPOCH if set, else the time of the commit; seconds since 1970.
    """

    describe: str | None = None
    commit: str | None = None
    source: str | None = None
    epoch: int | None = None

    @property
    def image_tag(self) -> str | None:
        """`describe` as an image tag; git tags such as v1.0+cu121 or release/2 need changes for that."""
        if self.describe is None:
            return None
        tag = re.sub(r"[^A-Za-z0-9_.-]+", "-", self.describe).lstrip(".-")
        return tag[-_LONGEST_TAG:].lstrip(".-") or None


def read_revision(repo: Path, environment: Mapping[str, str] = os.environ) -> Revision:
    """Ask git. SOURCE_DATE_EPOCH in the environment overrides the time of the commit.

    Raises:
        UsageError: SOURCE_DATE_EPOCH is not a time, or git refuses to read a repository of another user.
    """
    _check_owner(repo)
    epoch = _epoch(environment.get("SOURCE_DATE_EPOCH") or _git(repo, "log", "-1", "--format=%ct"))
    remote = _git(repo, "remote", "get-url", "origin")
    return Revision(
        describe=_git(repo, "describe", "--tags", "--always", "--dirty"),
        commit=_git(repo, "rev-parse", "--verify", "HEAD"),
        source=without_credentials(remote) if remote else None,
        epoch=epoch,
    )


def ignored_paths(repo: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """Those paths that a .gitignore hides; none without git."""
    found = _git(repo, "check-ignore", "--", *paths) if paths else None
    return tuple((found or "").splitlines())


def linked_paths(repo: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """The tracked symbolic links at or below these paths; none without git."""
    found = _git(repo, "--literal-pathspecs", "ls-files", "--stage", "-z", "--", *paths) if paths else None
    return tuple(entry.partition("\t")[2] for entry in (found or "").split("\0") if entry.startswith("120000 "))


def without_credentials(remote: str) -> str:
    """A remote's URL on one line, without user and password: everyone who pulls the image can read its labels."""
    remote = "".join(c for c in remote if c.isprintable())
    try:
        parts = urlsplit(remote)
    except ValueError:
        return ""
    if not parts.netloc:
        return remote
    if parts.scheme == "ssh":  # the user is part of the address; a password is not
        user = f"{parts.username}@" if parts.username else ""
        return urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def run_git(folder: Path, *arguments: str, seconds: float | None = None) -> process.Completed:
    """Run git, and no program that the repository names.

    Raises:
        ProcessError: git is not installed, or did not end in time.
    """
    argv = ("git", "--no-pager", *_NO_PROGRAMS, "-C", str(folder), *arguments)
    return process.run(argv, process.Options(timeout=seconds))


def _git(repo: Path, *arguments: str) -> str | None:
    done = _asked(repo, *arguments)
    return done.stdout.strip() or None if done and done.ok else None


def _asked(repo: Path, *arguments: str) -> process.Completed | None:
    """What git answers; None without a repository, or if git is missing or hangs."""
    if not _has_no_git(repo):
        with suppress(process.ProcessError):
            return run_git(repo, *arguments, seconds=10)
    return None


def _has_no_git(repo: Path) -> bool:
    """Whether no folder from the repository up is git's, which takes less time than a git that looks for one."""
    repo = repo.resolve()
    return "GIT_DIR" not in os.environ and not any(os.path.lexists(up / ".git") for up in (repo, *repo.parents))


def _check_owner(repo: Path) -> None:
    done = _asked(repo, "rev-parse", "--git-dir")
    if done and "dubious ownership" in done.stderr:
        raise UsageError(
            f"git does not read `{repo.resolve()}`: it belongs to another user",
            hint=f"run `git config --global --add safe.directory {shlex.quote(str(repo.resolve()))}` if you trust it",
        )


def _epoch(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and int(text[:20]) <= _LAST_SECOND):
        raise UsageError(
            f"SOURCE_DATE_EPOCH is not a number of seconds since 1970: `{text[:40]}`",
            hint="unset it, or set it to `$(git log -1 --format=%ct)`",
        )
    return int(text)
