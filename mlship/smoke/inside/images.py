"""Whether bytes are a complete PNG, JPEG, GIF or WebP image, by structure: a third text that runs in the tested image.

Standard library only, valid for Python 3.8. A client without an image library has to recognise half an image.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

LARGEST = 1 << 28  # bytes of unpacked pixels that are looked at


class Picture(NamedTuple):
    """An image's format and size in pixels; or what is wrong with it."""

    format: str
    width: int = 0
    height: int = 0
    problem: str = ""


def read_image(data: bytes) -> Picture:
    """Never raises: bytes that are no image have a problem."""
    found = next((name for name, start in SIGNATURES.items() if data.startswith(start)), None)
    if found is None or (found == "WebP" and data[8:12] != b"WEBP"):
        return Picture("", problem="not a PNG, JPEG, GIF or WebP image")
    try:
        width, height = READERS[found](data)
    except (struct.error, IndexError):
        return Picture(found, problem="cut off")
    except (ValueError, zlib.error) as error:
        return Picture(found, problem=str(error))
    return Picture(found, width, height) if width and height else Picture(found, problem="it has no pixels")


def _png(data: bytes) -> tuple[int, int]:
    """Every chunk's checksum, and pixels that unpack to their end."""
    at, size, pixels, unpacked, ended = 8, (0, 0), zlib.decompressobj(), 0, False
    while not ended:
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if zlib.crc32(kind + content) != checksum:
            raise ValueError("a checksum is wrong")
        if kind == b"IHDR":
            size = struct.unpack_from(">II", content)
        elif kind == b"IDAT":
            while content and unpacked < LARGEST:
                unpacked += len(pixels.decompress(content, 1 << 20))
                content = pixels.unconsumed_tail
        ended = kind == b"IEND"
        at += 12 + length
    if not pixels.eof and unpacked < LARGEST:
        raise ValueError("the pixels are cut off")
    return size[0], size[1]


def _jpeg(data: bytes) -> tuple[int, int]:
    """Every segment, and the scans up to the end marker."""
    at, size, scanned = 2, (0, 0), False
    while True:
        start = data.find(b"\xff", at) if scanned else at
        if start < 0:
            raise ValueError("the pixels are cut off")
        if data[start] != 0xFF:
            raise ValueError("a segment does not start with a marker")
        marker, at = data[start + 1], start + 2
        if marker == 0xD9:
            if not scanned:
                raise ValueError("it has no pixels")
            return size
        if marker == 0xFF:
            at -= 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:  # a stuffed byte, or a restart, within a scan
            continue
        else:
            (length,) = struct.unpack_from(">H", data, at)
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack_from(">HH", data, at + 3)
                size = (width, height)
            scanned = scanned or marker == 0xDA
            at += max(length, 2)


def _gif(data: bytes) -> tuple[int, int]:
    """Every block up to the trailer."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, frames = 13 + _palette(flags), 0
    while data[at] != 0x3B:
        kind = data[at]
        if kind == 0x2C:
            at, frames = at + 11 + _palette(data[at + 9]), frames + 1
        elif kind == 0x21:
            at += 2
        else:
            raise ValueError("an unknown block")
        while data[at]:
            at += data[at] + 1
        at += 1
    if not frames:
        raise ValueError("it has no pixels")
    return width, height


def _palette(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> tuple[int, int]:
    """Every chunk of the container."""
    (length,) = struct.unpack_from("<I", data, 4)
    if len(data) < length + 8:
        raise ValueError("cut off")
    at, canvas, size = 12, (0, 0), (0, 0)
    while at < length + 8:
        kind, chunk = struct.unpack_from("<4sI", data, at)
        content = data[at + 8 : at + 8 + chunk]
        if len(content) < chunk:
            raise ValueError("cut off")
        if kind == b"VP8X":
            canvas = (_uint24(content, 4), _uint24(content, 7))
        elif kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", content, 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L":
            (bits,) = struct.unpack_from("<I", content, 1)
            size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind == b"ANMF":
            size = (_uint24(content, 6), _uint24(content, 9))
        at += 8 + chunk + chunk % 2
    return canvas if all(canvas) and all(size) else size


def _uint24(content: bytes, at: int) -> int:
    """A size that is stored less one."""
    return 1 + int.from_bytes(content[at : at + 3], "little")


SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8", "GIF": b"GIF8", "WebP": b"RIFF"}
READERS = {"PNG": _png, "JPEG": _jpeg, "GIF": _gif, "WebP": _webp}
