"""git answers questions about a repository, and runs nothing that the repository names."""

import os
import subprocess
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.project.git import read_revision


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q", str(repo)), ("-C", str(repo), *who, "commit", "-q", "--allow-empty", "-m", "x")):
        subprocess.run(("git", *arguments), check=True)
    return repo


def test_programs_of_the_repository_do_not_run(repo: Path, tmp_path: Path) -> None:
    ran, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "pager.log", "pager.describe"):
        subprocess.run(("git", "-C", str(repo), "config", key, str(program)), check=True)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("fsmonitor-watchman", "post-checkout", "post-index-change", "reference-transaction"):
        (hooks / name).symlink_to(program)
    subprocess.run(("git", "-C", str(repo), "config", "core.hooksPath", str(hooks)), check=True)
    (repo / "new.txt").write_text("x")
    assert read_revision(repo, {}).commit is not None
    assert not ran.exists()


@pytest.mark.parametrize("value", ["-1", "99999999999999999999", "253402300800", "1e9", "٣", "today"])
def test_an_epoch_that_is_no_time_is_refused(value: str, repo: Path) -> None:
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        read_revision(repo, {"SOURCE_DATE_EPOCH": value})


@pytest.mark.parametrize("value", [0, 1_700_000_000, 253_402_300_799])
def test_an_epoch_is_read(value: int, repo: Path) -> None:
    assert read_revision(repo, {"SOURCE_DATE_EPOCH": str(value)}).epoch == value


def test_a_repository_of_another_user_is_named(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match="belongs to another user"):
        read_revision(repo, {})


def test_a_folder_outside_of_git_has_no_revision(tmp_path: Path) -> None:
    assert read_revision(tmp_path, {}).commit is None


def git(folder: Path, *arguments: str, **env: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always")
    command = ("git", "-C", str(folder), *who, *arguments)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **env})
    return done.stdout.strip()


def test_a_worktree_and_a_submodule_have_their_own_commit(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "tree"))
    git(tmp_path / "tree", "commit", "-q", "--allow-empty", "-m", "y")
    git(repo, "submodule", "--quiet", "add", str(tmp_path / "tree"), "inner")
    commits = [read_revision(folder, {}).commit for folder in (repo, tmp_path / "tree", repo / "inner")]
    assert commits[0] == git(repo, "rev-parse", "HEAD")
    assert commits[1] == commits[2] != commits[0]
    assert "dirty" in (read_revision(repo, {}).describe or "")


@pytest.mark.parametrize("seconds", [0, 4_102_444_800])
def test_a_commit_of_a_wrong_clock_has_its_time(seconds: int, repo: Path) -> None:
    git(repo, "commit", "-q", "--allow-empty", "-m", "z", GIT_COMMITTER_DATE=f"@{seconds} +0000")
    assert read_revision(repo, {}).epoch == seconds
