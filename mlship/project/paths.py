"""Check that the files in mlship.yaml exist and are inside the repository."""

import json
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.config import Config
from mlship.versioned import TableRow, data_table

WORKDIR = "/app"  # the repository in the image


class _PrivateNames(TableRow):
    names: tuple[str, ...]
    undocumented: bool = False


class _LeftOut(TableRow):
    """data/left_out.toml, whose header explains the keys."""

    folders: tuple[str, ...]
    private: tuple[_PrivateNames, ...]


_TABLE = data_table(_LeftOut, "left_out")
LEFT_OUT, PRIVATE = _TABLE.folders, tuple(name for row in _TABLE.private for name in row.names)
UNDOCUMENTED = tuple(name for row in _TABLE.private if row.undocumented for name in row.names)
_JSON_LIMIT = 5_000_000  # bytes; checking larger files would take noticeable time, and the smoke test reads them anyway


def is_private(name: str) -> bool:
    """Whether a file or folder of this name is left out of shipped folders."""
    return any(fnmatch(name, pattern) for pattern in PRIVATE)


def shipped_paths(folder: Path) -> Iterator[Path]:
    """Files, and links to folders, below a folder in a fixed order, without what the image leaves out."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
        yield from (Path(root, name) for name in sorted([*files, *(n for n in folders if Path(root, n).is_symlink())]))


def private_files(repo: Path, sources: Iterable[str]) -> tuple[str, ...]:
    """Files that look like credentials in shipped folders, without those that `source` names themselves."""
    found = []
    for source in (source for source in sources if not is_private(PurePosixPath(source).name)):
        for root, folders, files in os.walk(repo / source):
            folders[:] = sorted(name for name in folders if name not in LEFT_OUT)
            hidden = [name for name in (*files, *folders) if is_private(name) and not name.endswith(".pyc")]
            folders[:] = [name for name in folders if name not in hidden]
            found += [Path(root, name).relative_to(repo).as_posix() for name in hidden]
    return tuple(sorted(set(found) - set(sources)))


def check_paths(repo: Path, config: Config) -> None:
    """Check every file that goes into the image, except weights.

    Raises:
        UsageError: a path does not exist, has the wrong type, or is a symbolic link out of the repository.
    """
    for index, path in enumerate(config.source):
        existing_path(repo, path, f"source[{index}]")
        for link in filter(Path.is_symlink, shipped_paths(repo / path)):
            _inside(repo, link, f"source[{index}]")
    if config.model.metadata:
        _json(repo, config.model.metadata, "model.metadata")
    for key, path in _test_files(config):
        if key == "model.golden" or path.endswith(".json"):
            _json(repo, path, key)
        else:
            _file(repo, path, key)


def _test_files(config: Config) -> Iterator[tuple[str, str]]:
    """The files of the smoke test, with their keys."""
    request, model = config.smoke.request, config.model
    body = request.body if request else None
    named = {"model.sample": model.sample, "model.golden": model.golden, "smoke.request.body": body}
    yield from ((key, path) for key, path in named.items() if path)
    yield from ((f"smoke.request.files.{field}", path) for field, path in (request.files if request else {}).items())


def leads_outside(repo: Path, path: Path) -> bool:
    """Whether a path leads out of the repository or into a loop of symbolic links."""
    try:
        return not path.resolve().is_relative_to(repo.resolve())
    except (OSError, RuntimeError):
        return True


def link_targets(repo: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Every step and target of symbolic links among the paths, which the build context must include.

    Raises:
        UsageError: a link leads out of the repository, or has an absolute target, which means nothing to the engine.
    """
    root = repo.resolve()
    return tuple(dict.fromkeys(step for path in paths for step in _steps(root, path) if step != path))


def _steps(root: Path, path: str) -> Iterator[str]:
    """Every link along a path, then its target."""
    here, rest = root, [*PurePosixPath(path).parts]
    while rest:
        name = rest.pop(0)
        here = here.parent if name == ".." else here / name
        if not here.is_relative_to(root):
            raise UsageError(f"`{path}` is a symbolic link out of the repository", hint=f"copy the file to `{path}`")
        if here.is_symlink():
            yield here.relative_to(root).as_posix()
            if (target := here.readlink()).is_absolute():
                raise UsageError(
                    f"`{path}` is a symbolic link to an absolute path, `{target}`, which the image build cannot follow",
                    hint=f"make the link relative: `ln -sfr {target} {here.name}` in its folder",
                )
            here, rest[:0] = here.parent, target.parts
    yield here.relative_to(root).as_posix()


def existing_path(repo: Path, path: str, key: str) -> Path:
    """A path below `repo` that exists and does not lead out of it.

    Raises:
        UsageError: it does not exist or leads out of the repository.
    """
    full = repo / path
    _inside(repo, full, key)
    if not full.exists():
        raise UsageError(
            f"mlship.yaml, {key}: `{path}` does not exist in `{repo}`",
            hint=f"create `{path}`, or correct `{key}` in mlship.yaml",
        )
    return full


def _file(repo: Path, path: str, key: str) -> Path:
    full = existing_path(repo, path, key)
    if not full.is_file():
        raise UsageError(f"mlship.yaml, {key}: `{path}` is not a file", hint=f"set `{key}` to a file")
    return full


def _json(repo: Path, path: str, key: str) -> None:
    full = _file(repo, path, key)
    if full.stat().st_size > _JSON_LIMIT:
        return
    try:
        json.loads(full.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"mlship.yaml, {key}: `{path}` is not JSON: {error}", hint=f"set `{key}` to a JSON file"
        ) from error


def _inside(repo: Path, path: Path, key: str) -> None:
    try:
        target = path.resolve(strict=False)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"mlship.yaml, {key}: `{path.name}` is in a loop of symbolic links", hint="remove it"
        ) from error
    if not target.is_relative_to(repo.resolve()):
        raise UsageError(
            f"mlship.yaml, {key}: `{path.relative_to(repo)}` is a symbolic link out of the repository, to `{target}`",
            hint="copy the file into the repository; the image build cannot see anything outside it",
        )
