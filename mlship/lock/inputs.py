"""The inputs of a lock: requirements and constraints files, with the files that they include."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from posixpath import normpath

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mlship.errors import UsageError
from mlship.files import read_regular, sha256_file, sha256_text
from mlship.known_texts import phrase
from mlship.lock.packages import folder_hash, package_folder, wheel_of
from mlship.lock.pages import release_in
from mlship.lock.pins import joined_lines
from mlship.project.base import base_name
from mlship.project.config import Config
from mlship.project.paths import leads_outside
from mlship.redact import has_credentials
from mlship.requirement_line import requirement_in

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)")
_LOCAL = re.compile(r"-e\b|--editable\b|\.{1,2}(/|$)|/|file:|\S+\s*@\s*file:")
# https://pip.pypa.io/en/stable/topics/vcs-support/, and archives of source code
_SOURCE = re.compile(
    r"(?:(?:-e|--editable)[\s=]+)?(?:\S+\s*@\s*)?(?:(?:git|hg|svn|bzr)\+|\w+://\S+\.(?:zip|tar\.gz|tgz|tar\.bz2)\b)",
    re.IGNORECASE,
)
_WHEEL = re.compile(
    r"(?:\S+\s*@\s*)?(?P<path>(?!\w+://)[^\s;#@]+\.whl)(?P<marker>\s*;.*)?(?:\s+--hash\S+)*", re.IGNORECASE
)
# `pip freeze` in an environment of conda, or of what was installed from a folder of wheels
_ELSEWHERE = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*@\s*file:(?P<path>/\S+)")


@dataclass(frozen=True)
class InputFile:
    """An input file of the resolver.

    Attributes:
        path: in the repository.
        text: as it is in the repository.
        wheels: required wheels of the repository, as paths in it, by the line that names them.
        folders: required packages by their folder, by the line that names them.
    """

    path: str
    text: str
    wheels: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Line numbers and lines, without comments and blank lines, joined at backslashes."""
        return joined_lines(self.text)

    def requirements(self) -> Iterator[tuple[int, Requirement]]:
        """Line numbers and requirements, without pip's options; pip-compile reports lines that are neither."""
        for number, line in self.lines():
            if requirement := requirement_in(line):
                yield number, requirement

    def resolved(self, wheels: Mapping[str, Path]) -> str:
        """The text for the resolver: a wheel of the repository by its address, since an index may have its name too.

        Args:
            wheels: where the resolver finds wheels, by file name.
        """
        lines = dict(self.lines())
        for number, line in self.lines():
            if line in self.wheels:
                wheel = PurePosixPath(self.wheels[line]).name
                marker = "" if line in self.folders else (_WHEEL.fullmatch(line) or {"marker": ""})["marker"] or ""
                lines[number] = f"{parse_wheel_filename(wheel)[0]} @ {wheels[wheel].as_uri()}{marker}"
        return "".join(f"{lines.get(number, '')}\n" for number in range(1, max(lines, default=0) + 1))


def collect_inputs(repo: Path, config: Config, cuda: str | None = None) -> dict[str, str]:
    """Everything that the lock depends on, by name, as in `LockRecord.inputs`.

    Args:
        cuda: the CUDA chosen for the hosts, on one line; None for the CPU.

    Raises:
        UsageError: from read_inputs.
    """
    read = read_inputs(repo, config)
    files = {f"file {file.path}": sha256_text(file.text) for file in read}
    files |= {f"file {path}": sha256_file(repo / path) for file in read for path in file.wheels.values()}
    files |= {f"folder {path}": folder_hash(repo / path) for file in read for path in file.folders.values()}
    chosen = {"cuda": cuda} if cuda else {}
    return {"python": config.python, "platform": config.platform, "base": base_name(config), **chosen, **files}


def read_inputs(repo: Path, config: Config) -> tuple[InputFile, ...]:
    """The requirements file and every file that it includes, each once, sorted by path.

    Raises:
        UsageError: a file is missing, not text or outside the repository, or has a line that cannot be locked.
        LockError: a package in a folder is not built to a wheel yet.
    """
    files = read_requirement_files(repo, config)
    built = [{line: wheel_of(repo, path) for line, path in file.folders.items()} for file in files]
    return tuple(replace(file, wheels={**file.wheels, **own}) for file, own in zip(files, built, strict=True))


