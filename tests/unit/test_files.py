"""A file is the old one or the new one, never half of one."""

from pathlib import Path

import pytest

from mlship.files import sha256_file, sha256_text, write_atomic


def test_writes_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep/file", "new\n")
    assert (tmp_path / "deep/file").read_bytes() == b"new\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "half \ud800")
    assert (file.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", ["file"])


def test_hashes_agree(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    assert sha256_file(tmp_path / "a") == sha256_text("text")
