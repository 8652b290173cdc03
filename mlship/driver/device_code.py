"""The device code of installed packages: for which GPUs they have machine code, and which PTX a driver can compile.

Read from ELF64 sections named .nv_fatbin and __nv_relfatbin, which hold fatbins one after the other. The layout was
measured on wheels of bitsandbytes, onnxruntime-gpu and xformers and agrees with NVIDIA's `cuobjdump`. Standard library
only, valid for Python 3.8: `mlship.smoke` runs this text inside the tested image. Compute capabilities are (8, 6).
"""

from __future__ import annotations

import os
import re
import struct
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 20.0  # for all packages; libraries not reached are counted as unread
_ELF = struct.Struct("<16s24xQ10xHHH")  # identification; where the section headers are, their size, count and names
_SECTION = struct.Struct("<IIQQQQI")  # name, kind, flags, address, offset, size, index of its names
_HEADER_SIZE = 64
_NAMES_LIMIT = 1 << 20  # bytes of section names; real ones have some hundreds
_FATBIN = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes that follow
_ENTRY = struct.Struct("<HHIQ12xI8xQ")  # kind, version, size of this header, bytes of the payload; architecture, flags
_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_SECTIONS = {b".nv_fatbin", b"__nv_relfatbin"}
_SPECIFIC = 0x100000  # such as sm_90a: runs on exactly that compute capability
_COMPRESSED = 0x8000  # in a form that drivers before R550 cannot read; 0x2000 is the old one
_DYNAMIC, _NEEDED = 6, 1  # section kind; tag of a library that is loaded with this one
_CUDA = re.compile(rb"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.(1[0-9])\b")  # numbered as CUDA itself


@dataclass(frozen=True)
class DeviceCode:
    """What the fatbins of a library contain; every field is sorted.

    Attributes:
        cubins: compute capabilities with machine code, which newer minors of the same major run too.
        specific: compute capabilities with machine code that no other one runs, such as (9, 0) for sm_90a.
        ptx: compute capabilities with PTX, which a driver can compile for newer GPUs.
        compressed: drivers before R550 cannot read it.
        cuda: majors of the CUDA libraries that it is linked with; none where they are in the file itself.
    """

    cubins: tuple[tuple[int, int], ...] = ()
    specific: tuple[tuple[int, int], ...] = ()
    ptx: tuple[tuple[int, int], ...] = ()
    compressed: bool = False
    cuda: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.cubins or self.specific or self.ptx)


def installed_code() -> dict[str, object]:
    """The device code of every installed distribution that has some, and how many libraries could not be read."""
    until, unread, packages = time.monotonic() + SECONDS, 0, []
    mapped = _mapped()
    for distribution in distributions():
        try:
            named = [file for file in distribution.files or () if ".so" in file.name]
            files = sorted({str(distribution.locate_file(file)) for file in named})
            name, version = (distribution.metadata["Name"], distribution.version) if files else ("", "")
        except (OSError, ValueError, TypeError, LookupError):  # what a broken installation left behind
            unread += 1
            continue
        found, loaded = set(), False
        for file in files:
            try:
                code = _code_of(file) if time.monotonic() < until else None
            except (OSError, ValueError):
                code = None
            unread += code is None
            if code:
                found.add(code)
                loaded |= os.path.realpath(file) in mapped
        if found:
            code_of = [*map(asdict, in_order(found))]
            packages.append({"name": str(name), "version": str(version), "loaded": loaded, "code": code_of})
    return {"packages": sorted(packages, key=lambda each: str(each["name"])), "unread": unread}


