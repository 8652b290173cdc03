"""Local wheels for a build: those in the lock are mounted into it; a resolve in the image gets stubs of all of them.

A local index may be many gigabytes, which BuildKit would copy. pip-compile reads only a wheel's metadata, so a stub
with that metadata stands in for it.
"""

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from packaging.version import Version
from pydantic import ValidationError

from mlship.errors import TransientError
from mlship.files import sha256_file, sha256_text, write_atomic
from mlship.lock.indexes import PipSettings
from mlship.lock.localfiles import LocalFile, local_files
from mlship.lock.pins import Pin
from mlship.versioned import adapter

INSTALLER = "installer"  # the group of the programs that install or resolve the others
_METADATA = re.compile(r"[^/]+\.dist-info/(METADATA|WHEEL|entry_points\.txt)")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def stage(settings: PipSettings, groups: Mapping[str, Iterable[Pin]], cache: Path) -> Path:
    """Make a folder with, for each group, a folder of exactly the local files that its pins name.

    The same files give the same folder, which is reused. Files are hard links if the disk allows it.

    Steps mount the folder of a group, never the whole: with Docker 26.1, a new runner did not find a step that mounts a
    whole build context in a registry cache, if the exporting engine had seen other files in that context before.

    Args:
        groups: pins by the name of the group; a file matches in name, version and hash.
        cache: mlship's cache folder.

    Raises:
        TransientError: the disk is full or not writable.
    """
    try:
        hashes = Hashes(cache / "hashes.json")
        named = {group: _named(settings, {pin.name: pin for pin in pins}, hashes) for group, pins in groups.items()}
        return _folder(named, cache / "wheelhouse")
    except OSError as error:
        raise TransientError(
            f"cannot collect local wheels in `{cache}`: {error.strerror or error}",
            hint="free space on that disk, or set XDG_CACHE_HOME to a writable folder, then run the same command again",
        ) from error


class Hashes:
    """A cache of sha256 hashes: a file with the same path, size and time is not read again."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._known = _load(store)
        self._new = False

    def of(self, path: Path) -> str:
        """`sha256:<hex>` of a file."""
        stat = path.stat()
        key = f"{path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
        if key not in self._known:
            self._known[key] = sha256_file(path)
            self._new = True
        return self._known[key]

    def save(self) -> None:
        """Store new hashes for the next run."""
        if self._new:
            write_atomic(self._store, json.dumps(self._known, indent=0, sort_keys=True))


def _load(store: Path) -> dict[str, str]:
    try:
        return adapter(dict[str, str]).validate_json(store.read_bytes())
    except (OSError, ValidationError):
        return {}


def _named(settings: PipSettings, pins: dict[str, Pin], hashes: Hashes) -> dict[str, Path]:
    """Local files by name that match the pins."""
    named = {
        name: file.path
        for name, file in local_files(settings, frozenset(pins)).items()
        if file.version == Version(pins[file.name].version) and hashes.of(file.path) in pins[file.name].hashes
    }
    hashes.save()
    return named


def _folder(groups: dict[str, dict[str, Path]], parent: Path) -> Path:
    files = {f"{group}/{name}": path for group, found in groups.items() for name, path in found.items()}
    stats = {name: path.stat() for name, path in files.items()}
    lines = [*groups, *(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats.items())]
    key = sha256_text("\n".join(lines))
    folder = parent / key.removeprefix("sha256:")[:16]
    if folder.is_dir():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=".new-"))
    try:
        for group in groups:
            (temporary / group).mkdir(mode=0o755)
        for name, path in files.items():
            _link(path.resolve(), temporary / name)
        temporary.chmod(0o755)
        with suppress(FileExistsError):  # a concurrent build made the same folder
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or the files of another user
        shutil.copy2(source, target)


def write_stubs(files: dict[str, LocalFile], folder: Path) -> None:
    """Fill `folder` with stubs of wheels and copies of source archives."""
    for name, file in files.items():
        if file.path.suffix == ".whl":
            _write_stub(file.path, folder / name)
        else:
            shutil.copyfile(file.path, folder / name)


def _write_stub(wheel: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as stub:
            for name in sorted(name for name in source.namelist() if _METADATA.fullmatch(name)):
                stub.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(name))
    except (zipfile.BadZipFile, OSError, KeyError):
        target.unlink(missing_ok=True)  # like pip, which ignores a broken wheel unless it is needed
