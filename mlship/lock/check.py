"""Is the lock still what mlship wrote, and is it still an answer to what is asked? Instant: no network, no engine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlship.errors import LockError
from mlship.files import sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.pins import Pin, parse_lock
from mlship.lock.record import FILE_NAME, LockRecord, read_record
from mlship.project.config import Config


@dataclass(frozen=True)
class Lock:
    """A lock that was checked: what it was made from, what it pins, and its text."""

    record: LockRecord
    pins: tuple[Pin, ...]
    text: str


def check_lock(repo: Path, config: Config, cuda: str | None = None) -> Lock:
    """Read the lock and compare it with what it was made from.

    Args:
        cuda: what is chosen now for the hosts that the repository names; None where it names none, and the lock's own
            choice stands.

    Raises:
        LockError: it is missing, stale, unhashed or edited by hand; the message has everything that changed.
        UsageError: a requirements file is missing or asks for what cannot be locked.
    """
    name = config.requirements.lock
    collect_inputs(repo, config)  # what is wrong with them comes first
    text = read_text(repo / name)
    _refuse_foreign(repo, name, text)
    record = read_record(repo)
    inputs = collect_inputs(repo, config, _chosen(record, config, cuda))
    changes = [*_changed_inputs(record.inputs, inputs), *_changed_text(record, name, text)]
    if not changes and record.base != inputs["base"]:
        changes.append(f"{FILE_NAME} was edited by hand: its digest is of {record.base}")
    if text is None or changes:
        listed = "".join(f"\n- {change}" for change in changes)
        raise LockError(f"the lock is stale:{listed}", changed=_changed_keys(record.inputs, inputs))
    return Lock(record, parse_lock(text, name), text)


def _chosen(record: LockRecord, config: Config, cuda: str | None) -> str | None:
    if config.gpu is None:
        return None
    return cuda or record.inputs.get("cuda") or "to be chosen"


def read_text(path: Path) -> str | None:
    """The text of a lock; None where there is none.

    Raises:
        LockError: it is there and cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"{path.name} cannot be read as UTF-8 text") from error


def _refuse_foreign(repo: Path, name: str, text: str | None) -> None:
    if text is not None and not (repo / FILE_NAME).exists():
        hashed = "" if "--hash=" in text else " and has no hashes"
        raise LockError(f"there is no {FILE_NAME}: {name} was not made by `mlship lock`{hashed}")


def _changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]


def _changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = _changed_keys(old, new)
    for key in changed:
        before, after = old.get(key), new.get(key)
        if key == "cuda":
            yield _changed_cuda(before, after, alone=changed == ["cuda"])
        elif not key.startswith("file "):
            yield f"{key} {before or 'none'} -> {after or 'none'}"
        else:
            what = "is new" if before is None else "is no longer read" if after is None else "changed since the lock"
            yield f"{key.removeprefix('file ')} {what}"


def _changed_cuda(before: str | None, after: str | None, *, alone: bool) -> str:
    """Why the lock is of another CUDA; `alone`: nothing else that it was made from has changed."""
    if before is None:
        return "mlship.yaml asks for a GPU now, and the lock was made for the CPU"
    if after is None:
        return f"mlship.yaml asks for no GPU now, and the lock was made for CUDA {before}"
    why = "the hosts changed, or what mlship knows of them" if alone else "so another CUDA is chosen"
    return f"{why}: CUDA {before} -> {after}"


def _changed_text(record: LockRecord, name: str, text: str | None) -> Iterator[str]:
    if text is None:
        yield f"{name} is missing"
    elif sha256_text(text) != record.requirements:
        yield f"{name} was edited by hand after `mlship lock` wrote it"
