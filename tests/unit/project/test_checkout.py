"""The folder beside its commit, and the commit in a folder of its own: real git, small repositories."""

import os
from pathlib import Path

import pytest

from mlship.errors import EngineError, UsageError
from mlship.project.checkout import outside_commit, read_checkout, temporary_worktree
from tests.helpers.gits import committed, git
from tests.helpers.repos import write


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = write(tmp_path / "repo", {"a.py": "a", "sub/b.py": "b", "sub/[x]*.py": "x", ".gitignore": "*.secret\n"})
    committed(repo)
    return repo


def test_the_top_the_path_below_it_and_what_changed(repo: Path) -> None:
    found = read_checkout(repo / "sub")
    assert found is not None
    assert (found.top, found.path, found.changed) == (repo, "sub", ())
    (repo / "a.py").write_text("other")
    (repo / "sub/b.py").unlink()
    (repo / "new.py").touch()
    top = read_checkout(repo)
    assert top is not None
    assert (top.path, top.changed) == ("", ("a.py", "sub/b.py"))


def test_what_was_touched_only_has_not_changed(repo: Path) -> None:
    os.utime(repo / "a.py", (1, 1))
    (repo / "a.py").chmod(0o600)
    found = read_checkout(repo)
    assert found is not None
    assert found.changed == ()


def test_no_repository_and_no_commit_are_none(tmp_path: Path) -> None:
    assert read_checkout(tmp_path) is None
    git(tmp_path, "init", "--quiet")
    assert read_checkout(tmp_path) is None


def test_ignored_and_unknown_files_and_submodules_are_in_no_commit(repo: Path) -> None:
    write(repo, {"sub/k.secret": "", "sub/new.py": "", "sub/__pycache__/b.pyc": "", "other.py": ""})
    assert outside_commit(repo, ("sub", "a.py")) == ("sub/k.secret", "sub/new.py")
    assert outside_commit(repo / "sub", ("k.secret", "b.py")) == ("k.secret",)
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{git(repo, 'rev-parse', 'HEAD')},sub/module")
    assert "sub/module" in outside_commit(repo, ("sub",))


def test_a_name_is_no_pattern(repo: Path) -> None:
    (repo / "sub/xy.py").touch()
    assert outside_commit(repo, ("sub/[x]*.py",)) == ()


def test_a_commit_in_a_folder_of_its_own(repo: Path) -> None:
    commit = git(repo, "rev-parse", "HEAD")
    write(repo, {"a.py": "later", ".git/hooks/post-checkout": "#!/bin/sh\ntouch ../ran\n"})
    (repo / ".git/hooks/post-checkout").chmod(0o755)
    committed(repo, "two")
    (repo / "a.py").write_text("not committed")
    with temporary_worktree(repo, commit) as tree:
        assert (tree / "a.py").read_text() == "a"
        assert git(tree, "rev-parse", "HEAD") == commit
        assert not (tree.parent / "ran").exists()
        (tree / "weights").write_text("brought here")
    assert not tree.parent.exists()
    assert (repo / "a.py").read_text() == "not committed"
    assert len(git(repo, "worktree", "list").splitlines()) == 1
    assert not (repo / ".git/worktrees").exists()


def test_nothing_is_left_where_it_is_interrupted(repo: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_worktree(repo, git(repo, "rev-parse", "HEAD")) as tree:
        raise KeyboardInterrupt
    assert not tree.parent.exists()
    assert len(git(repo, "worktree", "list").splitlines()) == 1


def test_another_worktree_is_left_alone(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"))
    (tmp_path / "mine").rename(tmp_path / "unplugged")
    with temporary_worktree(repo, git(repo, "rev-parse", "HEAD")):
        pass
    assert "mine" in git(repo, "worktree", "list")


def test_a_commit_that_is_not_there(repo: Path) -> None:
    with pytest.raises(UsageError, match="does not contain the commit") as caught, temporary_worktree(repo, "1" * 40):
        pass
    assert "git fetch" in caught.value.hint


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository") as caught, temporary_worktree(tmp_path, "1" * 40):
        pass
    assert "--directory" in caught.value.hint


def test_a_tree_that_git_cannot_write(repo: Path) -> None:
    (repo / ".git/worktrees").write_text("in the way")
    with (
        pytest.raises(UsageError, match="git cannot check out"),
        temporary_worktree(repo, git(repo, "rev-parse", "HEAD")),
    ):
        pass


def test_no_git(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repo / "no-programs"))
    with pytest.raises(EngineError, match="no `git`"):
        read_checkout(repo)
