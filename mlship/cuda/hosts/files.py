"""Host files on disk: never overwritten if they were recorded or written by hand. Reads and writes files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from mlship.cuda.hosts.profile import HostProfile, parse_host
from mlship.errors import UsageError
from mlship.files import read_regular, write_atomic

FileState: TypeAlias = Literal["new", "same", "changed"]
SUFFIX = ".json"


@dataclass(frozen=True)
class Planned:
    """A host file that an import produces, compared with the file on disk."""

    path: Path
    text: str
    state: FileState


def check_file_name(path: Path) -> None:
    """Check the name of a host file before probing the host.

    Raises:
        UsageError: it is a folder, or does not end in .json.
    """
    if path.is_dir():
        raise UsageError(f"`{path}` is a folder", hint=f"name a file in it: `mlship hosts record {path / 'NAME.json'}`")
    if path.suffix != SUFFIX:
        raise UsageError(
            f"`{path}` does not end in {SUFFIX}, so mlship would not read it as a host file",
            hint=f"run `mlship hosts record {path}{SUFFIX}`",
        )


def save_host(path: Path, text: str) -> FileState:
    """Write a host file that does not exist yet, or has the same content.

    Raises:
        UsageError: it exists with other content.
    """
    state = _state(path, text)
    if state == "changed":
        raise UsageError(
            f"`{path}` exists with different content; a recorded host is never overwritten",
            hint=f"remove it with `rm {path}` and record again",
        )
    if state == "new":
        write_atomic(path, text)
    return state


def plan_import(hosts: Iterable[HostProfile], folder: Path) -> tuple[Planned, ...]:
    """What importing `hosts` would write. Only files of an earlier import may change.

    Raises:
        UsageError: a file of that name was recorded or written by hand, or is not a host file.
    """
    planned = []
    for host in hosts:
        path, text = folder / f"{host.name}{SUFFIX}", host.to_json()
        state = _state(path, text)
        if state == "changed" and parse_host(read_regular(path), str(path)).source != "labels":
            raise UsageError(
                f"`{path}` was not created by an import, so no import overwrites it; nothing was written",
                hint=f"remove it with `rm {path}` and import again, or import into another folder with `--into`",
            )
        planned.append(Planned(path, text, state))
    return tuple(planned)


def outdated(folder: Path, planned: Iterable[Planned]) -> tuple[Path, ...]:
    """Files of earlier imports that no longer match any node."""
    kept = {each.path.name for each in planned}
    return tuple(path for path in sorted(folder.glob(f"*{SUFFIX}")) if path.name not in kept and _is_import(path))


def _is_import(path: Path) -> bool:
    try:
        return parse_host(read_regular(path), str(path)).source == "labels"
    except (UsageError, OSError, UnicodeDecodeError):
        return False


def _state(path: Path, text: str) -> FileState:
    try:
        return "same" if path.read_bytes() == text.encode() else "changed"
    except FileNotFoundError:
        return "new"
