"""Which scikit-learn wrote a pickle: looked for in its bytes, because only estimators have a version."""

import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from packaging.version import Version

from mlship.project.formats import decompressor

# https://scikit-learn.org/stable/whats_new/v1.4.html#version-1-4-2
FIRST_FOR_NUMPY_2 = Version("1.4.2")
_LIMIT = 64 << 20  # bytes, after decompression
_MEMO = rb"(?:\x94|q.|r.{4}|\np\d+\n)?"
_TEXT = rb"(?:\x8c.|X.{4}|U.|V|S')"
_VERSION = rb"(\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?(?:\.(?:dev|post)\d+)?)"
_SKLEARN = re.compile(
    rb"_sklearn_version'?" + _MEMO + _TEXT + _VERSION + rb'|"_sklearn_version": \{[^{}]*"content": "\\"' + _VERSION,
    re.DOTALL,
)


def sklearn_of(path: Path) -> str | None:
    """The version of scikit-learn that wrote the estimators of a pickle, a joblib or skops file or a torch archive."""
    with suppress(OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError, RuntimeError):
        found = next(filter(None, map(_SKLEARN.search, _pickles(path))), None)
        return (found[1] or found[2]).decode() if found else None
    return None


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
