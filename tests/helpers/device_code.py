"""Libraries with device code, as nvcc writes them."""

import struct


def fatbin(entries: list[tuple[int, int, int, bool, bytes]]) -> bytes:
    body = b""
    for kind, number, flags, specific, payload in entries:
        padded = payload + bytes(-len(payload) % 8)
        body += (
            struct.pack("<HHIQ12xI8xQ16x", kind, 0x101, 64, len(padded), number, flags | 0x100000 * specific) + padded
        )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def library(section: bytes, name: bytes = b".nv_fatbin", more: int = 0) -> bytes:
    """An ELF64 file with one section and the names of sections."""
    names = b"\0" + name + b"\0.shstrtab\0"
    start = 64
    headers = [
        bytes(64),
        struct.pack("<IIQQQQIIQQ", 1, 1, 2, 0, start, len(section), 0, 0, 8, 0),
        struct.pack("<IIQQQQIIQQ", 2 + len(name), 3, 0, 0, start + len(section), len(names), 0, 0, 1, 0),
    ]
    table = start + len(section) + len(names)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    )
    return header + section + names + b"".join(headers) + bytes(more)
