"""Recognise pickles and list what loading them would import. Nothing is ever unpickled here."""

import logging
from typing import IO
from zipfile import BadZipFile

_ENOUGH_OPCODES = 100_000
_SCANNER_ERRORS = (ValueError, TypeError, LookupError, RuntimeError, OSError, EOFError, ImportError, BadZipFile)
_CODE = {"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX"}


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins with `head` is a pickle of any protocol."""
    if len(head) > 2 and head[0] == 0x80 and head[1] <= 5:
        return True
    return _is_text_pickle(head)


def _is_text_pickle(head: bytes) -> bool:
    """Protocols 0 and 1 have no magic number. Plain text that happens to parse stops early and does nothing."""
    import pickletools

    names: set[str] = set()
    try:
        for count, (opcode, _, position) in enumerate(pickletools.genops(head)):
            names.add(opcode.name)
            if opcode.name == "STOP":
                ends = not head[(position or 0) + 1 :].strip()
                return bool(names & _CODE) or (ends and count > 0)
            if count > _ENOUGH_OPCODES:
                return True
    except (ValueError, UnicodeDecodeError, IndexError, OverflowError):
        return {"GLOBAL", "REDUCE"} <= names  # cut short by the read limit, or raw arrays between the opcodes
    return False


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
