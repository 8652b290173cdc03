"""Git repositories for tests, independent of the machine's git configuration."""

import subprocess
from pathlib import Path

from tests.helpers.patience import limit

_WHO = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "core.autocrlf=false")


def git(repo: Path, *arguments: str) -> str:
    """The output of git."""
    done = subprocess.run(
        ("git", "-C", repo, *_WHO, *arguments), capture_output=True, text=True, check=True, timeout=limit(60)
    )
    return done.stdout.strip()


def committed(repo: Path, message: str = "one") -> str:
    """Commit everything that git does not ignore, and return the commit; initialize the repository first if needed."""
    git(repo, "init", "--quiet", "--template=")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", message)
    return git(repo, "rev-parse", "HEAD")
