"""The command `mlship` as a user runs it: a process of its own, no terminal."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """How it ended, and what it said."""

    code: int
    stdout: str
    stderr: str


def mlship(*arguments: str, cwd: Path, seconds: float = 240, env: dict[str, str] | None = None) -> Command:
    """Run mlship to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "mlship", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Command(done.returncode, done.stdout, done.stderr)
