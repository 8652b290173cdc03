"""`weights.lock`: the size and hash of each model file that `model.sources` names. Reads files only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mlship.errors import LockError, UsageError
from mlship.files import has_content, read_regular, write_atomic
from mlship.project.config import Config
from mlship.project.values import RepoPath, Sha256
from mlship.versioned import dump, parse_versioned

FILE_NAME = "weights.lock"
SCHEMA = 1


@dataclass(frozen=True)
class LockedFile:
    """A model file as it was when it was locked; size in bytes."""

    source: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class WeightsLock:
    files: dict[RepoPath, LockedFile] = field(default_factory=dict)
    schema: int = SCHEMA

    def write(self, repo: Path) -> None:
        """Write `weights.lock` atomically; the same lock gives the same bytes."""
        write_atomic(repo / FILE_NAME, dump(WeightsLock(dict(sorted(self.files.items())))) + "\n")


def read_weights_lock(repo: Path) -> WeightsLock:
    """The lock; an empty one if there is none.

    Raises:
        UsageError: it cannot be read, or is no such lock.
    """
    hint = f"delete `{FILE_NAME}` and run `mlship lock`"
    try:
        text = read_regular(repo / FILE_NAME)
    except FileNotFoundError:
        return WeightsLock()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{FILE_NAME}` cannot be read as UTF-8 text", hint=hint) from error
    return parse_versioned(text, WeightsLock, SCHEMA, f"`{FILE_NAME}` is not a lock of model files", hint)


def check_weights_lock(repo: Path, config: Config) -> Mapping[str, LockedFile]:
    """The locked files, each with the source that mlship.yaml has.

    Raises:
        LockError: a source is not locked, or the lock has others.
    """
    files, sources = read_weights_lock(repo).files, config.model.sources
    locked = {path: file.source for path, file in files.items()}
    if changed := sorted({path for path, _ in locked.items() ^ sources.items()}):
        raise LockError(f"`{FILE_NAME}` is stale: `model.sources` has changed for {', '.join(changed)}")
    return files


def check_fetched(repo: Path, config: Config) -> None:
    """Refuse model files that are missing, or are not the locked ones.

    Raises:
        LockError: see `check_weights_lock`.
        UsageError: a file is missing, or is another one.
    """
    for path, locked in check_weights_lock(repo, config).items():
        if not (repo / path).is_file():
            raise UsageError(f"the model file `{path}` is not here", hint="run `mlship fetch`")
        if not is_locked(repo / path, locked):
            raise UsageError(
                f"`{path}` is not the file that `{FILE_NAME}` has",
                hint=f"delete it and run `mlship fetch`; if it is meant, remove `{path}` from `model.sources`",
            )


def is_locked(path: Path, locked: LockedFile) -> bool:
    """Whether a file has the locked content."""
    return has_content(path, locked.sha256, locked.size)
