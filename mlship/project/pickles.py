"""Recognise pickles and list what loading them would import. Nothing is ever unpickled here."""

import logging
from collections.abc import Iterator
from typing import IO
from zipfile import BadZipFile

from packaging.requirements import InvalidRequirement, Requirement

_ENOUGH_OPCODES = 100_000
_SCANNER_ERRORS = (ValueError, TypeError, LookupError, RuntimeError, OSError, EOFError, ImportError, BadZipFile)
_STORED = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_CODE = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"}


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins with `head` is a pickle of any protocol."""
    if len(head) > 2 and head[0] == 0x80 and head[1] <= 5:
        return True
    return _is_text_pickle(head)


def _is_text_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no magic number. Plain text may parse as opcodes, but an unpickler stops at once."""
    names: set[str] = set()
    try:
        for count, (name, position) in enumerate(_executed(head)):
            names.add(name)
            if name == "STOP":
                ends = not head[position + 1 :].strip()
                return bool(names & _CODE) or (ends and count > 0)
            if count > _ENOUGH_OPCODES:
                return True
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError, RecursionError):
        return bool(names & _CODE - {"GLOBAL"})  # cut short by the read limit, or raw arrays between the opcodes
    return bool(names & _CODE) and not (names & _CODE == {"GLOBAL"} and _is_requirements(head))


def _is_requirements(head: bytes) -> bool:
    """Whether every line is one of a requirements file: `ctranslate2>=4` starts with the opcode of an import."""
    try:
        lines = [line.partition("#")[0].strip() for line in head.decode().splitlines()]
        named = [Requirement(line.partition(";")[0]).name for line in lines if line and not line.startswith("-")]
    except (UnicodeDecodeError, InvalidRequirement):
        return False
    return bool(named)


def _executed(data: bytes) -> Iterator[tuple[str, int]]:
    """The opcodes that an unpickler would run, with their positions: it stops where its stack lacks what one takes."""
    from pickletools import genops, markobject

    stack: list[object] = []
    for opcode, _, position in genops(data):
        taken = list(opcode.stack_before)
        if markobject in taken:
            if markobject not in stack:
                return
            del stack[len(stack) - 1 - stack[::-1].index(markobject) :]
            taken = taken[: taken.index(markobject)]
        if len(stack) < len(taken) or (opcode.name in _STORED and not stack):
            return
        del stack[len(stack) - len(taken) :]
        stack.extend(opcode.stack_after)
        yield opcode.name, position or 0


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