def read_requirement_files(repo: Path, config: Config) -> tuple[InputFile, ...]:
    """Like read_inputs, whether or not the packages in folders are built to wheels.

    Raises:
        UsageError: from read_inputs.
    """
    found: dict[str, InputFile] = {}
    waiting = [(config.requirements.input, "requirements.input in mlship.yaml")]
    while waiting:
        path, named_by = waiting.pop()
        if path not in found:
            found[path] = _with_wheels(repo, _read(repo, path, named_by))
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
        return InputFile(path, read_regular(where))
    except FileNotFoundError as error:
        hint = f"create `{path}` with one package per line, or name another file"
        raise UsageError(f"no `{path}` (named by {named_by})", hint=hint) from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "save it as UTF-8 text that you may read"
        raise UsageError(f"cannot read `{path}` (named by {named_by})", hint=hint) from error


def _with_wheels(repo: Path, file: InputFile) -> InputFile:
    """The file with the wheels that it names by a path, which pip reads from the working folder."""
    wheels = {}
    folders = {line: folder for _, line in file.lines() if (folder := package_folder(repo, line))}
    for number, line in file.lines():
        if match := _WHEEL.fullmatch(line):
            where = f"{file.path}, line {number}"
            path = PurePosixPath(match["path"].removeprefix("file:"))
            if path.is_absolute() or leads_outside(repo, repo / path):
                raise UsageError(f"{where}: `{path}` is outside the repository", hint="copy it into the repository")
            if not (repo / path).is_file():
                raise UsageError(f"{where}: there is no `{path}`", hint="add the wheel, or correct its path")
            try:
                parse_wheel_filename(path.name)
            except InvalidWheelFilename as error:
                raise UsageError(f"{where}: {error}", hint="give the wheel the name that its build gave it") from error
            named = re.findall(r"--hash=sha256:(\w+)", line)
            if named and sha256_file(repo / path).removeprefix("sha256:") not in named:
                hint = f"compare it with `pip hash {path}`, and correct the hash or the wheel"
                raise UsageError(f"{where}: `{path}` does not have the hash in this line", hint=hint)
            wheels[line] = path.as_posix()
    return replace(file, wheels=wheels, folders=folders)


def _included(file: InputFile) -> Iterator[tuple[str, str]]:
    for number, line in file.lines():
        where = f"{file.path}, line {number}"
        if has_credentials(line):
            readable = "contains a password, which everyone with access to the repository can read"
            raise UsageError(
                f"{where}: the address {'names a variable, which the build lacks' if '${' in line else readable}",
                hint=phrase("move_password"),
            )
        if line in file.wheels or line in file.folders:
            continue
        if _SOURCE.match(line) or _LOCAL.match(line):
            kind = "source code at an address" if _SOURCE.match(line) else "a local folder"
            raise UsageError(
                f"{where}: a package from {kind} has no hash, so it cannot be locked", hint=_as_wheel(line)
            )
        if include := _INCLUDE.match(line):
            yield _beside(file.path, include[1].strip(), where), where


def _as_wheel(line: str) -> str:
    """How to require a package that has no hash."""
    if elsewhere := _ELSEWHERE.match(line):
        name = elsewhere["name"]
        release = release_in(elsewhere["path"])
        return phrase("name_release").format(name, release[1] if release else "VERSION")
    source = re.sub(r"^(-e|--editable)[\s=]+", "", line)
    own = "" if _SOURCE.match(line) else "list your own code under `source` in mlship.yaml; for a shared package, "
    return f"{own}{phrase('build_wheel').format(shlex.quote(source))}"


def _beside(path: str, included: str, where: str) -> str:
    """The path of an included file, which is relative to the file that includes it."""
    if "://" in included or included.startswith("/"):
        raise UsageError(f"{where}: only files in the repository can be included", hint="copy it into the repository")
    beside = normpath(PurePosixPath(path).parent / included.strip("\"'"))
    if f"{beside}/".startswith("../"):
        raise UsageError(f"{where}: `{included}` is outside the repository", hint="copy it into the repository")
    return beside
