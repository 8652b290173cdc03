"""What the repository's Dockerfile installs with pip: the files and packages that its server really has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from posixpath import normpath

from packaging.utils import canonicalize_name

from mlship.dockerfile.shell import Command, command_table, installer_and_arguments, program_and_arguments
from mlship.dockerfile.stages import CopiedFiles, Run
from mlship.dockerfile.words import UNKNOWN
from mlship.init.builds import Build
from mlship.init.declared.documents import document_if_any, table_in
from mlship.init.declared.requirement_files import read_requirements, read_requirements_text
from mlship.init.declared.result import Declared, ImageInstalls, group_role, is_development_package
from mlship.init.tree import Tree
from mlship.redact import has_credentials, redact
from mlship.requirement_line import parse_requirement
from mlship.units import few
from mlship.versioned import TableRow, table_reader

_PROJECTS = ("pyproject.toml", "setup.cfg", "setup.py")
_SETTINGS = "--config-file"  # stands for an index in pip's settings, which are not in the Dockerfile
# Its builds have local versions such as 2.8.0+cpu, which pip prefers to the same version of PyPI.
_PUBLIC_INDEX = "https://download.pytorch.org/whl"
_HIDING = ("--no-index", _SETTINGS)
_CURRENT = re.compile(r"\./?(\[[^]]*\])?")
_PATH = re.compile(r"(?!.*(://| @ )).*(/.*|\.whl)")


class _InstallerTable(TableRow):
    """data/installers.toml, whose header explains the keys."""

    tools: frozenset[str]
    whole: frozenset[str]
    named: dict[str, str]
    every: dict[str, tuple[str, ...]]


_table = table_reader(_InstallerTable, "installers")


@dataclass
class _Install:
    """One command of pip, or of an installer of the project.

    Attributes:
        groups: extras and dependency groups.
        options: name and value of those that say where packages come from.
    """

    line: int
    copied: CopiedFiles
    files: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    options: list[tuple[str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)

    @property
    def index(self) -> str:
        """The index instead of PyPI; empty for PyPI."""
        return next((value for name, value in reversed(self.options) if name == "--index-url"), "")

    @property
    def wanted(self) -> list[str]:
        """The requirements without tools and packages for development."""
        return [word for word in self.words if UNKNOWN not in word and not _is_tool(word)]

    @property
    def unclear(self) -> str:
        """Why the options cannot be copied; empty if they can."""
        for name, value in self.options:
            if UNKNOWN in value or name in _HIDING or (name == "--find-links" and "://" not in value):
                return "the Dockerfile does not say where they come from"
            if has_credentials(value):
                return "the address of their index contains a password"
        return ""


def read_image_installs(tree: Tree, build: Build) -> ImageInstalls:
    """What the commands of a Dockerfile install and where from; what its text does not decide is left out."""
    env = _environment(tree, build)
    every = [one for run in build.runs for command in run.commands if (one := _read(command, run, env))]
    named = dict.fromkeys(path for one in every for word in one.files if (path := _file(tree, build, one, word)))
    described = [path for path in named if PurePosixPath(path).name in _PROJECTS]  # uv reads these with `-r`
    others = (path for path in named if path not in described and group_role(PurePosixPath(path).stem) != "dev")
    own = [match for one in every for word in one.words if (match := _CURRENT.fullmatch(word))]
    projects = described or [normpath(f"{build.folder or '.'}/{name}") for name in _PROJECTS if own]
    given = [group for one in every for group in one.groups]
    keys = [key for option in given for key in _table().every.get(option, ())]
    tables = (table_in(document_if_any(tree, path), *key.split(".")) for path in projects for key in keys)
    given += [name for table in tables for name in table if group_role(name) != "dev"]
    words = re.findall(r"[\w.-]+", " ".join((*given, *(one[1] or "" for one in own))))
    files, packages = tuple(read_requirements(tree, path) for path in others), _packages(tree, build, every)
    return ImageInstalls(files, packages, tuple(projects), frozenset(map(canonicalize_name, words)))


def _packages(tree: Tree, build: Build, every: Sequence[_Install]) -> Declared:
    """The requirements of the commands themselves, with their indexes.

    A name is only required together with the index that it comes from: on another one, it may be another package.
    """
    indexes = {one.index for one in every if one.files or one.wanted}
    found, notes = list[Declared](), list[str]()
    for one in every:
        where = f"{build.dockerfile}, line {one.line}:"
        own = len(indexes) > 1 and bool(one.index) and not one.index.startswith(_PUBLIC_INDEX)
        reason = one.unclear or ("other commands use another index" if own else "")
        names = [f"`{redact(word)}`" for word in (*one.wanted, *one.files) if UNKNOWN not in word]
        if reason and names:
            notes.append(f"{where} {few(names)}: check the index, because {reason}; packages named there are left out")
        if reason or not names:
            continue
        words = [word for word in one.wanted if not _CURRENT.fullmatch(word)]
        places = {word: _place(tree, build, one, word) for word in words if _PATH.fullmatch(word)}
        absent = (word for word, place in places.items() if not place)
        notes += [f"{where} `{word}` is left out, because it is not in the repository" for word in absent]
        lines = [places.get(word, word) or "" for word in words]
        extra = "--extra-index-url" if len(indexes) > 1 else "--index-url"
        lines += [f"{extra if name == '--index-url' else name} {value}" for name, value in one.options]
        read = read_requirements_text(tree, "Dockerfile", "\n".join(lines))
        notes += [f"{where}{note.partition(':')[2]}" for note in read.notes]
        found.append(read)
    return Declared(
        build.dockerfile,
        tuple({entry.text: entry for one in found for entry in one.entries}.values()),
        options=tuple(dict.fromkeys(option for one in found for option in one.options)),
        packages=tuple({package.path: package for one in found for package in one.packages}.values()),
        notes=tuple(notes),
    )


def _read(command: Command, run: Run, env: Mapping[str, str]) -> _Install | None:
    """The requirements and indexes of a pip command, and what is installed of the project; None for another command."""
    program, arguments = installer_and_arguments(command)
    whole = " ".join((program, *arguments[:1])) in _table().whole
    if not whole and (program != "pip" or "install" not in arguments):
        return None
    given, every = {**env, **command.env}, [word for word in arguments if word in _table().every]
    options = [(kind, word) for name, kind in _table().named.items() for word in given.get(name, "").split()]
    found = _Install(run.line, run.files, words=["."] * whole, options=options, groups=every)
    secrets = (" ".join(mount.values()).lower() for mount in run.mounts if mount.get("type") == "secret")
    found.options += [(_SETTINGS, "") for secret in secrets if "pip" in secret or "index" in secret]
    rest = [word for word in arguments if word != "install"]
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if (kind := _table().named.get(name)) and (equals or rest):
            value = value if equals else rest.pop(0)
            {"file": found.files, "group": found.groups}.get(kind, []).append(value)
            found.options += [(kind, value)] * kind.startswith("--")
        elif word == "--no-index":
            found.options.append((word, ""))
        elif word.startswith("-r") and not word.startswith("--"):
            found.files.append(word[2:])
        elif word in command_table().pip_options:
            rest = rest[1:]
        elif not (word.startswith("-") or whole):
            found.words.append(word)
    return found


def _environment(tree: Tree, build: Build) -> dict[str, str]:
    """The variables of RUN: those of ENV, and of ARG, which the build may set; pip's settings may add an index."""
    if build.stage is None:
        return {}
    commands = (program_and_arguments(command) for run in build.runs for command in run.commands)
    configured = any(program == "pip" and "config" in arguments[:2] for program, arguments in commands)
    if configured or any(PurePosixPath(path).name == "pip.conf" for path in tree.files):
        return {"PIP_EXTRA_INDEX_URL": UNKNOWN}
    given = {name: UNKNOWN if value is None else value for name, value in build.stage.args.items()}
    return given | build.stage.env


def _is_tool(word: str) -> bool:
    requirement = parse_requirement(word)
    name = requirement.name if requirement else ""
    return name.partition("-")[0] in _table().tools or (bool(name) and is_development_package(name))


def _place(tree: Tree, build: Build, one: _Install, word: str) -> str | None:
    """The path of a wheel or a folder of the repository, as pip reads it there."""
    path = re.sub(r"\[[^]]*\]$", "", word)
    inside = normpath(f"{build.folder or '.'}/{path.lstrip('/')}")
    found = inside if inside in tree.folders else _file(tree, build, one, path)
    return f"./{found}" if found else None


def _file(tree: Tree, build: Build, one: _Install, word: str) -> str | None:
    """The file that a path in the image is: the one copied there, or the only one of its name."""
    places = (*one.copied.sources(word), word.lstrip("/"), PurePosixPath(word).name)
    named = [path for path in tree.files if PurePosixPath(path).name == places[-1]]
    found = (path for place in places if (path := normpath(f"{build.folder or '.'}/{place}")) in tree)
    return next(found, named[0] if len(named) == 1 else None)
