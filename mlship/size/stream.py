"""Read untrusted tars in one pass with bounded memory, without writing to disk."""

import io
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import IO, Protocol, TypeAlias, cast

CHUNK = 1 << 20
_HEAD = 512  # bytes of a tar's first header
_LARGEST_HEADER = 1 << 20  # bytes; tarfile holds a pax or GNU extension header in memory
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_EXTENSIONS = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}


class Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes; empty at the end."""


TarEntry: TypeAlias = tarfile.TarInfo
Member: TypeAlias = tuple[TarEntry, Callable[[], Readable]]


class BrokenTarError(Exception):
    """The data is not a tar, is truncated, or exceeds a limit."""


class ByteStream:
    """Chunks of bytes as a file that can be read once.

    Args:
        watch: called with the number of bytes read so far, about once per MiB.
    """

    def __init__(self, chunks: Iterable[bytes], watch: Callable[[int], None] = lambda _count: None) -> None:
        self._chunks = iter(chunks)
        self._watch = watch
        self._left = b""
        self._start = 0
        self._count = 0
        self._reported = 0

    def read(self, size: int = -1, /) -> bytes:
        while self._start == len(self._left):
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left, self._start = chunk, 0
            self._count += len(chunk)
            if self._count - self._reported >= CHUNK:
                self._reported = self._count
                self._watch(self._count)
        end = len(self._left) if size < 0 else min(self._start + size, len(self._left))
        data = self._left[self._start : end]
        self._start = end
        return data


class _NonZeroEnd:
    """Records where the last non-zero byte ends: a tar is padded with zeros."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._position = 0
        self.last = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        used = len(data.rstrip(b"\0"))
        if used:
            self.last = self._position + used
        self._position += len(data)
        return data


def rewound(head: bytes, stream: Readable) -> ByteStream:
    """A stream that returns its first bytes, already read, once more."""
    return ByteStream(chain((head,), iter(partial(stream.read, CHUNK), b"")))


class _Guarded:
    """Raises a decoder's errors as BrokenTarError."""

    def __init__(self, stream: Readable, errors: tuple[type[Exception], ...]) -> None:
        self._stream = stream
        self._errors = errors

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except self._errors as error:
            raise BrokenTarError(str(error)) from error


class _BoundedInfo(tarfile.TarInfo):
    """Rejects headers that would make tarfile allocate too much memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_BoundedInfo":
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or (info.type in _EXTENSIONS and info.size > _LARGEST_HEADER):
            raise BrokenTarError(f"a header claims {info.size} bytes")
        return info


def members(stream: Readable) -> Iterator[Member]:
    """Yield each member with a function that opens its content once, before the next member. Reads to the end.

    Raises:
        BrokenTarError: the data is not a complete tar.
    """
    watched = _NonZeroEnd(stream)
    try:
        with tarfile.open(fileobj=_as_file(watched), mode="r|", tarinfo=_BoundedInfo, errorlevel=1) as tar:
            while (member := tar.next()) is not None:
                vars(tar)["members"] = []  # tarfile would keep every member in memory
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
    def opened() -> Readable:
        stream = tar.extractfile(member)
        return _Guarded(stream or io.BytesIO(), (tarfile.TarError, OSError, EOFError))

    return opened


def _skip(tar: tarfile.TarFile) -> None:
    """Skip to the next header. tarfile itself would loop forever if a header overstates a size."""
    stream = tar.fileobj
    while (left := tar.offset - stream.tell()) > 0:
        if not stream.read(min(CHUNK, left)):
            raise BrokenTarError("truncated within a file")


def tar_in(stream: Readable) -> tuple[Readable | None, bytes]:
    """The tar that a stream is, unpacked, and the first bytes of the stream; None if it is something else."""
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    is_layer = is_compressed(head) or is_tar(head)
    return unpacked(rewound(head, stream), head) if is_layer else None, head


def is_compressed(head: bytes) -> bool:
    """Report whether a blob starts like gzip or zstd, which may begin with a frame to skip, as of pzstd."""
    return head.startswith((_GZIP, _ZSTD)) or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5)


def is_tar(head: bytes) -> bool:
    """Report whether a blob is an uncompressed tar; a tar without members is all zeros."""
    return head[257:262] == b"ustar" or (len(head) >= 512 and not any(head[:512]))


def unpacked(stream: Readable, head: bytes) -> Readable:
    """Decompress gzip or zstd, recognized by the first bytes; return any other stream unchanged."""
    if head.startswith(_GZIP):
        import gzip

        return _Guarded(gzip.GzipFile(fileobj=_as_file(stream), mode="rb"), (OSError, EOFError, zlib.error))
    if is_compressed(head):
        return _zstd(stream)
    return stream


def _zstd(stream: Readable) -> _Guarded:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdError, ZstdFile
    else:
        from backports.zstd import ZstdError, ZstdFile
    return _Guarded(ZstdFile(_as_file(stream)), (OSError, EOFError, ZstdError))


def _as_file(stream: Readable) -> IO[bytes]:
    """The libraries are typed for complete files but only call `read`."""
    return cast("IO[bytes]", stream)
