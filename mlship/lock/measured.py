"""Device code that was measured in wheels: in `mlship.lock`, and by the wheel's hash in mlship's cache for later locks.

A build measures what it installs and keeps it in the cache; `mlship lock` writes what is known of the locked wheels, so
that everyone who has the lock judges by the same facts. What is not known is absent, and never makes a lock stale.
"""

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from mlship.driver.device_code import DeviceCode, in_order, read_device_code
from mlship.files import sha256_file, write_atomic
from mlship.lock.hashes import HashedPin
from mlship.lock.indexes import local_path
from mlship.lock.pins import Pin
from mlship.lock.pip_config import pip_options
from mlship.lock.record import Code, LockRecord, MeasuredCode, read_record
from mlship.resources import cache_folder
from mlship.versioned import adapter, dump

_LARGEST = 100_000  # bytes of a file of the cache
_SHA256 = re.compile(r"[0-9a-f]{64}")


def recorded(parts: Iterable[DeviceCode]) -> Code:
    """Device code as a lock records it."""
    return tuple(
        MeasuredCode(
            _texts(part.cubins), _texts(part.specific), _texts(part.ptx), part.compressed, " ".join(map(str, part.cuda))
        )
        for part in in_order(set(parts))
    )


def _texts(capabilities: tuple[tuple[int, int], ...]) -> str:
    return " ".join(f"{major}.{minor}" for major, minor in capabilities)


def measure_wheel(path: Path) -> Code:
    """The device code of a wheel on this disk.

    Raises:
        OSError, ValueError, BadZipFile: it cannot be read.
    """
    found = list[DeviceCode]()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if ".so" in name.rpartition("/")[2]:
                with archive.open(name) as packed, tempfile.TemporaryFile() as file:
                    shutil.copyfileobj(packed, file)
                    found.append(read_device_code(file))
    return recorded(code for code in found if code)


class CodeCache:
    """Measured wheels of a platform by their sha256, in mlship's cache folder."""

    def __init__(self, cache: Path, platform: str) -> None:
        self._folder = cache / "device_code" / platform.replace("/", "-")

    def of(self, digest: str) -> Code:
        """The code of a wheel; empty if it was never measured."""
        if not _SHA256.fullmatch(digest):
            return ()
        try:
            with (self._folder / f"{digest}.json").open("rb") as file:
                return adapter(_Kept).validate_json(file.read(_LARGEST)).code
        except (OSError, ValidationError):
            return ()

    def keep(self, digest: str, code: Code) -> None:
        """Remember the code of a wheel. What cannot be written is measured again another time."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._folder / f"{digest}.json", dump(_Kept(code)) + "\n")


@dataclass(frozen=True)
class _Kept:
    code: Code


def locked_wheels(pins: Iterable[HashedPin], cache: CodeCache) -> dict[str, str]:
    """The sha256 of the file that each pin installs.

    Wheels on this disk are measured, too: local ones, and those that pip downloaded and keeps in its cache. Resolving
    from an index with metadata files (PEP 658), such as PyPI, downloads none.
    """
    wheels = dict[str, str]()
    for name, file in ((pin.name, pin.installed) for pin in pins if pin.installed):
        path = local_path(file.url)
        digest = sha256_file(path).removeprefix("sha256:") if path else file.sha256
        if digest:
            wheels[name] = digest
        if digest and not cache.of(digest) and (path := path or _downloaded(file.url, digest)):
            with suppress(OSError, ValueError, zipfile.BadZipFile):  # the build reports what cannot be read
                cache.keep(digest, measure_wheel(path))
    return dict(sorted(wheels.items()))


def _downloaded(url: str, digest: str) -> Path | None:
    """The file in pip's cache of downloads, if it has exactly this one."""
    folder = Path(pip_options(os.environ).get("cache-dir") or cache_folder().with_name("pip"))
    name = hashlib.sha224(url.encode()).hexdigest()
    path = folder.joinpath("http-v2", *name[:5], f"{name}.body")
    return path if path.is_file() and sha256_file(path) == f"sha256:{digest}" else None


def known_code(wheels: Mapping[str, str], before: LockRecord | None, cache: CodeCache) -> dict[str, Code]:
    """The code of locked wheels: as the lock before has it for the same wheel, else from the cache."""
    same = {name for name in wheels if before and before.wheels.get(name) == wheels[name]}
    kept = {name: code for name, code in before.code.items() if name in same} if before else {}
    cached = {name: cache.of(digest) for name, digest in wheels.items()}
    return dict(sorted({**{name: code for name, code in cached.items() if code}, **kept}.items()))


def write_known_code(repo: Path, name: str, cache: CodeCache) -> tuple[str, ...]:
    """Add to a lock's record what was measured since; returns the packages."""
    record = read_record(repo, name)
    code = known_code(record.wheels, record, cache)
    if code != record.code:
        replace(record, code=code).write(repo, name)
    return tuple(package for package in code if package not in record.code)


def with_cached_code(pins: Iterable[Pin], cache: CodeCache) -> tuple[Pin, ...]:
    """The same pins with the code of one of their wheels, if all that were measured have the same."""
    found = (
        (pin, {code for digest in pin.hashes if (code := cache.of(digest.removeprefix("sha256:")))}) for pin in pins
    )
    return tuple(replace(pin, code=codes.pop()) if len(codes) == 1 else pin for pin, codes in found)
