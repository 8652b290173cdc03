"""Are the files that mlship.yaml names there, and inside the repository?"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.config import Config

# Never shipped, whatever folder they lie in; the rendered .dockerignore says the same to the engine.
LEFT_OUT = (
    "__pycache__",
    ".git",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ipynb_checkpoints",
)


_JSON_LIMIT = 5_000_000  # a larger one would be felt; the smoke test reads it


def check_paths(repo: Path, config: Config) -> None:
    """Check every file that goes into the image, weights apart.

    Raises:
        UsageError: a path does not exist, is of the wrong kind, or is a symbolic link out of the repository.
    """
    for index, path in enumerate(config.source):
        existing(repo, path, f"source[{index}]")
        for link in _links(repo / path):
            _inside(repo, link, f"source[{index}]")
    _json(repo, config.model.sample, "model.sample")
    if config.model.golden is not None:
        _json(repo, config.model.golden, "model.golden")


def leaves(repo: Path, path: Path) -> bool:
    """The path leads out of the repository, or round in a circle."""
    try:
        return not path.resolve().is_relative_to(repo.resolve())
    except (OSError, RuntimeError):
        return True


def behind_links(repo: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """What symbolic links among the paths lead to, step by step: the image build follows them to files it must see.

    Raises:
        UsageError: a link leads out of the repository, or by an absolute path, which means nothing to the engine.
    """
    root = repo.resolve()
    return tuple(dict.fromkeys(step for path in paths for step in _steps(root, path) if step != path))


def _steps(root: Path, path: str) -> Iterator[str]:
    """Every link on the way, and the end of the way."""
    here, rest = root, [*PurePosixPath(path).parts]
    while rest:
        name = rest.pop(0)
        here = here.parent if name == ".." else here / name
        if not here.is_relative_to(root):
            raise UsageError(f"{path} is a symbolic link out of the repository", hint=f"copy the file to {path}")
        if here.is_symlink():
            yield here.relative_to(root).as_posix()
            rest[:0] = _relative_target(path, here)
            here = here.parent
    yield here.relative_to(root).as_posix()


def _relative_target(path: str, link: Path) -> tuple[str, ...]:
    target = link.readlink()
    if target.is_absolute():
        raise UsageError(
            f"{path} is a symbolic link by an absolute path, {target}, which the image build cannot follow",
            hint=f"make it a relative one: `ln -sfr {target} {link.name}` in its folder",
        )
    return target.parts


def existing(repo: Path, path: str, key: str) -> Path:
    """The path below `repo`, checked to be there and not to lead out of it.

    Raises:
        UsageError: it does not exist or leaves the repository.
    """
    full = repo / path
    if full.is_symlink():
        _inside(repo, full, key)
    if not full.exists():
        raise UsageError(
            f"mlship.yaml, {key}: {path} does not exist in {repo}",
            hint=f"create {path}, or correct {key} in mlship.yaml",
        )
    _inside(repo, full, key)
    return full


def _json(repo: Path, path: str, key: str) -> None:
    full = existing(repo, path, key)
    if not full.is_file():
        raise UsageError(f"mlship.yaml, {key}: {path} is not a file", hint=f"name a JSON file in {key}")
    if full.stat().st_size > _JSON_LIMIT:
        return
    try:
        json.loads(full.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"mlship.yaml, {key}: {path} is not JSON: {error}", hint=f"name a JSON file in {key}"
        ) from error


def _inside(repo: Path, path: Path, key: str) -> None:
    try:
        target = path.resolve(strict=False)
    except (OSError, RuntimeError) as error:
        raise UsageError(f"mlship.yaml, {key}: {path.name} is a symbolic link in a circle", hint="remove it") from error
    if not target.is_relative_to(repo.resolve()):
        raise UsageError(
            f"mlship.yaml, {key}: {path.relative_to(repo)} is a symbolic link out of the repository, to {target}",
            hint="copy the file into the repository: the image build sees nothing outside of it",
        )


def _links(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        yield from (path for name in sorted([*folders, *files]) if (path := Path(root, name)).is_symlink())
