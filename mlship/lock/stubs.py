"""Stand-ins for local wheels, for a resolve inside the image: all that pip-compile reads of a wheel is its metadata.

A local index may be many gigabytes, and BuildKit would copy all of it. A stand-in has the wheel's name and metadata
and a few kilobytes; pip-compile hashes it as if it were the wheel, and `true_hashes` puts the wheel's own hash there.
"""

import re
import shutil
import zipfile
from pathlib import Path

from mlship.files import sha256_file
from mlship.lock.localfiles import LocalFile
from mlship.lock.wheelhouse import Hashes

_METADATA = re.compile(r"[^/]+\.dist-info/(METADATA|WHEEL|entry_points\.txt)")
_HASH_BLOCK = re.compile(r"(?:^ {4}--hash=\S+(?: \\)?\n)+", re.MULTILINE)
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_stubs(files: dict[str, LocalFile], folder: Path) -> dict[str, Path]:
    """Fill `folder` with stand-ins for wheels, and source archives as they are.

    Returns:
        The real file by the `sha256:<hex>` of its stand-in.
    """
    originals: dict[str, Path] = {}
    for name, file in files.items():
        target = folder / name
        if file.path.suffix != ".whl":
            shutil.copyfile(file.path, target)
        elif _write_stub(file.path, target):
            originals[sha256_file(target)] = file.path
    return originals


def true_hashes(lock: str, originals: dict[str, Path], hashes: Hashes) -> str:
    """The lock with the hash of each stand-in replaced by its wheel's, sorted and unique as pip-compile has them."""

    def block(match: re.Match[str]) -> str:
        named = re.findall(r"--hash=(\S+)", match[0])
        real = sorted({hashes.of(originals[name]) if name in originals else name for name in named})
        return " \\\n".join(f"    --hash={name}" for name in real) + "\n"

    return _HASH_BLOCK.sub(block, lock)


def _write_stub(wheel: Path, target: Path) -> bool:
    try:
        with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as stub:
            for name in sorted(name for name in source.namelist() if _METADATA.fullmatch(name)):
                stub.writestr(zipfile.ZipInfo(name, _EPOCH), source.read(name))
    except (zipfile.BadZipFile, OSError, KeyError):
        target.unlink(missing_ok=True)  # as pip: a broken wheel is no candidate until somebody needs it
        return False
    return True
