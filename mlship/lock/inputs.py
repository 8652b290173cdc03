"""The inputs of a lock: requirements and constraints files, with the files that they include."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.files import sha256_text
from mlship.project.base import base_name
from mlship.project.config import Config
from mlship.project.paths import leads_outside
from mlship.redact import has_credentials

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)")
_LOCAL = re.compile(r"-e\b|--editable\b|\.{1,2}(/|$)|/|file:|\S+\s*@\s*file:")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True)
class InputFile:
    """An input file: its path in the repository and its text."""

    path: str
    text: str

    def lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers and lines, without comments and blank lines."""
        for number, line in enumerate(self.text.splitlines(), 1):
            if stripped := _COMMENT.sub("", line).strip():
                yield number, stripped


def collect_inputs(repo: Path, config: Config, cuda: str | None = None) -> dict[str, str]:
    """Everything that the lock depends on, by name, as in `LockRecord.inputs`.

    Args:
        cuda: the CUDA chosen for the hosts, on one line; None for the CPU.

    Raises:
        UsageError: from read_inputs.
    """
    files = {f"file {file.path}": sha256_text(file.text) for file in read_inputs(repo, config)}
    chosen = {"cuda": cuda} if cuda else {}
    return {"python": config.python, "platform": config.platform, "base": base_name(config), **chosen, **files}


def read_inputs(repo: Path, config: Config) -> tuple[InputFile, ...]:
    """The requirements file and every file that it includes, each once, sorted by path.

    Raises:
        UsageError: a file is missing, not text or outside the repository, or has a line that cannot be locked.
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
        raise UsageError(f"`{path}` is not a requirements file", hint="list the packages you need in `requirements.in`")
    where = repo / path
    if leads_outside(repo, where):
        raise UsageError(
            f"`{path}` is outside the repository (named by {named_by})", hint="copy it into the repository"
        )
    try:
        return InputFile(path, where.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = f"create `{path}` with one package per line, or name another file"
        raise UsageError(f"no `{path}` (named by {named_by})", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "save it as UTF-8 text that you may read"
        raise UsageError(f"cannot read `{path}` (named by {named_by})", hint=hint) from error


def _included(file: InputFile) -> Iterator[tuple[str, str]]:
    for number, line in file.lines():
        where = f"{file.path}, line {number}"
        if has_credentials(line):
            raise UsageError(
                f"{where}: the address contains a password, which everyone with access to the repository can read",
                hint="move the index to pip's configuration (`pip config set`) or the password to `~/.netrc`",
            )
        if _LOCAL.match(line):
            raise UsageError(
                f"{where}: a package from a local folder has no hash, so it cannot be locked",
                hint="list your own code under `source` in mlship.yaml, or put a wheel of it in find-links",
            )
        if include := _INCLUDE.match(line):
            yield _beside(file.path, include[1].strip(), where), where


def _beside(path: str, included: str, where: str) -> str:
    """The path of an included file, which is relative to the file that includes it."""
    if "://" in included or included.startswith("/"):
        raise UsageError(f"{where}: only files in the repository can be included", hint="copy it into the repository")
    parts: list[str] = []
    for part in (*PurePosixPath(path).parent.parts, *PurePosixPath(included.strip("\"'")).parts):
        if part != "..":
            parts.append(part)
        elif not parts:
            raise UsageError(f"{where}: `{included}` is outside the repository", hint="copy it into the repository")
        else:
            parts.pop()
    return "/".join(parts)
