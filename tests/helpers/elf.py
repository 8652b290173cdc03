"""Minimal ELF shared libraries: valid headers and a dynamic section, no code."""

import struct
from pathlib import Path

X86_64 = 62
BASE = 0x10000  # load address, so that addresses differ from file offsets


def write_elf(
    path: Path,
    needed: tuple[str, ...] = (),
    *,
    soname: str = "",
    runpath: str = "",
    rpath: str = "",
    machine: int = X86_64,
) -> Path:
    """A 64-bit little-endian shared object with one segment and a dynamic section."""
    strings = b"\0"
    entries: list[tuple[int, int]] = []
    for tag, text in (*((1, name) for name in needed), (14, soname), (15, rpath), (29, runpath)):
        if text:
            entries.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    start = 64 + 2 * 56
    size = 16 * (len(entries) + 2)
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in (*entries, (5, BASE + start + size), (0, 0)))
    whole = start + size + len(strings)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, *(64, 56, 2, 64, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, whole, whole, 4096)
    table = struct.pack("<IIQQQQQQ", 2, 6, start, BASE + start, BASE + start, size, size, 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + load + table + dynamic + strings)
    return path
