"""What a pickle says about itself: the modules that loading it imports, and the scikit-learn that wrote it.

Opcodes are looked for in the bytes, because joblib's files have raw arrays between them. Nothing is unpickled.
"""

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlship.project.formats import decompressor

_LIMIT = 64 << 20  # bytes, after decompression
_NAME = rb"[A-Za-z_][A-Za-z0-9_.]*"
_GLOBAL = re.compile(rb"c(" + _NAME + rb")\n" + _NAME + rb"\n")
_STACK_GLOBAL = re.compile(rb"\x8c(.)(" + _NAME + rb")\x94?\x8c(.)(" + _NAME + rb")\x94?\x93", re.DOTALL)
_MEMO = rb"(?:\x94|q.|r.{4}|\np\d+\n)?"
_TEXT = rb"(?:\x8c.|X.{4}|U.|V|S')"
_VERSION = rb"(\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?(?:\.(?:dev|post)\d+)?)"
_SKLEARN = re.compile(
    rb"_sklearn_version'?" + _MEMO + _TEXT + _VERSION + rb'|"_sklearn_version": \{[^{}]*"content": "\\"' + _VERSION,
    re.DOTALL,
)


@dataclass(frozen=True)
class PickleNames:
    """Names in one pickle.

    Attributes:
        modules: dotted names.
        sklearn: version that wrote its estimators; None if it has none.
    """

    modules: frozenset[str]
    sklearn: str | None


def read_pickle_names(path: Path) -> PickleNames:
    """Look through a pickle, a joblib or skops file or a torch archive; an unreadable file has no names."""
    modules: set[str] = set()
    version: str | None = None
    with suppress(OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError, RuntimeError):
        for data in _pickles(path):
            modules |= {match[1].decode() for match in _GLOBAL.finditer(data)}
            modules |= {match[2].decode() for match in _STACK_GLOBAL.finditer(data) if _has_lengths(match)}
            found = _SKLEARN.search(data)
            version = version or ((found[1] or found[2]).decode() if found else None)
    return PickleNames(frozenset(modules), version)


def _has_lengths(match: re.Match[bytes]) -> bool:
    return match[1][0] == len(match[2]) and match[3][0] == len(match[4])


def _pickles(path: Path) -> Iterator[bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl") or name == "schema.json":
                    with archive.open(name) as member:
                        yield member.read(_LIMIT)
        return
    with path.open("rb") as file:
        data = file.read(_LIMIT)
    decompress = decompressor(data[:8])
    yield decompress(data, _LIMIT) if decompress else data
