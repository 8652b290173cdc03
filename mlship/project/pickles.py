"""Recognise pickles and list what loading them would import. Nothing is ever unpickled here."""

import logging
import re
from io import SEEK_END
from typing import IO, TYPE_CHECKING, cast
from zipfile import BadZipFile

if TYPE_CHECKING:
    from pickletools import OpcodeInfo

_ENOUGH_OPCODES = 100_000
_HEAD = 1 << 16
_LONGEST = 1 << 26  # bytes of an operand
_SCANNER_ERRORS = (ValueError, TypeError, LookupError, RuntimeError, OSError, EOFError, ImportError, BadZipFile)
_NO_TEXT = 1_000  # opcodes with all their operands, which no text happens to have
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_CALLS = frozenset({"INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"})
_CODE = _CALLS | {"GLOBAL", "STACK_GLOBAL"}


def is_pickle(file: IO[bytes]) -> bool:
    """Whether an unpickler that reads a file from here would run code, or read a whole pickle.

    Any other format can hide one: `GGUF` is also a number to an unpickler. Real files of those formats stop it within
    a few bytes, so this takes time only for pickles.

    Protocols 0 and 1 have no magic number, and many texts begin with their opcodes. An unpickler stops at the first
    opcode that lacks its operands, so only what it would execute counts.
    """
    import pickletools

    stack, names, stream = _Stack(), list[str](), _Stream(file)
    start = stream.peek(_HEAD)
    if len(start) > 2 and start[0] == 0x80 and start[1] <= 5:
        return True
    try:
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", stream)):
            if opcode.name == "STOP":
                ends = not file.read(_HEAD).strip()
                return bool(_CODE.intersection(names)) or (ends and bool(stack.items))
            stack.run(opcode, argument)
            names.append(opcode.name)
            if len(names) > _ENOUGH_OPCODES:
                break
    except _Endless:
        return True
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError, TypeError):
        pass  # no pickle, or raw arrays between the opcodes
    words = is_text(start) and not _CONTROL.search(start)
    counted = _CALLS if words else _CODE  # a list of words may begin with the name of a module
    return bool(counted.intersection(names)) or len(names) > _NO_TEXT


def is_text(head: bytes) -> bool:
    """Whether a file that begins with `head` is UTF-8 text."""
    if b"\x00" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) == _HEAD and error.start > len(head) - 4  # the limit cut a character in two
    return True


class _Endless(Exception):  # noqa: N818  not an error: the answer is known
    """An operand is longer than any real format has at this place."""


class _Stream:
    """What `pickletools` reads, in bounded memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = file.tell()
        self._end = file.seek(0, SEEK_END)
        file.seek(self._at)

    def peek(self, size: int) -> bytes:
        data = self._file.read(size)
        self._file.seek(self._at)
        return data

    def read(self, size: int) -> bytes:
        if size > self._end - self._file.tell():
            return b""
        if size > _LONGEST:
            raise _Endless
        return self._file.read(size)

    def readline(self) -> bytes:
        data = self._file.readline(_LONGEST)
        if len(data) < _LONGEST:
            return data
        if b"\x00" in data[:_HEAD]:
            raise ValueError("numbers, not a line")
        raise _Endless


class _Stack:
    """What an unpickler has on its stack: whether each item is a mark."""

    def __init__(self) -> None:
        self.items: list[bool] = []

    def run(self, opcode: "OpcodeInfo", argument: object) -> None:
        """Execute one opcode; raises ValueError or IndexError where an unpickler would fail."""
        from pickletools import markobject, stackslice

        if opcode.name in ("GLOBAL", "INST") and not _is_importable(str(argument)):
            raise ValueError("no module has this name")
        operands = opcode.stack_before
        if markobject in operands:
            while not self.items.pop():
                pass  # the items above the mark
            operands = operands[: operands.index(markobject)]
        for _ in (operand for operand in operands if operand is not stackslice):
            if self.items.pop() and opcode.name != "POP":
                raise ValueError("an operand is a mark")
        self.items += [item is markobject for item in opcode.stack_after]


def _is_importable(name: str) -> bool:
    """Whether "module attribute", as GLOBAL has them, can be imported at all."""
    module, _, attribute = name.partition(" ")
    parts = (*module.replace("-", "_").split("."), *attribute.split("."))
    return all(part.isidentifier() for part in parts)


def dangerous_imports(file: IO[bytes]) -> tuple[str, ...]:
    """Imports of a pickle or torch archive that picklescan considers dangerous.

    Args:
        file: a seekable file at the beginning of the pickle.

    Raises:
        ValueError: the scanner cannot read it.
    """
    from picklescan.scanner import SafetyLevel, scan_bytes

    log = logging.getLogger("picklescan")
    log.addHandler(logging.NullHandler())  # otherwise its warnings go straight to stderr
    log.propagate = False
    try:
        result = scan_bytes(file, "model")
    except _SCANNER_ERRORS as error:
        raise ValueError(f"picklescan cannot read it: {error}") from error
    found = {f"{g.module}.{g.name}" for g in result.globals if g.safety is SafetyLevel.Dangerous}
    return tuple(sorted(found))
