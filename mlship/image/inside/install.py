"""Installs one group of the lock, and splits its packages into the image's layers, with the same bytes every time.

    install.py FOLDER TARGET UV ...

FOLDER holds `requirements.txt`, the group's part of the lock, and `layers.json`: package names by layer. UV ... is the
install command. Each layer becomes TARGET/<layer>/opt/venv/...; TARGET/../metadata gets each package's metadata.

If several packages have the same file, the last by name wins, whatever order the installer chose.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # the base image has no bytecode of the standard library: keep what these imports compile
    sys.pycache_prefix = "/root/.cache/mlship/" + "".join(filter(str.isalnum, sys.version))

import base64
import csv
import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path

CACHE = "/root/.cache/mlship"  # lives as long as the build cache; each engine has its own
VENV = Path("/opt/venv")
PYTHON = Path("/usr/local/bin/python")
# 1980-01-01, the earliest date of a zip file. Not the commit's: a layer must not change with every commit.
EPOCH = 315532800
# Left by installers: caches, and records of a wheel's origin, which differ between machines.
LEFTOVERS = ("uv_cache.json", "uv_build.json", "REQUESTED", "direct_url.json")


def main(arguments: list[str]) -> int:
    target = Path(arguments[1])
    if code := install(Path(arguments[0]), target, arguments[2:]):
        return code
    settle(target.parent)
    return 0


def install(folder: Path, target: Path, installer: list[str]) -> int:
    """Install and split; the exit code of the installer."""
    layers: dict[str, list[str]] = json.loads((folder / "layers.json").read_text())
    create_environment()
    requirements = folder / "requirements.txt"
    if code := add(installer, requirements.read_text()):
        return code
    wanted = {name for names in layers.values() for name in names}
    packages = {name: found for name, found in installed().items() if name in wanted}
    for name in overwritten(packages):
        subprocess.run([*installer, "--reinstall-package", name, "--requirement", str(requirements)], check=True)
    split(layers, packages, target)
    return 0


def add(installer: list[str], requirements: str) -> int:
    """Install pins; those installed here before come from the cache, without a question to the index. Its exit code."""
    pins = requirements.replace("\\\n", "").splitlines()
    marks = {pin: f"{CACHE}/installed-{sha256(f'{sys.version} {os.uname().machine} {pin}')}" for pin in pins}
    known = [] if "--no-cache" in installer else [pin for pin in pins if os.path.exists(marks[pin])]  # noqa: PTH110
    if known and not run(known, [*installer, "--offline"], subprocess.DEVNULL):
        pins = [pin for pin in pins if pin not in known]  # all again if the installer's cache or the index is another
    code = run(pins, installer)
    if not code:
        os.makedirs(CACHE, exist_ok=True)  # noqa: PTH103
        for pin in pins:
            Path(marks[pin]).touch()
    return code


def run(pins: list[str], installer: list[str], errors: int | None = None) -> int:
    command = [*installer, "--requirement", "-"]
    return (
        subprocess.run(command, input="\n".join(pins), text=True, stderr=errors, check=False).returncode if pins else 0
    )


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def create_environment(root: str = "") -> None:
    """Write an empty virtual environment below `root`, as `python -m venv` does without scripts to activate it."""
    Path(f"{root}{site_packages()}").mkdir(parents=True, exist_ok=True)
    venv = Path(f"{root}{VENV}")
    (venv / "lib64").symlink_to("lib")
    (venv / "bin").mkdir(exist_ok=True)  # it may have programs of other groups
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        (venv / "bin" / name).symlink_to(PYTHON)
    version = ".".join(map(str, sys.version_info[:3]))
    settings = f"home = {PYTHON.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    (venv / "pyvenv.cfg").write_text(settings)


def installed() -> dict[str, Path]:
    """The metadata folders of the packages in the environment, by canonical name."""
    return {canonical(folder.stem.rpartition("-")[0]): folder for folder in site_packages().glob("*.dist-info")}


def site_packages() -> Path:
    return VENV / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def canonical(name: str) -> str:
    """The canonical name of a package (PEP 503)."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


@cache
def record(package: Path) -> dict[str, str]:
    """The files in a package's RECORD with their hashes; "" for a file without one.

    Leaves out bytecode, which is stale, and files outside the environment.
    """
    found: dict[str, str] = {}
    site = str(site_packages())
    for path, hash_, *_ in csv.reader((package / "RECORD").read_text(encoding="utf-8").splitlines()):
        file = os.path.normpath(os.path.join(site, path))  # noqa: PTH118  faster, for thousands of files
        if file.startswith(f"{VENV}/") and "/__pycache__/" not in file:
            found[file] = hash_
    return found


def overwritten(packages: dict[str, Path]) -> list[str]:
    """Packages that own a file which another package has overwritten, in order."""
    owners: dict[str, dict[str, str]] = defaultdict(dict)
    for name, package in sorted(packages.items()):
        for path, hash_ in record(package).items():
            owners[path][name] = hash_
    found = set()
    for path, hashes in owners.items():
        last = max(hashes)
        if len(set(hashes.values())) > 1 and hashes[last] and hash_of(path) != hashes[last]:
            found.add(last)
    return sorted(found)


def hash_of(path: str) -> str:
    """The hash of a file in RECORD's format."""
    digest = hashlib.sha256(Path(path).read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def split(layers: dict[str, list[str]], packages: dict[str, Path], target: Path) -> None:
    """Move each package's files to its layer. The last by name goes first, and so gets the files it shares."""
    layer_of = {name: layer for layer, names in layers.items() for name in names}
    (target.parent / "metadata").mkdir(parents=True)
    for layer in layers:  # even if no pin in it applies to this platform, because the image copies every layer
        (target / layer).mkdir(parents=True)
    made: set[str] = set()
    for name in sorted(packages, reverse=True):
        keep_metadata(packages[name], target.parent / "metadata")
        root = target / layer_of[name]
        for path in record(packages[name]):
            move(path, f"{root}{path}", made)


def keep_metadata(info: Path, folder: Path) -> None:
    """Copy a package's name, version and dependencies to `folder`, and remove what installers leave."""
    target = folder / info.name
    target.mkdir(parents=True)
    for name in ("METADATA", "WHEEL"):
        shutil.copy(info / name, target)
    gone = tuple(f"{info.name}/{name}," for name in LEFTOVERS)
    for name in LEFTOVERS:
        (info / name).unlink(missing_ok=True)
    lines = (info / "RECORD").read_text().splitlines()
    kept = sorted(line for line in lines if "__pycache__" not in line and not line.startswith(gone))
    (info / "RECORD").write_text("".join(f"{line}\n" for line in kept))


def move(path: str, target: str, made: set[str]) -> None:
    """Move a file, if a later package has not taken it; `made` has the folders that exist."""
    folder = os.path.dirname(target)  # noqa: PTH120
    if os.path.lexists(path):
        if folder not in made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            made.add(folder)
        os.rename(path, target)  # noqa: PTH104  faster, for thousands of files


def settle(folder: Path) -> None:
    """Give all files one date, and modes that depend only on whether a file is executable.

    Leaves correct files alone: changing a file of an earlier step would copy all of it into this step's layer.
    """
    for where, folders, files in os.walk(folder):
        for name in (*files, *folders):
            settle_one(os.path.join(where, name))  # noqa: PTH118  faster, for thousands of files


def settle_one(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISLNK(found.st_mode):
        mode = 0o755 if found.st_mode & 0o100 else 0o644  # also set for folders
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(path, mode)  # noqa: PTH101
    if found.st_mtime != EPOCH:
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
