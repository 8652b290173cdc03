"""Run `mlship` without a terminal, in a new process or in the test's."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from mlship.cli.app import app
from tests.helpers.patience import limit


@dataclass(frozen=True)
class Command:
    """The exit code and the output of a command."""

    code: int
    stdout: str
    stderr: str


def mlship(*arguments: str, cwd: Path, seconds: float = 240, env: dict[str, str] | None = None) -> Command:
    """Run `python -m mlship`, as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "mlship", *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit(seconds),
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Command(done.returncode, done.stdout, done.stderr)


def mlship_in_process(*arguments: str, cwd: Path) -> Command:
    """Run a command in this process, in a tenth of the time: for tests of messages and exit codes."""
    with contextlib.chdir(cwd):
        done = CliRunner().invoke(app, list(arguments), prog_name="mlship")
    assert "Traceback" not in done.stderr, done.stderr
    return Command(done.exit_code, done.stdout, done.stderr)
