"""The steps of .github/workflows/tables.yml, run in a clone of a local remote with stand-ins for python and gh."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "tables.yml"
TABLE = "mlship/data/cuda/drivers.toml"
GH = """#!/bin/sh
echo "$*" >> "$RUNNER_TEMP/gh.log"
case "$1 $2" in
  "pr list") echo "$OPEN_PR" ;;
  "issue list") echo "$OPEN_ISSUE" ;;
  *) for last; do :; done; cp "$last" "$RUNNER_TEMP/body.md" ;;
esac
"""
PYTHON = """#!/bin/sh
[ "$1 $2 $3" = "scripts/refresh-tables --write --images" ] || exit 9
printf '%s' "$FOUND"
[ -z "$ROW" ] || echo "$ROW" >> mlship/data/cuda/drivers.toml
exit "$CODE"
"""


class Step(BaseModel):
    name: str = ""
    run: str = ""


class Job(BaseModel):
    steps: list[Step]


class Workflow(BaseModel):
    jobs: dict[str, Job]


def steps() -> dict[str, str]:
    (job,) = Workflow.model_validate(yaml.safe_load(WORKFLOW.read_text())).jobs.values()
    return {step.name: step.run for step in job.steps if step.run}


def git(folder: Path, *arguments: str) -> str:
    command = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments)
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(tmp_path, "clone", "--quiet", str(remote), str(clone))
    (clone / TABLE).parent.mkdir(parents=True)
    (clone / TABLE).write_text("branches = []\n")
    git(clone, "checkout", "--quiet", "-B", "main")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "Start")
    git(clone, "push", "--quiet", "origin", "main")
    for name, text in (("gh", GH), ("python", PYTHON)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    return clone


def run(clone: Path, **env: str) -> str:
    """Run the last two steps as GitHub does; returns what gh was asked."""
    temp = clone.parent / "temp"
    temp.mkdir(exist_ok=True)
    given = {"FOUND": "", "ROW": "", "CODE": "0", "OPEN_PR": "", "OPEN_ISSUE": "", **env}
    paths = {"PATH": f"{clone.parent / 'bin'}:{os.environ['PATH']}", "HOME": str(temp), "RUNNER_TEMP": str(temp)}
    for name in ("Compare", "Propose"):
        subprocess.run(
            ("bash", "-e", "-o", "pipefail", "-c", steps()[name]),
            cwd=clone,
            check=True,
            capture_output=True,
            env={**paths, **given, "GITHUB_REF_NAME": "main", "GH_TOKEN": "x"},
        )
    log = temp / "gh.log"
    return log.read_text() if log.exists() else ""


def test_nothing_to_do_asks_nothing(clone: Path) -> None:
    assert run(clone) == ""
    assert git(clone, "ls-remote", "--heads", "origin").count("refs/heads/") == 1


def test_rows_become_a_pull_request(clone: Path) -> None:
    asked = run(clone, FOUND="- [ ] read it\n", ROW="# a row", CODE="3")
    assert "pr create --head tables --base main --title Add missing rows to the CUDA tables" in asked
    assert (clone.parent / "temp/body.md").read_text() == "- [ ] read it\n"
    assert git(clone, "show", f"origin/tables:{TABLE}") == "branches = []\n# a row\n"
    assert git(clone, "diff", "--name-only", "origin/main", "origin/tables").split() == [TABLE]


def test_an_open_pull_request_is_left_alone(clone: Path) -> None:
    assert "create" not in run(clone, FOUND="x", ROW="# a row", CODE="3", OPEN_PR="7")
    assert "tables" not in git(clone, "ls-remote", "--heads", "origin")


def test_a_closed_one_is_replaced(clone: Path) -> None:
    git(clone, "push", "--quiet", "origin", "main:tables")
    assert "pr create" in run(clone, FOUND="x", ROW="# a row", CODE="3")
    assert "# a row" in git(clone, "show", f"origin/tables:{TABLE}")


@pytest.mark.parametrize(("open_", "asked"), [("", "issue create"), ("7", "issue edit 7")])
def test_what_only_a_person_can_add_becomes_one_issue(clone: Path, open_: str, asked: str) -> None:
    said = run(clone, FOUND="driver branch R999: read it\n", CODE="75", OPEN_ISSUE=open_)
    assert asked in said
    assert "pr create" not in said


@pytest.mark.parametrize("code", ["1", "2"])
def test_a_crash_fails_the_job(clone: Path, code: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run(clone, FOUND="x", CODE=code)
