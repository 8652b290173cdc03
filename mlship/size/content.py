"""Read one layer: its files, the paths it removes from lower layers, and its Python RECORD files."""

import csv
import hashlib
import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mlship.size.layer_paths import LONGEST_PATH, is_opaque, layer_path, removed_by
from mlship.size.stream import CHUNK, BrokenTarError, Readable, members

BIG = 1 << 20  # bytes; files from this size on are compared by content
_LARGEST_RECORD = 16 << 20
_MOST_NAMES = 5_000_000  # files plus lines of RECORD files; a large image has about 100,000
_SMALLEST_PROGRAM = 1 << 12
_ELF = b"\x7fELF"

EntryKind: TypeAlias = Literal["file", "link", "folder"]


@dataclass(frozen=True, slots=True)
class File:
    """A path in a layer.

    Attributes:
        size: content in bytes; 0 for links and folders. A hard link counts only at its target.
        digest: hex SHA-256 of a file of at least `BIG` bytes; None for other files.
        elf: the content is ELF; checked for big files and for files without a suffix.
    """

    size: int
    kind: EntryKind = "file"
    digest: str | None = None
    elf: bool = False


@dataclass(frozen=True)
class Content:
    """Content of one layer. Paths have no leading slash.

    Attributes:
        files: files, links and folders by path.
        gone: paths whose whole tree this layer removes from lower layers.
        opaque: folders whose content from lower layers this layer hides.
        records: the paths listed in each RECORD, by the path of the RECORD.
    """

    files: dict[str, File] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)
    records: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Budget:
    """Limits the names held in memory for one image."""

    left: int = _MOST_NAMES

    def spend(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise BrokenTarError(f"more than {_MOST_NAMES} files")


def content_of(stream: Readable, budget: Budget) -> Content:
    """Read the tar of a layer to its end; the last entry of a path wins.

    Raises:
        BrokenTarError: the tar is incomplete, or has more names than the budget allows.
    """
    found = Content()
    for member, opened in members(stream):
        budget.spend()
        path = layer_path(member.name)
        if (removed := removed_by(path)) is not None:
            (found.opaque if is_opaque(path) else found.gone).add(removed)
        elif path:
            is_record = path.endswith(".dist-info/RECORD") and member.isreg() and member.size <= _LARGEST_RECORD
            if is_record:
                found.records[path] = _record(path, opened(), budget)
            found.files[path] = File(member.size) if is_record else _file(member, opened)
    return found


def _file(member: tarfile.TarInfo, opened: Callable[[], Readable]) -> File:
    if member.isdir():
        return File(0, "folder")
    if not member.isreg():
        return File(0, "link")
    pieces: Iterable[tuple[int, int]] | None = getattr(member, "sparse", None)
    if pieces is not None:  # the size in the header includes holes and is not verified
        return File(sum(size for _, size in pieces))
    big, nameless = member.size >= BIG, "." not in posixpath.basename(member.name)
    stream = opened() if big or (nameless and member.size >= _SMALLEST_PROGRAM) else None
    if stream is None:
        return File(member.size)
    head = stream.read(CHUNK if big else len(_ELF))
    return File(member.size, "file", _digest(head, stream) if big else None, head.startswith(_ELF))


def _digest(data: bytes, stream: Readable) -> str:
    found = hashlib.sha256()
    while data:
        found.update(data)
        data = stream.read(CHUNK)
    return found.hexdigest()


def _record(path: str, stream: Readable, budget: Budget) -> tuple[str, ...]:
    """Return the paths listed in a RECORD, relative to the image's root.

    https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    """
    site = posixpath.dirname(posixpath.dirname(path))
    lines = stream.read().decode("utf-8", "replace").splitlines()
    budget.spend(len(lines))
    return tuple(_named(site, lines))


def _named(site: str, lines: list[str]) -> Iterator[str]:
    """Stop at the first malformed line; the owner of other files follows from their folder."""
    with suppress(csv.Error):
        for row in csv.reader(lines):
            if row and row[0] and len(row[0]) + len(site) < LONGEST_PATH:
                yield layer_path(posixpath.join("/", site, row[0]))
