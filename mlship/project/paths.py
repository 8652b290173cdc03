"""Are the files that mlship.yaml names there, and inside the repository?"""

import os
from collections.abc import Iterator
from pathlib import Path

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


def check_paths(repo: Path, config: Config) -> None:
    """Check every file that goes into the image, weights apart.

    Raises:
        UsageError: a path does not exist, is of the wrong kind, or is a symbolic link out of the repository.
    """
    for index, path in enumerate(config.source):
        existing(repo, path, f"source[{index}]")
        for link in _links(repo / path):
            _inside(repo, link, f"source[{index}]")
    _file(repo, config.model.sample, "model.sample")
    if config.model.golden is not None:
        _file(repo, config.model.golden, "model.golden")


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


def _file(repo: Path, path: str, key: str) -> None:
    if not existing(repo, path, key).is_file():
        raise UsageError(f"mlship.yaml, {key}: {path} is not a file", hint=f"name a JSON file in {key}")


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
