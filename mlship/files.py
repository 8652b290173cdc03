"""Writing files so that an interruption leaves the old one or the new one, never half of one."""

import hashlib
import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file beside it and a rename.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_text(text: str) -> str:
    """`sha256:<hex>` of a text in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def sha256_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
