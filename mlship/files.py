"""Write files atomically: an interruption leaves the old file or the new one, never half of one."""

import codecs
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlship.errors import UsageError

_STREAMS = {"/dev", "/dev/fd"}  # what stdout is redirected to may be a regular file
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # PowerShell: pip freeze > requirements.txt


def read_regular(path: Path, limit: int = 100_000_000) -> str:
    """The text of a regular file; a pipe or device, which could block or never end, is refused.

    Args:
        limit: bytes.

    Raises:
        OSError: it cannot be read, is not a regular file, or is larger.
        UnicodeDecodeError: it is neither UTF-8 nor, by its first bytes, UTF-16.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), encoding="utf-8-sig") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit // 1_000_000} MB", str(path))
        if os.pread(file.fileno(), 2, 0) in _UTF16:
            file.reconfigure(encoding="utf-16")
        return file.read()


def check_readable(path: Path, hint: str) -> None:
    """Refuse a folder, a device, which may never end, and a named pipe, which may have no writer.

    Raises:
        UsageError: it is one, or missing. A pipe of a shell, such as `<(...)`, is a file.
    """
    if not (path.is_file() or (path.is_fifo() and not path.resolve().exists())):
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise UsageError(f"`{path}` is {kind}" if path.exists() else f"no file `{path}`", hint=hint)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file beside it and a rename; a pipe or device is written to as it is.

    Raises:
        OSError: the folder is not writable or the disk is full; the old file is unchanged.
    """
    if path.exists() and (not path.is_file() or str(path.absolute().parent) in _STREAMS):
        path.write_text(text, encoding="utf-8")
        return
    with _beside(path, text) as temporary:
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o644)
        temporary.replace(path)


def write_new(path: Path, text: str) -> bool:
    """Create `path` with `text`. Returns False, and changes nothing, if it exists.

    Raises:
        OSError: the folder is not writable or the disk is full.
    """
    with _beside(path, text) as temporary:
        temporary.chmod(0o644)
        try:
            path.hardlink_to(temporary)  # unlike a rename, this fails if the name exists by now
        except FileExistsError:
            return False
    return True


def place_copy(source: Path, target: Path) -> None:
    """Copy a file to `target`, whole or not at all.

    Raises:
        OSError: the folder is not writable or the disk is full; an old file is unchanged.
    """
    with _beside(target, "") as temporary:
        shutil.copyfile(source, temporary)
        temporary.chmod(0o644)
        temporary.replace(target)


@contextmanager
def _beside(path: Path, text: str) -> Iterator[Path]:
    """A temporary file with `text` in the folder of `path`, which is created if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path.parent)
        raise
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Refuse an output file before the work behind it starts.

    Raises:
        UsageError: the file exists, or its folder does not.
    """
    if os.path.lexists(path):
        raise UsageError(f"`{path}` already exists", hint="name another file; existing files are never overwritten")
    if not path.parent.is_dir():
        raise UsageError(f"no folder `{path.parent}`", hint=f"create it: `mkdir -p {path.parent}`")


def check_writable(folder: Path) -> None:
    """Refuse a folder that work would be written to, before the work starts.

    Raises:
        UsageError: it is not writable.
    """
    if not os.access(folder, os.W_OK):
        hint = "change its permissions, or run the same command in a writable copy"
        raise UsageError(f"the folder `{folder.absolute()}` is not writable", hint=hint)


def save_new(path: Path, text: str) -> None:
    """Write an output file that the user named and `check_new` accepted.

    Raises:
        UsageError: it exists by now, or cannot be written.
    """
    try:
        written = write_new(path, text)
    except OSError as error:
        raise UsageError(
            f"cannot write `{path}`: {error.strerror}", hint="name a file in a folder that you may write to"
        ) from error
    if not written:
        check_new(path)


def sha256_text(text: str) -> str:
    """`sha256:<hex>` of a text in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def has_content(path: Path, sha256: str, size: int) -> bool:
    """Whether a file has this hash, in hex, and this size in bytes."""
    return path.stat().st_size == size and sha256_file(path) == f"sha256:{sha256}"


def sha256_file(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
