"""The device code of a shared library: for which GPUs it has machine code, and which PTX a driver can compile. Pure.

Read from ELF64 sections named .nv_fatbin and __nv_relfatbin, which hold fatbins one after the other. The layout was
measured on wheels of bitsandbytes, faiss-gpu-cu12 and onnxruntime-gpu and agrees with NVIDIA's `cuobjdump`.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from mlship.cuda.versions import Capability

_ELF = struct.Struct("<16s24xQ10xHHH")  # identification; where the section headers are, their size, count and names
_SECTION = struct.Struct("<IIQQQQ")  # name, kind, flags, address, offset, size
_HEADER_SIZE = 64
_NAMES_LIMIT = 1 << 20  # bytes of section names; real ones have some hundreds
_FATBIN = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes that follow
_ENTRY = struct.Struct("<HHIQ")  # kind, version, size of this header, bytes of the payload
_MAGIC = 0xBA55ED50
_PTX, _CUBIN = 1, 2
_SECTIONS = {b".nv_fatbin", b"__nv_relfatbin"}
_SPECIFIC = 0x100000  # such as sm_90a: runs on exactly that compute capability
_NEW_COMPRESSION = 0x8000  # drivers before R550 cannot read it


@dataclass(frozen=True)
class DeviceCode:
    """What the fatbins of one or more libraries contain.

    Attributes:
        cubins: compute capabilities with machine code, which newer minors of the same major run too.
        specific: compute capabilities with machine code that no other one runs, such as 9.0 for sm_90a.
        ptx: compute capabilities with PTX, which a driver can compile for newer GPUs.
        compressed: some entry needs a driver of R550 or newer to decompress it.
    """

    cubins: frozenset[Capability] = field(default_factory=frozenset)
    specific: frozenset[Capability] = field(default_factory=frozenset)
    ptx: frozenset[Capability] = field(default_factory=frozenset)
    compressed: bool = False

    def __bool__(self) -> bool:
        return bool(self.cubins or self.specific or self.ptx)

    def __or__(self, other: "DeviceCode") -> "DeviceCode":
        return DeviceCode(
            self.cubins | other.cubins,
            self.specific | other.specific,
            self.ptx | other.ptx,
            self.compressed or other.compressed,
        )


def read_device_code(file: BinaryIO) -> DeviceCode:
    """The device code of an ELF64 file; none where it is no such file or has none.

    Raises:
        ValueError: a fatbin has another layout than the one known here, so its code is unknown.
    """
    found = DeviceCode()
    for offset, size in _fatbin_sections(file):
        for kind, capability, flags in _entries(file, offset, offset + size):
            one = frozenset({capability})
            if kind == _PTX:
                found |= DeviceCode(ptx=one)
            elif flags & _SPECIFIC:
                found |= DeviceCode(specific=one)
            else:
                found |= DeviceCode(cubins=one)
            found |= DeviceCode(compressed=bool(flags & _NEW_COMPRESSION))
    return found


def _fatbin_sections(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Offset and size of each section with fatbins."""
    header = _read(file, 0, _ELF.size)
    if len(header) < _ELF.size or header[:6] != b"\x7fELF\x02\x01":
        return
    _, start, size, count, names = _ELF.unpack(header)
    table = _read(file, start, size * count) if size == _HEADER_SIZE else b""
    if len(table) < size * count or names >= count:
        return
    sections = [_SECTION.unpack_from(table, size * number) for number in range(count)]
    strings = _read(file, sections[names][4], min(sections[names][5], _NAMES_LIMIT))
    for name, _, _, _, offset, length in sections:
        if strings[name : strings.find(b"\0", name)] in _SECTIONS:
            yield offset, length


def _entries(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, Capability, int]]:
    """Kind, compute capability and flags of each entry of each fatbin."""
    while position + _FATBIN.size <= end:
        head = _read(file, position, _FATBIN.size)
        if len(head) < _FATBIN.size:
            raise ValueError(f"the section ends before byte {end}, behind the end of the file")
        magic, _, header, length = _FATBIN.unpack(head)
        if magic != _MAGIC:
            if magic == 0:  # padding: fatbins are aligned to 8 bytes
                position += 8
                continue
            raise ValueError(f"no fatbin at byte {position}")
        start, stop = position + header, position + header + length
        if stop > end:
            raise ValueError(f"the fatbin at byte {position} is cut short")
        yield from _code(file, start, stop)
        position = stop + -stop % 8


def _code(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, Capability, int]]:
    while position + _HEADER_SIZE <= end:
        head = _read(file, position, _HEADER_SIZE)
        if len(head) < _HEADER_SIZE:
            raise ValueError(f"the entry at byte {position} is cut short")
        kind, _, header, payload = _ENTRY.unpack_from(head)
        (number,) = struct.unpack_from("<I", head, 28)
        (flags,) = struct.unpack_from("<Q", head, 40)
        if header < _HEADER_SIZE or position + header + payload > end:
            raise ValueError(f"the entry at byte {position} is cut short")
        if kind in {_PTX, _CUBIN}:
            yield kind, Capability(*divmod(number, 10)), flags
        position += header + payload
    if position != end:
        raise ValueError(f"{end - position} bytes follow the entry before byte {position}")


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Nothing where the offset lies behind the end of the file, however large it is."""
    if offset >= file.seek(0, os.SEEK_END):
        return b""
    file.seek(offset)
    return file.read(size)
