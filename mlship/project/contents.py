"""What a file holds, also inside archives and binary files, within limits: nothing is unpacked to disk or run."""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

_TEXT_LIMIT = 4 << 20  # bytes of each file; larger texts are vocabularies and data
_BINARY_LIMIT = 1 << 20
_ARCHIVE_LIMIT = 32 << 20  # bytes of an archive, unpacked
_PROBED = 8192
_UTF16 = (b"\xff\xfe", b"\xfe\xff")  # PowerShell writes it
_PRINTABLE = re.compile(rb"[\t\n\r -~]{20,}")
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_TAR_MAGIC = slice(257, 262)


def parts_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """The first part of each member of an archive or compressed file, and then, as "", of the file itself."""
    # Nothing of a pipe, which would block, or of a dangling link.
    with suppress(OSError), os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            head = file.read(_TEXT_LIMIT)
            file.seek(0)
            with suppress(*_BROKEN):
                yield from _members(file, head)
            yield "", head


def searchable_text(data: bytes) -> bytes:
    """The text of what `parts_of` gives: all of it, or the longer printable strings of a binary file."""
    if data.startswith(_UTF16):
        return data.decode("utf-16", "replace").encode()
    return b"\n".join(_PRINTABLE.findall(data[:_BINARY_LIMIT])) if is_binary(data) else data


def is_binary(data: bytes) -> bool:
    return b"\0" in data[:_PROBED] and not data.startswith(_UTF16)


def _members(file: IO[bytes], head: bytes) -> Iterator[tuple[str, bytes]]:
    if head.startswith(b"PK\x03\x04"):
        yield from _zip_members(file)
        return
    opened = _unpacked(file, head)
    data = opened.read(_ARCHIVE_LIMIT) if opened else file.read(_ARCHIVE_LIMIT) if _is_tar(head) else b""
    if _is_tar(data):
        yield from _tar_members(data)
    elif data:
        yield "its content", data[:_TEXT_LIMIT]


def _unpacked(file: IO[bytes], head: bytes) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | None:
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if head.startswith(b"BZh"):
        return bz2.open(file)
    return lzma.open(file) if head.startswith(b"\xfd7zXZ\x00") else None


def _is_tar(data: bytes) -> bool:
    return data[_TAR_MAGIC] == b"ustar"


def _zip_members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    room = _ARCHIVE_LIMIT
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if room <= 0:
                return
            with suppress(*_BROKEN), archive.open(member) as content:  # one member may be encrypted
                data = content.read(min(room, _TEXT_LIMIT))
                room -= len(data)
                yield member.filename, data


def _tar_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    import tarfile  # imported here: few repositories have one

    with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            if content:
                yield member.name, content.read(_TEXT_LIMIT)
