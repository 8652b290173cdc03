"""Packages in folders of the repository or beside it, such as those of a monorepo: built to wheels in `wheels/`.

The wheel is what is locked and installed, by its hash. It is built again when the folder's files have changed.
"""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mlship import process
from mlship.errors import LockError, UsageError
from mlship.files import sha256_file, sha256_text
from mlship.leftovers import temporary_folder

WHEELS = "wheels"
_FOLDER = re.compile(
    r"(?:(?:-e|--editable)[\s=]+)?(?:[\w.-]+\s*@\s*)?(?:file:)?(?P<path>\.{1,2}/[^\s;#\[]*)(\[[\w,.-]+\])?"
)
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "node_modules", "venv", WHEELS)
_EPOCH = "315532800"  # 1980-01-01, the first date that a wheel can hold


def package_folder(repo: Path, line: str) -> str | None:
    """The folder that a requirement line names, if it holds a package other than the repository itself."""
    match = _FOLDER.fullmatch(line)
    if not match:
        return None
    path = PurePosixPath(match["path"])
    folder = repo / path
    own = folder.resolve() in {repo.resolve(), *repo.resolve().parents}
    is_package = any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    return path.as_posix() if is_package and not own else None


def wheel_of(repo: Path, folder: str) -> str:
    """The path of the wheel of a package folder.

    Raises:
        LockError: it is not built yet.
    """
    found = _built(repo, folder)
    if not found:
        raise LockError(f"the package in `{folder}` is not built to a wheel yet", hint="run `mlship lock`")
    return found[0].relative_to(repo).as_posix()


def build_packages(repo: Path, folders: Iterable[str], known: dict[str, str]) -> Iterator[str]:
    """Build the wheels of package folders that are new or have changed; yields each wheel's path.

    Args:
        known: the inputs of the lock so far, by name.

    Raises:
        UsageError: a package cannot be built, or has compiled code.
    """
    for folder in folders:
        if not _built(repo, folder) or known.get(f"folder {folder}") != folder_hash(repo / folder):
            yield _build(repo, folder).relative_to(repo).as_posix()


def folder_hash(folder: Path) -> str:
    """A hash of all that a build of the package reads."""
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in sorted(_files(folder))]
    return sha256_text("\n".join(lines))


def _files(folder: Path) -> Iterator[Path]:
    names = [entry.name for entry in folder.iterdir()]
    for name in sorted(set(names) - set(_LEFT_OUT(str(folder), names))):
        path = folder / name
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _files(path)


def _home(repo: Path, folder: str) -> Path:
    """`wheels/<name>`, which holds the wheel of one folder."""
    return repo / WHEELS / (repo / folder).resolve().name


def _built(repo: Path, folder: str) -> list[Path]:
    return sorted(_home(repo, folder).glob("*.whl"))


def _build(repo: Path, folder: str) -> Path:
    """Build in a copy, because build backends write into the folder."""
    home = _home(repo, folder)
    with temporary_folder("package") as work:
        source = work / (repo / folder).resolve().name
        shutil.copytree(repo / folder, source, ignore=_LEFT_OUT, ignore_dangling_symlinks=True)
        out = str(work / "out")
        argv = [*(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--ignore-requires-python"),
                *("--disable-pip-version-check", "--no-input", "--wheel-dir", out, str(source))]  # fmt: skip
        done = process.run(argv, process.Options(cwd=work, env={"SOURCE_DATE_EPOCH": _EPOCH, "TMPDIR": str(work)}))
        wheels = sorted((work / "out").glob("*.whl"))
        if not done.ok or not wheels:
            raise UsageError(
                f"the package in `{folder}` cannot be built to a wheel: {_reason(done.stderr)}",
                hint=f"run `pip wheel --no-deps {folder}` to see the full log",
            )
        _check(wheels[0], folder)
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        return Path(shutil.copy2(wheels[0], home))


def _check(wheel: Path, folder: str) -> None:
    try:
        tags = parse_wheel_filename(wheel.name)[3]
    except InvalidWheelFilename as error:
        raise UsageError(f"the package in `{folder}`: {error}", hint="correct its version") from error
    if any(tag.platform != "any" for tag in tags):
        raise UsageError(
            f"the package in `{folder}` has compiled code, and this machine may not be like the image",
            hint="build its wheel for the image's Python and platform, commit it, and require it by its path",
        )


def _reason(log: str) -> str:
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b.*:", line)]
    errors = [line for line in lines if re.match(r"(error|[\w.]*Error)\b", line, re.IGNORECASE)]
    return (own or errors or lines or ["pip gave no reason"])[-1][:200]