def read_device_code(file: BinaryIO) -> DeviceCode:
    """The device code of an ELF64 file; none where it is no such file or has none.

    Raises:
        ValueError: a fatbin has another layout than the one known here, so its code is unknown.
    """
    sections = [*_sections(file)]
    fatbins = [(start, start + size) for name, _, start, size, _ in sections if name in _SECTIONS]
    entries = [entry for start, end in fatbins for entry in _entries(file, start, end)]
    if not entries:
        return DeviceCode()
    codes = {(kind, bool(flags & _SPECIFIC), divmod(number, 10)) for kind, number, flags in entries}
    return DeviceCode(
        tuple(sorted(capability for kind, specific, capability in codes if kind == _CUBIN and not specific)),
        tuple(sorted({capability for _, specific, capability in codes if specific})),
        tuple(sorted(capability for kind, specific, capability in codes if kind == _PTX and not specific)),
        any(flags & _COMPRESSED for _, _, flags in entries),
        tuple(sorted({int(found[1]) for name in _needed(file, sections) if (found := _CUDA.match(name))})),
    )


def in_order(found: set[DeviceCode]) -> list[DeviceCode]:
    """In an order that does not change."""
    return sorted(found, key=lambda code: (code.cubins, code.specific, code.ptx, code.compressed, code.cuda))


def _code_of(path: str) -> DeviceCode:
    with Path(path).open("rb") as file:
        return read_device_code(file)


def _mapped() -> set[str]:
    """Files of the libraries that this process has loaded."""
    with suppress(OSError):
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if ".so" in line}
    return set()


def _needed(file: BinaryIO, sections: list[tuple[bytes, int, int, int, int]]) -> Iterator[bytes]:
    """Names of the libraries that are loaded with this one."""
    for _, kind, start, size, index in sections:
        if kind == _DYNAMIC and index < len(sections):
            names = _read(file, sections[index][2], min(sections[index][3], _NAMES_LIMIT))
            table = _read(file, start, min(size, _NAMES_LIMIT))
            for tag, at in struct.iter_unpack("<qQ", table[: len(table) // 16 * 16]):
                if tag == _NEEDED:
                    yield names[at : at + 64].partition(b"\0")[0]


def _sections(file: BinaryIO) -> Iterator[tuple[bytes, int, int, int, int]]:
    """Name, kind, offset and size of each section, and the index of the one with its names."""
    header = _read(file, 0, _ELF.size)
    if len(header) < _ELF.size or header[:6] != b"\x7fELF\x02\x01":
        return
    _, start, size, count, names = _ELF.unpack(header)
    table = _read(file, start, size * count) if size == _HEADER_SIZE else b""
    if len(table) < size * count or names >= count:
        return
    sections = [_SECTION.unpack_from(table, size * number) for number in range(count)]
    strings = _read(file, sections[names][4], min(sections[names][5], _NAMES_LIMIT))
    for name, kind, _, _, offset, length, index in sections:
        yield strings[name : strings.find(b"\0", name)], kind, offset, length, index


def _entries(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, architecture (86 for 8.6) and flags of each entry of each fatbin."""
    while position + _FATBIN.size <= end:
        head = _read(file, position, _FATBIN.size)
        if len(head) < _FATBIN.size:
            raise ValueError(f"the section ends before byte {end}, behind the end of the file")
        magic, _, header, length = _FATBIN.unpack(head)
        if magic == 0:  # padding: fatbins are aligned to 8 bytes
            position += 8
            continue
        stop = position + header + length
        if magic != _MAGIC or stop > end:
            raise ValueError(f"no whole fatbin at byte {position}")
        yield from _code(file, position + header, stop)
        position = stop + -stop % 8


def _code(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    while position < end:
        head = _read(file, position, _ENTRY.size)
        if len(head) < _ENTRY.size:
            raise ValueError(f"the entry at byte {position} is cut short")
        kind, _, header, payload, number, flags = _ENTRY.unpack(head)
        position += header + payload
        if header < _HEADER_SIZE or position > end:
            raise ValueError(f"the entry before byte {position} is cut short")
        if kind in {_PTX, _CUBIN}:
            yield kind, number, flags


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Nothing where the offset lies behind the end of the file, however large it is."""
    if offset >= file.seek(0, os.SEEK_END):
        return b""
    file.seek(offset)
    return file.read(size)
