"""Git repositories for tests, whatever the machine's own configuration of git is."""

import subprocess
from pathlib import Path

from tests.helpers.patience import limit

_WHO = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false", "-c", "core.autocrlf=false")


def git(repo: Path, *arguments: str) -> str:
    """What git says."""
    done = subprocess.run(
        ("git", "-C", repo, *_WHO, *arguments), capture_output=True, text=True, check=True, timeout=limit(60)
    )
    return done.stdout.strip()


def committed(repo: Path, message: str = "one") -> str:
    """Commit all that git does not ignore, and return the commit; makes the folder a repository first."""
    git(repo, "init", "--quiet", "--template=")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", message)
    return git(repo, "rev-parse", "HEAD")
