"""Tars read in one pass with bounded memory, whoever made them: nothing is written, and no header is believed."""

import io
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol, TypeAlias, cast

CHUNK = 1 << 20
_LARGEST_HEADER = 1 << 20  # of a pax or GNU extension, which tarfile holds in memory
_EXTENSIONS = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; empty at the end."""
        ...


Member: TypeAlias = tuple[tarfile.TarInfo, Callable[[], Readable]]


class BrokenTarError(Exception):
    """It is no tar, ends too early, or is made to do harm."""


class ByteStream(io.RawIOBase):
    """Chunks of bytes as a file that can be read once, from its start to its end.

    Args:
        watch: is told how many bytes were read so far, about once a megabyte.
    """

    def __init__(self, chunks: Iterable[bytes], watch: Callable[[int], None] = lambda _count: None) -> None:
        super().__init__()
        self._chunks = iter(chunks)
        self._watch = watch
        self._left = b""
        self._start = 0
        self._count = 0
        self._told = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, as the engine's pieces fall; empty at the end."""
        while self._start == len(self._left):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left, self._start = chunk, 0
            self._tell(len(chunk))
        end = len(self._left) if size < 0 else min(self._start + size, len(self._left))
        data = self._left[self._start : end]
        self._start = end
        return data

    def _tell(self, more: int) -> None:
        self._count += more
        if self._count - self._told >= CHUNK:
            self._told = self._count
            self._watch(self._count)


class _Watched(io.RawIOBase):
    """A stream that knows where its last byte that is not zero is: a tar ends in zeros."""

    def __init__(self, stream: Readable) -> None:
        super().__init__()
        self._stream = stream
        self._position = 0
        self.last = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        used = len(data.rstrip(b"\0"))
        if used:
            self.last = self._position + used
        self._position += len(data)
        return data


class Again(io.RawIOBase):
    """A stream of which the first bytes were read already: they come again."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        super().__init__()
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        count = len(self._head) if size < 0 else size
        data, self._head = self._head[:count], self._head[count:]
        return data + self._stream.read() if size < 0 else data


class _Guarded(io.RawIOBase):
    """Another stream; whatever its library says of a broken one is a BrokenTarError."""

    def __init__(self, stream: Readable, errors: tuple[type[Exception], ...]) -> None:
        super().__init__()
        self._stream = stream
        self._errors = errors

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._errors as error:
            raise BrokenTarError(str(error)) from error


class _BoundedInfo(tarfile.TarInfo):
    """A header that asks for no more memory than an honest one would."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_BoundedInfo":
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _EXTENSIONS and info.size > _LARGEST_HEADER):
            raise BrokenTarError(f"a header claims {info.size} bytes")
        return info


def members(stream: Readable) -> Iterator[Member]:
    """Each member with a way to its content, once, and before the next member is asked for. All of the stream is read.

    Raises:
        BrokenTarError: it is no tar, or not the whole of one.
    """
    watched = _Watched(stream)
    try:
        with tarfile.open(fileobj=watched, mode="r|", tarinfo=_BoundedInfo, errorlevel=1) as tar:
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # tarfile would keep them all
                yield member, _opener(tar, member)
                _skip(tar)
            end = tar.offset
        while watched.read(CHUNK):
            pass
    except (tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, LookupError) as error:
        raise BrokenTarError(str(error) or type(error).__name__) from error
    if watched.last > end:
        raise BrokenTarError(f"a header at byte {end} cannot be read")


def _opener(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], Readable]:
    """For a file; it can be opened once."""

    def opened() -> Readable:
        stream = tar.extractfile(member)
        return _Guarded(stream or io.BytesIO(), (tarfile.TarError, OSError, EOFError))

    return opened


def _skip(tar: tarfile.TarFile) -> None:
    """To the next header. tarfile itself would go on for ever where a header lies about a size."""
    stream = tar.fileobj
    while (left := tar.offset - stream.tell()) > 0:
        if not stream.read(min(CHUNK, left)):
            raise BrokenTarError("it ends within a file")


def is_compressed(head: bytes) -> bool:
    """Whether a blob is compressed in a way that is known here, by its first bytes."""
    return head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))


def is_tar(head: bytes) -> bool:
    """Whether a blob is a plain tar; one without members is all zeros."""
    return head[257:262] == b"ustar" or (len(head) >= 512 and not any(head[:512]))


def unpacked(stream: Readable, head: bytes) -> Readable:
    """What a blob holds, by its first bytes: gzip, zstd, or as it is."""
    if head.startswith(b"\x1f\x8b"):
        import gzip

        return _Guarded(gzip.GzipFile(fileobj=_as_file(stream), mode="rb"), (OSError, EOFError, zlib.error))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(stream)
    return stream


def _zstd(stream: Readable) -> _Guarded:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdError, ZstdFile
    else:
        from backports.zstd import ZstdError, ZstdFile
    return _Guarded(ZstdFile(_as_file(stream)), (OSError, EOFError, ZstdError))


def _as_file(stream: Readable) -> IO[bytes]:
    """The libraries ask for a whole file, and only read."""
    return cast("IO[bytes]", stream)
