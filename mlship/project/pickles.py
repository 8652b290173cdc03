"""Recognise pickles. Nothing is ever unpickled here."""

import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from io import SEEK_CUR, SEEK_END, BytesIO
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pickletools import OpcodeInfo

_ENOUGH_OPCODES = 100_000
_HEAD = 1 << 16
_LONGEST = 1 << 24  # bytes of an operand
_NO_TEXT = 1_000  # opcodes with all their operands, which no text happens to have
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_CALLS = frozenset({"INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"})
_CODE = _CALLS | {"GLOBAL", "STACK_GLOBAL"}
_LETTERS = bytes(range(128)) + b"x" * 128  # an unpickler reads names as UTF-8, and pickletools only ASCII
_NAMED = frozenset({"GLOBAL", "INST"})


def may_be_pickle(head: bytes) -> bool:
    """Whether a longer file that begins with `head` may be a pickle."""
    return is_pickle(BytesIO(head)) or _run(BytesIO(head), words=False, more=True).is_endless


def is_pickle(file: IO[bytes]) -> bool:
    """Whether an unpickler that reads a file from here would run code, or read a whole pickle.

    Any other format can hide one: `GGUF` is also a number to an unpickler. Real files of those formats stop it within
    a few bytes, so this takes time only for pickles.

    Protocols 0 and 1 have no magic number, and many texts begin with their opcodes. An unpickler stops at the first
    opcode that lacks its operands, so only what it would execute counts.
    """
    start = file.read(_HEAD)
    file.seek(-len(start), SEEK_CUR)
    if len(start) > 2 and start[0] == 0x80 and start[1] <= 5:
        return True
    words = is_text(start) and not _CONTROL.search(start)
    run = _run(file, words=words)
    if run.is_endless or run.count > _NO_TEXT or (run.is_whole and (run.left or _CODE & run.names.keys())):
        return True
    # A list of words may begin with the name of a module.
    counted = _CALLS if words and not run.standard else _CODE
    return bool(counted & run.names.keys())


def hides_pickle(data: bytes) -> bool:
    """Whether an unpickler that reads from any of these bytes would run code."""
    return any(_CODE & _run(BytesIO(data[at:]), words=False).names.keys() for at in range(len(data)))


@dataclass
class _Run:
    """What an unpickler does before it fails.

    Attributes:
        names: opcodes.
        standard: it imports a module of the standard library.
        is_whole: it reaches the end; `left`: with a value.
        is_endless: it reads longer than any real format allows.
    """

    names: dict[str, None]
    standard: bool = False
    is_whole: bool = False
    left: bool = False
    is_endless: bool = False
    count: int = 0


def _run(file: IO[bytes], *, words: bool, more: bool = False) -> _Run:
    stack, run = _Stack(words=words), _Run({})
    try:
        for name, argument in _opcodes(_Stream(file, more=more)):
            if name == "STOP":
                run.is_whole = not file.read(_HEAD).strip() or bool(_CODE & run.names.keys())
                run.left = bool(stack.items)
                break
            stack.run(name, argument)
            run.names[name] = None
            run.standard |= name in _NAMED and re.split("[ .]", str(argument), maxsplit=1)[0] in sys.stdlib_module_names
            run.count += 1
            if run.count > _ENOUGH_OPCODES:
                break
    except _Endless:
        run.is_endless = True
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError, TypeError):
        pass  # no pickle, or raw arrays between the opcodes
    return run


def _opcodes(stream: "_Stream") -> Iterator[tuple[str, object]]:
    import pickletools

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # strings of protocol 0 with unusual escapes
        for opcode, argument, _ in pickletools.genops(cast("IO[bytes]", stream)):
            yield opcode.name, argument


@cache
def _effects() -> "dict[str, OpcodeInfo]":
    import pickletools

    return {opcode.name: opcode for opcode in pickletools.opcodes}


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
    """What `pickletools` reads, in bounded memory.

    Args:
        more: the file continues behind the end of what is here.
    """

    def __init__(self, file: IO[bytes], *, more: bool) -> None:
        self._file = file
        self._more = more
        at = file.tell()
        self._end = file.seek(0, SEEK_END)
        file.seek(at)

    def read(self, size: int) -> bytes:
        if size > self._end - self._file.tell():
            if self._more:
                raise _Endless
            return b""
        if size > _LONGEST:
            raise _Endless
        return self._file.read(size)

    def readline(self) -> bytes:
        data = self._file.readline(_LONGEST)
        if len(data) < _LONGEST and (data.endswith(b"\n") or not self._more):
            return data.translate(_LETTERS)
        if b"\x00" in data[:_HEAD]:
            raise ValueError("numbers, not a line")
        raise _Endless


class _Stack:
    """What an unpickler has on its stack: whether each item is a mark."""

    def __init__(self, *, words: bool) -> None:
        self.items: list[bool] = []
        self._words = words

    def run(self, name: str, argument: object) -> None:
        """Execute one opcode; raises ValueError or IndexError where an unpickler would fail."""
        from pickletools import markobject, stackslice

        if self._words and name in _NAMED and not _is_importable(str(argument)):
            raise ValueError("no module has this name")
        opcode = _effects()[name]
        operands = opcode.stack_before
        if markobject in operands:
            while not self.items.pop():
                pass  # the items above the mark
            operands = operands[: operands.index(markobject)]
        for _ in (operand for operand in operands if operand is not stackslice):
            if self.items.pop() and name != "POP":
                raise ValueError("an operand is a mark")
        self.items += [item is markobject for item in opcode.stack_after]


def _is_importable(name: str) -> bool:
    """Whether "module attribute", as GLOBAL has them, can be imported at all."""
    module, _, attribute = name.partition(" ")
    parts = (*module.replace("-", "_").split("."), *attribute.split("."))
    return all(part.isidentifier() for part in parts)
