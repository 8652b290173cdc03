"""Locks and fetches the model files of `model.sources`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from mlship.errors import UsageError
from mlship.files import place_copy
from mlship.project.config import Config
from mlship.weights.download import Progress, download
from mlship.weights.locked import FILE_NAME, LockedFile, WeightsLock, check_weights_lock, is_locked, read_weights_lock

Watch: TypeAlias = Callable[[str], AbstractContextManager[Progress]]


def lock_weights(repo: Path, config: Config, cache: Path, watch: Watch, *, again: bool = False) -> tuple[str, ...]:
    """Write `weights.lock`; returns the paths that are new in it.

    Args:
        watch: reports the progress of the download of a path.
        again: download also what is locked, because a server may have a newer file.

    Raises:
        UsageError, TransientError: see `download`.
    """
    earlier = read_weights_lock(repo).files
    locked: dict[str, LockedFile] = {}
    for path, source in config.model.sources.items():
        known = earlier.get(path)
        if known and known.source == source and not again:
            locked[path] = known
            continue
        with watch(path) as progress:
            locked[path] = download(source, cache, None, progress)[1]
        if known and locked[path] != known and (repo / path).is_file() and is_locked(repo / path, known):
            (repo / path).unlink()  # mlship put it there
    if locked != earlier:
        WeightsLock(locked).write(repo)
    return tuple(path for path, file in locked.items() if earlier.get(path) != file)


def fetch_weights(repo: Path, config: Config, cache: Path, watch: Watch) -> tuple[str, ...]:
    """Put every locked file into its place; returns the paths that were not there.

    Raises:
        LockError: `weights.lock` is stale.
        CheckFailed: a server has another file than the locked one.
        UsageError, TransientError: see `download`; or another file is in the place.
    """
    fetched: list[str] = []
    for path, locked in check_weights_lock(repo, config).items():
        target = repo / path
        if target.exists():
            if is_locked(target, locked):
                continue
            raise UsageError(
                f"`{path}` is not the file that `{FILE_NAME}` has",
                hint="delete it to fetch the locked one, or run `mlship lock --upgrade` if its source has a new one",
            )
        with watch(path) as progress:
            place_locked(target, locked, cache, progress)
        fetched.append(path)
    return tuple(fetched)


def place_locked(target: Path, locked: LockedFile, cache: Path, progress: Progress) -> None:
    """Put a locked file into its place; a copy in the cache that was changed is downloaded again.

    Raises:
        CheckFailed, UsageError, TransientError: see `download`.
    """
    place_copy(download(locked.source, cache, locked, progress)[0], target)
    if not is_locked(target, locked):
        target.unlink()
        (cache / locked.sha256).unlink(missing_ok=True)
        place_copy(download(locked.source, cache, locked, progress)[0], target)
