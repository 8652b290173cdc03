"""Recognise pickles and list what loading them would import. Nothing is ever unpickled here."""

import logging
from typing import IO, TYPE_CHECKING
from zipfile import BadZipFile

if TYPE_CHECKING:
    from pickletools import OpcodeInfo

_ENOUGH_OPCODES = 100_000
_SCANNER_ERRORS = (ValueError, TypeError, LookupError, RuntimeError, OSError, EOFError, ImportError, BadZipFile)
_NO_TEXT = 1_000  # opcodes with all their operands, which no text happens to have
_CALLS = frozenset({"INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"})
_CODE = _CALLS | {"GLOBAL", "STACK_GLOBAL"}


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins with `head` is a pickle of any protocol."""
    if len(head) > 2 and head[0] == 0x80 and head[1] <= 5:
        return True
    return _is_text_pickle(head)


def _is_text_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no magic number, and many texts begin with their opcodes.

    An unpickler stops at the first opcode that lacks its operands, so only what it would execute counts.
    """
    import pickletools

    stack, names = _Stack(), list[str]()
    try:
        for opcode, argument, position in pickletools.genops(head):
            if opcode.name == "STOP":
                ends = not head[(position or 0) + 1 :].strip()
                return bool(_CODE.intersection(names)) or (ends and bool(stack.items))
            stack.run(opcode, argument)
            names.append(opcode.name)
            if len(names) > _ENOUGH_OPCODES:
                break
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError):
        pass  # no pickle, cut short by the read limit, or raw arrays between the opcodes
    return bool(_CALLS.intersection(names)) or len(names) > _NO_TEXT


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
