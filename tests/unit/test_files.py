"""A file is the old one or the new one, never half of one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.files import check_new, read_regular, save_new, sha256_file, sha256_text, write_atomic, write_new


def test_writes_whole_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep/file", "new\n")
    assert (tmp_path / "deep/file").read_bytes() == b"new\n"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_a_folder_that_is_not_writable_is_named_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / ".file.f56fbf61"))

    monkeypatch.setattr("tempfile.mkstemp", refused)
    for write in (write_atomic, write_new):
        with pytest.raises(OSError, match="Read-only") as error:
            write(tmp_path / "file", "new")
        assert error.value.filename == str(tmp_path)


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/full")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, "text\n")
        assert os.read(reader, 100) == b"text\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(OSError, match="No space left"):
        write_atomic(link, "x")
    assert link.is_symlink()


def test_the_standard_output_is_written_to_even_if_it_is_a_file(tmp_path: Path) -> None:
    program = "import pathlib; from mlship.files import write_atomic as w; w(pathlib.Path('/dev/fd/1'), 'text')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run((sys.executable, "-c", program), stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "text"


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "half \ud800")
    assert (file.read_text(), [path.name for path in tmp_path.iterdir()]) == ("old", ["file"])


def test_hashes_agree(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    assert sha256_file(tmp_path / "a") == sha256_text("text")


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "deep/file"
    assert write_new(file, "one")
    assert not write_new(file, "two")
    assert (file.read_text(), [path.name for path in file.parent.iterdir()]) == ("one", ["file"])


def test_an_output_file_must_be_new_and_its_folder_exist(tmp_path: Path) -> None:
    check_new(tmp_path / "page.html")
    save_new(tmp_path / "page.html", "page")
    with pytest.raises(UsageError, match=r"page\.html` already exists"):
        check_new(tmp_path / "page.html")
    with pytest.raises(UsageError, match=r"page\.html` already exists"):
        save_new(tmp_path / "page.html", "other")
    with pytest.raises(UsageError, match="no folder"):
        check_new(tmp_path / "none/page.html")
    assert (tmp_path / "page.html").read_text() == "page"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "large"])
def test_only_regular_files_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text("x" * 11)
    with pytest.raises(OSError, match=r"regular|larger|directory"):
        read_regular(path, limit=10)


def test_a_regular_file_is_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Grüße")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", limit=10) == "Grüße"


@given(
    text=st.text(st.characters(exclude_characters="\r", codec="utf-8"), max_size=20),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_byte_order_mark_decides_the_encoding(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str
) -> None:
    """As pip reads requirements; Windows programs write both marks."""
    path = tmp_path_factory.getbasetemp() / "marked"
    path.write_bytes(f"x{text}".encode(encoding))
    assert read_regular(path) == f"x{text}"


def test_text_of_no_known_encoding_is_refused(tmp_path: Path) -> None:
    for content in (b"\xff\xfe\x00", b"caf\xe9"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(UnicodeDecodeError):
            read_regular(tmp_path / "file")
