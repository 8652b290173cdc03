"""Check the model files in mlship.yaml: they exist, are inside the repository and run no code when loaded."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TypeVar

from mlship.errors import UsageError
from mlship.files import sha256_file
from mlship.frameworks import framework_table
from mlship.known_texts import phrase
from mlship.project.config import AllowedPickle, Model
from mlship.project.formats import CODE, MODELS, ModelFormat, identify
from mlship.project.model_code import loaded_names
from mlship.project.onnx_header import read_onnx
from mlship.project.paths import existing_path, shipped_paths
from mlship.project.pickle_globals import unlisted
from mlship.project.structure.bundles import shard_sizes
from mlship.project.structure.cursor import BROKEN
from mlship.project.values import SAFE_CHARACTERS, needs_no_quoting
from mlship.units import few

_PICKLE_NAME = re.compile(r"(?i).*\.(pkl|pickle|joblib|dill|sav|pt|pth|bin|ckpt)(\.(gz|bz2|xz|lzma|z|lz4))?")
_DAYS = 180
_SHOWN = 200  # characters of a path
_HASHED = 1 << 28  # bytes
_INDEX = 64 << 20  # bytes


@dataclass(frozen=True)
class WeightFile:
    """A file of the model.

    Attributes:
        path: relative to the repository, in POSIX form.
        kind: by content; "onnx-data" holds tensors of an ONNX model beside it.
        size: bytes.
    """

    path: str
    kind: ModelFormat
    size: int


F = TypeVar("F", bound=WeightFile)


def check_weights(repo: Path, model: Model) -> tuple[WeightFile, ...]:
    """Every file in `model.weights`, with folders expanded; each is data, not code.

    Raises:
        UsageError: a path is missing or leads out of the repository, or a file is empty, pickled or of an unknown
            format and `model.allow_pickle` does not allow it.
    """
    allowed = {entry.path: entry for entry in model.allow_pickle}
    paths = dict.fromkeys(path for index, named in enumerate(model.weights) for path in _files(repo, named, index))
    files = with_data_files(repo, [weight_file(repo, path) for path in paths])
    for file in files:
        _check(repo, file, allowed.get(file.path))
        if file.kind == "onnx":
            check_external(repo, file, paths)
    return files


def weight_file(repo: Path, path: str) -> WeightFile:
    """Identify a file by its content.

    Raises:
        OSError: the file cannot be read.
    """
    full = repo / path
    return WeightFile(path, identify(full), full.stat().st_size)


def with_data_files(repo: Path, files: Sequence[F]) -> tuple[F, ...]:
    """The same files, with those that hold tensors of an ONNX model or a SavedModel marked as its data."""
    named: dict[str, ModelFormat] = {}
    for file in files:
        if file.kind == "onnx":
            named |= dict.fromkeys(external_files(repo, file.path), "onnx-data")
        elif file.kind == "savedmodel":
            named |= dict.fromkeys(_variables(repo, PurePosixPath(file.path).parent), "savedmodel-data")
    kept = CODE | MODELS | {"lfs-pointer", "empty"}
    return tuple(
        replace(file, kind=named[file.path]) if file.path in named and file.kind not in kept else file for file in files
    )


def _variables(repo: Path, folder: PurePosixPath) -> Iterator[str]:
    """The files of a SavedModel's variables, if they are whole."""
    index = folder / "variables/variables.index"
    try:
        sizes = shard_sizes((repo / index).read_bytes()) if (repo / index).stat().st_size < _INDEX else {}
    except (OSError, *BROKEN):
        return
    names = [folder / f"variables/variables.data-{n:05}-of-{len(sizes):05}" for n in range(len(sizes))]
    if all((repo / name).is_file() and (repo / name).stat().st_size == sizes.get(n) for n, name in enumerate(names)):
        yield from map(str, (index, *names))


