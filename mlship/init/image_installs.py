"""What the repository's Dockerfile installs with pip: the files and packages that its server really has."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from posixpath import normpath

from mlship.dockerfile.installers import PIP_OPTIONS_WITH_VALUE, program_and_arguments
from mlship.dockerfile.shell import Command
from mlship.dockerfile.words import UNKNOWN
from mlship.init.builds import Build
from mlship.init.declared.requirement_files import read_requirements
from mlship.init.declared.result import (
    Declared,
    Entry,
    ImageInstalls,
    group_role,
    is_development_package,
    parse_requirement,
)
from mlship.init.tree import Tree

_TOOLS = {"pip", "setuptools", "wheel", "uv", "poetry", "pipenv", "pip-tools", "pdm", "hatch", "virtualenv"}
_PROJECTS = ("pyproject.toml", "setup.cfg", "setup.py")
_FILE_OPTIONS = ("-r", "--requirement", "--requirements")


def read_image_installs(tree: Tree, build: Build) -> ImageInstalls:
    """What the commands of a Dockerfile install; what its text does not decide is left out."""
    words = [word for run in build.runs for command in run.commands for word in _installed(command)]
    found = dict.fromkeys(path for is_file, word in words if is_file and (path := _file(tree, word, build.folder)))
    lines = dict.fromkeys(word for is_file, word in words if not is_file and _is_package(word))
    files = (read_requirements(tree, path) for path in found if group_role(PurePosixPath(path).stem) != "dev")
    own = any(re.fullmatch(r"\./?(\[[^]]*\])?", word) for is_file, word in words if not is_file)
    projects = [normpath(f"{build.folder or '.'}/{name}") for name in _PROJECTS] if own else []
    return ImageInstalls(tuple(files), Declared(build.dockerfile, tuple(map(Entry, lines))), tuple(projects))


def _installed(command: Command) -> Iterator[tuple[bool, str]]:
    """Each requirement of a pip command, and whether it is a file of them."""
    program, arguments = program_and_arguments(command)
    if program == "uv" and arguments[:1] == ("pip",):
        program, arguments = "pip", arguments[1:]
    if program != "pip" or "install" not in arguments:
        return
    rest = list(arguments[arguments.index("install") + 1 :])
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in _FILE_OPTIONS and (equals or rest):
            yield True, value if equals else rest.pop(0)
        elif word.startswith("-r") and not word.startswith("--"):
            yield True, word[2:]
        elif word in PIP_OPTIONS_WITH_VALUE:
            rest = rest[1:]
        elif not word.startswith("-"):
            yield False, word


def _is_package(word: str) -> bool:
    requirement = parse_requirement(word) if UNKNOWN not in word else None
    name = requirement.name if requirement else ""
    return bool(name) and name.partition("-")[0] not in _TOOLS and not is_development_package(name)


def _file(tree: Tree, word: str, folder: str) -> str | None:
    """The file that a path in the image is: the same one below the context, or the only one of its name."""
    inside = normpath(f"{folder or '.'}/{word.lstrip('/')}")
    name = PurePosixPath(word).name
    beside = normpath(f"{folder or '.'}/{name}")
    named = [path for path in tree.files if PurePosixPath(path).name == name]
    return next((path for path in (inside, beside) if path in tree), named[0] if len(named) == 1 else None)
