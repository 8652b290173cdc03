"""What a build without changes costs: the docker commands that it runs, and what it imports."""

import os
import stat
import sys
from pathlib import Path

import pytest

from mlship.process import Options, run
from tests.helpers.locked_repos import locked
from tests.helpers.toy import toy

DOCKER = f"""#!{sys.executable}
import json, os, sys
words = [word for word in sys.argv[1:] if not word.startswith("-")]
with open(os.environ["FAKE_CALLS"], "a") as calls:
    calls.write(" ".join(words[:2]) + "\\n")
if words[:2] == ["image", "inspect"]:
    print(json.dumps({{"Id": "sha256:1", "Size": 1, "Os": "linux", "Architecture": "amd64", "Config": None}}))
"""
BUILD = """
import atexit, sys
atexit.register(lambda: print(*sorted(sys.modules), sep="\\n"))
from mlship.__main__ import main
main()
"""
# What only other commands and steps need.
UNUSED = {"docker", "ssl", "tarfile", "requests", "urllib3", "piptools", "pip", "pynvml", "http.client"}


@pytest.fixture
def calls(tmp_path: Path) -> tuple[list[str], set[str]]:
    """The docker commands and the modules of a build."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(stat.S_IRWXU)
    env = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "FAKE_CALLS": str(tmp_path / "calls"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    repo = locked(toy(tmp_path))
    done = run((sys.executable, "-c", BUILD, "build", "--no-smoke"), Options(cwd=repo, env=env))
    assert done.ok, done.stderr
    return sorted((tmp_path / "calls").read_text().splitlines()), set(done.stdout.splitlines())


def test_each_question_is_asked_once(calls: tuple[list[str], set[str]]) -> None:
    commands, _ = calls
    assert commands == [
        "buildx build",
        "image history",
        "image inspect",
        "image rm",
        "image tag",
    ]


def test_nothing_is_imported_that_is_not_used(calls: tuple[list[str], set[str]]) -> None:
    _, modules = calls
    assert sorted(modules & UNUSED) == []
    assert "mlship.build.run" in modules