def external_files(repo: Path, path: str) -> dict[str, int]:
    """The files that an ONNX model names for its tensors, relative to the repository, and their smallest sizes.

    They may be missing.
    """
    header = read_onnx(repo / path)
    external = header.external.items() if header else ()
    return {os.path.normpath(PurePosixPath(path).parent / place): size for place, size in external}


def _files(repo: Path, named: str, index: int) -> Iterator[str]:
    """The regular files of one entry of `model.weights`, sorted."""
    key = f"model.weights[{index}]"
    full = existing_path(repo, named, key)
    if full.is_file():
        yield named
        return
    found = 0
    for place in shipped_paths(full):
        path = place.relative_to(repo).as_posix()
        if not _is_linked_blob(place) and _is_weight(existing_path(repo, path, key), path, key):
            found += 1
            yield path
    if not found:
        raise UsageError(f"mlship.yaml, {key}: no files in `{named}`", hint=f"download the model to `{named}`")


def _is_linked_blob(path: Path) -> bool:
    """Whether a file is the target of links in the cache of the Hugging Face Hub, which ship it under its name."""
    return is_hub_blob(path) and any(
        link.is_symlink() and link.resolve() == path.resolve()
        for link in (path.parent.parent / "snapshots").glob("*/**/*")
    )


def is_hub_blob(path: Path | PurePosixPath) -> bool:
    """Whether a path is that of a blob in the cache of the Hugging Face Hub."""
    return path.parent.name == "blobs" and path.parent.parent.name.startswith(("models--", "datasets--", "spaces--"))


def _is_weight(full: Path, path: str, key: str) -> bool:
    if full.is_dir():
        raise UsageError(
            f"mlship.yaml, {key}: `{path}` is a symbolic link to a folder, which the image would not contain",
            hint=f"set `{key}` to the folder itself, or copy it into the repository",
        )
    if not full.is_file() or full.name.startswith("."):
        return False
    if not needs_no_quoting(path):
        raise UsageError(
            f"mlship.yaml, {key}: {path!r} has characters that are unsafe in a Dockerfile (safe are {SAFE_CHARACTERS})",
            hint="rename the file",
        )
    return True


def _check(repo: Path, file: WeightFile, allowed: AllowedPickle | None) -> None:
    suffix = PurePosixPath(file.path).suffix.lower()
    expected = "a pickle" if file.kind == "text" and is_pickle_name(file.path) else expected_format(suffix)
    if file.kind == "text" and expected:
        raise UsageError(
            f"`{file.path}` is named like {expected} but contains text",
            hint="look at its first lines: a failed download often leaves an error page; download it again",
        )
    if file.kind in ("empty", "lfs-pointer"):
        raise _refused(file, "", None)
    if file.kind in CODE or file.kind == "unknown":
        _check_allowed(repo, file, allowed, expected)
    _check_names(repo, file, allowed)


