"""What `mlship size` keeps of a file in a layer: its size, what it is, and the paths that a RECORD lists."""

import csv
import hashlib
import posixpath
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from mlship.size.layers import LONGEST_PATH, Budget, FileReader, layer_path
from mlship.size.stream import CHUNK, Readable, TarEntry

BIG = 1 << 20  # bytes; files from this size on are compared by content
_LARGEST_RECORD = 16 << 20
_SMALLEST_PROGRAM = 1 << 12
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class File:
    """A file or link in a layer.

    Attributes:
        size: content in bytes; 0 for links. A hard link counts only at its target.
        regular: it is a file with content of its own.
        digest: hex SHA-256 of a file of at least `BIG` bytes; None for other files.
        elf: the content is ELF; checked for big files and for files without a suffix.
        listed: the paths that a RECORD lists; None for other files.
    """

    size: int
    regular: bool = True
    digest: str | None = None
    elf: bool = False
    listed: tuple[str, ...] | None = None


def file_reader(budget: Budget) -> FileReader[File]:
    """A reader of the files of a layer; the lines of RECORD files are names that the budget counts."""

    def read(path: str, member: TarEntry, opened: Callable[[], Readable]) -> File:
        if path.endswith(".dist-info/RECORD") and member.isreg() and member.size <= _LARGEST_RECORD:
            return File(member.size, listed=_record(path, opened(), budget))
        return _file(member, opened)

    return read


def _file(member: TarEntry, opened: Callable[[], Readable]) -> File:
    if not member.isreg():
        return File(0, regular=False)
    pieces: Iterable[tuple[int, int]] | None = getattr(member, "sparse", None)
    if pieces is not None:  # the size in the header includes holes and is not verified
        return File(sum(size for _, size in pieces))
    big, nameless = member.size >= BIG, "." not in posixpath.basename(member.name)
    stream = opened() if big or (nameless and member.size >= _SMALLEST_PROGRAM) else None
    if stream is None:
        return File(member.size)
    head = stream.read(CHUNK if big else len(_ELF))
    return File(member.size, digest=_digest(head, stream) if big else None, elf=head.startswith(_ELF))


def _digest(data: bytes, stream: Readable) -> str:
    found = hashlib.sha256()
    while data:
        found.update(data)
        data = stream.read(CHUNK)
    return found.hexdigest()


def _record(path: str, stream: Readable, budget: Budget) -> tuple[str, ...]:
    text = stream.read().decode("utf-8", "replace")
    budget.spend(text.count("\n"))
    return tuple(recorded_paths(path, text))


def recorded_paths(record: str, text: str) -> Iterator[str]:
    """The paths that a RECORD lists, from the root, up to the first malformed line.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    """
    site = posixpath.dirname(posixpath.dirname(record))
    with suppress(csv.Error):
        for row in csv.reader(text.splitlines()):
            if row and row[0] and len(row[0]) + len(site) < LONGEST_PATH:
                yield layer_path(posixpath.join("/", site, row[0]))
