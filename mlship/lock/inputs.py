"""What a lock is made from: requirements and constraints files, with all that they include."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.files import sha256_text
from mlship.project.base import base_name
from mlship.project.config import Config
from mlship.project.paths import leaves
from mlship.redact import has_credentials

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)")
_LOCAL = re.compile(r"-e\b|--editable\b|\.{1,2}(/|$)|/|file:|\S+\s*@\s*file:")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True)
class InputFile:
    """One file that is read: its path inside the repository, and its text."""

    path: str
    text: str

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines without comments and blank ones, with their numbers."""
        for number, line in enumerate(self.text.splitlines(), 1):
            if stripped := _COMMENT.sub("", line).strip():
                yield number, stripped


def collect_inputs(repo: Path, config: Config, cuda: str | None = None) -> dict[str, str]:
    """Everything that decides what the lock says, by name, as `LockRecord.inputs` keeps it.

    Args:
        cuda: the CUDA that was chosen for the hosts, in a line; None for the CPU.

    Raises:
        UsageError: see read_inputs.
    """
    files = {f"file {file.path}": sha256_text(file.text) for file in read_inputs(repo, config)}
    chosen = {"cuda": cuda} if cuda else {}
    return {"python": config.python, "platform": config.platform, "base": base_name(config), **chosen, **files}


def read_inputs(repo: Path, config: Config) -> tuple[InputFile, ...]:
    """The requirements file and all that it includes, each once, sorted by path.

    Raises:
        UsageError: a file is missing, not text or outside the repository, or names what cannot be locked.
    """
    found: dict[str, InputFile] = {}
    waiting = [(config.requirements.input, "requirements.input in mlship.yaml")]
    while waiting:
        path, named_by = waiting.pop()
        if path not in found:
            found[path] = _read(repo, path, named_by)
            waiting += _included(found[path])
    return tuple(found[path] for path in sorted(found))


def _read(repo: Path, path: str, named_by: str) -> InputFile:
    if PurePosixPath(path).suffix in {".toml", ".py", ".cfg"}:
        raise UsageError(f"{path}: mlship locks requirements files only", hint="list what you need in requirements.in")
    where = repo / path
    if leaves(repo, where):
        raise UsageError(f"{path} lies outside the repository (named by {named_by})", hint="copy it here")
    try:
        return InputFile(path, where.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"create {path} with one package a line, or name another file"
        raise UsageError(f"there is no {path} (named by {named_by})", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "it must be a text file in UTF-8 that you may read"
        raise UsageError(f"{path} cannot be read (named by {named_by})", hint=hint) from error


def _included(file: InputFile) -> Iterator[tuple[str, str]]:
    for number, line in file.lines():
        where = f"{file.path}, line {number}"
        if has_credentials(line):
            raise UsageError(
                f"{where}: an address with a password in it, which everybody with the repository can read",
                hint="put the index into pip's own configuration (`pip config set`) or the password into ~/.netrc",
            )
        if _LOCAL.match(line):
            raise UsageError(
                f"{where}: a package from a local folder cannot be locked: it has no hash",
                hint="list your own code under `source` in mlship.yaml, or build a wheel and put it into find-links",
            )
        if include := _INCLUDE.match(line):
            yield _beside(file.path, include[1].strip(), where), where


def _beside(path: str, included: str, where: str) -> str:
    """The path of an included file, which pip takes as relative to the file that includes it."""
    if "://" in included or included.startswith("/"):
        raise UsageError(f"{where}: only files of this repository can be included", hint="copy it here")
    parts: list[str] = []
    for part in (*PurePosixPath(path).parent.parts, *PurePosixPath(included.strip("\"'")).parts):
        if part != "..":
            parts.append(part)
        elif not parts:
            raise UsageError(f"{where}: {included} lies outside the repository", hint="copy it here")
        else:
            parts.pop()
    return "/".join(parts)