def check_external(repo: Path, file: WeightFile, paths: Collection[str] | None = None) -> None:
    """The files with the tensors of an ONNX model are whole, in its folder, and among `paths` if these are given.

    Raises:
        UsageError: one is not.
    """
    folder = PurePosixPath(file.path).parent
    for path, end in external_files(repo, file.path).items():
        shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
        if not PurePosixPath(path).is_relative_to(folder) or path.startswith(("../", "/")):
            raise UsageError(
                f"`{file.path}` has tensors outside of its folder, in `{shown}`",
                hint="save the model again with its tensors beside it",
            )
        missing = not _is_file(repo / path)
        if missing or (paths is not None and path not in paths):
            where = "which does not exist" if missing else "which is not in `model.weights`"
            fix = f"download `{shown}` too" if missing else f"add `{shown}` to `model.weights` in mlship.yaml"
            raise UsageError(f"`{file.path}` has tensors in `{shown}`, {where}", hint=fix)
        if (repo / path).is_symlink() and not is_hub_blob((repo / path).resolve()):
            raise UsageError(
                f"`{file.path}` has tensors in `{shown}`, which is a symbolic link", hint="replace the link by the file"
            )
        if (repo / path).stat().st_size < end:
            raise UsageError(
                f"`{file.path}` has tensors up to byte {end} of `{shown}`, which is shorter",
                hint=f"download `{shown}` again",
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


def is_pickle_name(path: str) -> bool:
    """Whether a file is named like a pickle, compressed or not."""
    return _PICKLE_NAME.fullmatch(path) is not None


def expected_format(suffix: str) -> str | None:
    """The format that a file name promises."""
    return next((kind for kind, row in framework_table().formats.items() if suffix and row.suffix == suffix), None)


def _refused(file: WeightFile, digest: str, expected: str | None) -> UsageError:
    """Why a file is refused and the next step; with a digest, also the mlship.yaml entry that would allow it."""
    text = framework_table().formats[file.kind]
    damaged = f" (it is named like {expected}, so it may be damaged or cut short)" if expected else ""
    fix = text.fix.format(path=file.path, stem=PurePosixPath(file.path).with_suffix(""))
    exception = f". If you trust this file, allow it in mlship.yaml:{_entry(file.path, digest)}" if digest else ""
    return UsageError(f"`{file.path}` {text.problem}{damaged}", hint=fix + exception)


def _check_allowed(repo: Path, file: WeightFile, allowed: AllowedPickle | None, expected: str | None) -> None:
    if allowed is None:
        raise _refused(file, _digest(repo, file), expected)
    digest = sha256_file(repo / file.path).removeprefix("sha256:")
    if allowed.sha256 != digest:
        raise UsageError(
            f"`{file.path}` is not the file that `model.allow_pickle` allows: its sha256 is {digest}, "
            f"but mlship.yaml has {allowed.sha256}",
            hint="find out who changed it; if the new file is right, put its sha256 in mlship.yaml",
        )
    if allowed.until is not None and allowed.until < today():
        raise UsageError(
            f"`{file.path}` was allowed in mlship.yaml until {allowed.until}",
            hint=f"convert it, or check it again and set `until: {_next_check()}` in its entry of `model.allow_pickle`",
        )


def _check_names(repo: Path, file: WeightFile, allowed: AllowedPickle | None) -> None:
    """All that loading the file imports belongs to a known framework or is trusted by the user."""
    try:
        names = loaded_names(repo / file.path, file.kind)
    except ValueError as error:
        raise UsageError(
            f"`{file.path}`: {error}, so what it does when loaded is unknown",
            hint="write it again without compression, or convert it; do not load a file that you have not made",
        ) from error
    trusted = allowed.trusted if allowed else ()
    if found := unlisted(names, trusted):
        raise UsageError(
            f"`{file.path}` would use {few(found, 8)} when it is loaded, which no framework known to mlship needs",
            hint="do not load this file unless it is yours. If these are your classes, "
            + _trust(repo, file, allowed, (*trusted, *found)),
        )


def _trust(repo: Path, file: WeightFile, allowed: AllowedPickle | None, names: Collection[str]) -> str:
    """The edit that trusts names."""
    line = f"trusted: [{', '.join(sorted(names))}]"
    if allowed:
        return f"add them to its entry of `model.allow_pickle` in mlship.yaml:\n      {line}"
    return f"add an entry to mlship.yaml:{_entry(file.path, _digest(repo, file))}\n        {line}"


def _digest(repo: Path, file: WeightFile) -> str:
    """The hash, or where a large file takes too long for an error message, how to get it."""
    if file.size > _HASHED:
        return f"...  # `sha256sum {file.path}`"
    return sha256_file(repo / file.path).removeprefix("sha256:")


def _entry(path: str, digest: str) -> str:
    return phrase("allow_pickle").format(path=path, digest=digest, until=_next_check())


def _next_check() -> date:
    return today() + timedelta(days=_DAYS)


def today() -> date:
    """The date on which allowed files are checked."""
    return datetime.now(UTC).date()
