"""Check that the lock is as `mlship lock` wrote it and that its inputs did not change. Needs no network or engine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlship.errors import LockError
from mlship.files import read_regular, sha256_text
from mlship.lock.inputs import collect_inputs
from mlship.lock.pins import Pin, parse_lock, with_code
from mlship.lock.record import LockRecord, read_record
from mlship.project.base import record_name
from mlship.project.config import Config


@dataclass(frozen=True)
class Lock:
    """A checked lock: what it was made from, its pins and its text."""

    record: LockRecord
    pins: tuple[Pin, ...]
    text: str


def check_lock(repo: Path, config: Config, cuda: str | None = None) -> Lock:
    """Read the lock and compare it with its inputs.

    Args:
        cuda: the CUDA now chosen for the repository's host files; None without any, and the lock's choice stands.

    Raises:
        LockError: the lock is missing, stale, unhashed or edited by hand; the message lists every change.
        UsageError: a requirements file is missing or contains something that cannot be locked.
    """
    name = config.requirements.lock
    collect_inputs(repo, config)  # problems in them are reported first
    text = read_lock_text(repo / name)
    beside = record_name(config)
    if text is not None and not (repo / beside).exists():
        hashed = "" if "--hash=" in text else " and has no hashes"
        raise LockError(f"no `{beside}`: `{name}` was not written by `mlship lock`{hashed}")
    record = read_record(repo, beside)
    chosen = cuda or record.inputs.get("cuda") or "to be chosen"
    inputs = collect_inputs(repo, config, None if config.gpu is None else chosen)
    changes = [*_changed_inputs(record.inputs, inputs), *_changed_text(record, name, text)]
    if not changes and record.base != inputs["base"]:
        changes.append(f"`{beside}` was edited by hand: its digest belongs to {record.base}")
    if text is None or changes:
        listed = "".join(f"\n- {change}" for change in changes)
        raise LockError(f"the lock is stale:{listed}", changed=_changed_keys(record.inputs, inputs))
    return Lock(record, with_code(parse_lock(text, name), record.code), text)


def read_lock_text(path: Path) -> str | None:
    """The text of a lock; None if the file does not exist.

    Raises:
        LockError: the file cannot be read.
    """
    try:
        return read_regular(path)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(f"`{path.name}` cannot be read as UTF-8 text") from error


def _changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [key for key in dict.fromkeys((*new, *old)) if old.get(key) != new.get(key)]


def _changed_inputs(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = _changed_keys(old, new)
    for key in changed:
        before, after = old.get(key), new.get(key)
        if key == "cuda":
            yield _changed_cuda(before, after, alone=changed == ["cuda"])
        elif not key.startswith(("file ", "folder ")):
            yield f"{key} {before or 'none'} -> {after or 'none'}"
        else:
            what = "is new" if before is None else "is no longer read" if after is None else "has changed"
            yield f"`{key.partition(' ')[2]}` {what}"


def _changed_cuda(before: str | None, after: str | None, *, alone: bool) -> str:
    """Why the CUDA differs; `alone`: no other input changed."""
    if before is None:
        return "mlship.yaml now has a `gpu` section, but the lock was made for the CPU"
    if after is None:
        return f"mlship.yaml no longer has a `gpu` section, but the lock was made for CUDA {before}"
    why = "the hosts or mlship's CUDA tables changed" if alone else "the chosen CUDA changed"
    return f"{why}: CUDA {before} -> {after}"


def _changed_text(record: LockRecord, name: str, text: str | None) -> Iterator[str]:
    if text is None:
        yield f"`{name}` is missing"
    elif sha256_text(text) != record.requirements:
        yield f"`{name}` was edited by hand after `mlship lock` wrote it"
