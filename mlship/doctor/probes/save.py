"""Writing the facts to a file that is not there yet."""

import getpass
import os
import platform
import tempfile
from pathlib import Path

from mlship.errors import UsageError


def private_names() -> tuple[str, ...]:
    """Of this machine and of its user, to be masked."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    node = platform.node()
    names = (node, node.partition(".")[0], user, os.environ.get("SUDO_USER", ""))
    return tuple(dict.fromkeys(name for name in names if name))


def check_new(path: Path) -> None:
    """Refuse before anything is looked at.

    Raises:
        UsageError: there is such a file, or no such folder.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already", hint="name another file; what was recorded is never overwritten")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint=f"mkdir -p {path.parent}")


def save_new(path: Path, text: str) -> None:
    """Write the whole text, or nothing; a file that came to be meanwhile stays.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            Path(name).chmod(0o644)
            os.link(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="name a file in a folder that you may write to"
        ) from error
