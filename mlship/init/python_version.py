"""Detect the Python version of a repository."""

import re
from collections.abc import Iterator
from typing import get_args

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from mlship.init.found import Detected
from mlship.init.requirements import conda, pyproject, setup_cfg
from mlship.init.tree import Tree
from mlship.project.commands import Dockerfile
from mlship.project.config import Config

DEFAULT = "3.11"
SUPPORTED: tuple[str, ...] = get_args(Config.model_fields["python"].annotation)


def find_python(tree: Tree, dockerfile: Dockerfile | None) -> Detected:
    """Major and minor version from the first file that states one; 3.11 by default."""
    stated = list(_stated(tree, dockerfile))
    if not stated:
        return Detected(DEFAULT, "default: no `.python-version` or `requires-python` found")
    version, where = stated[0]
    differing = [f"{other} ({place})" for other, place in stated[1:] if other != version]
    but = f"; ignored: {', '.join(differing)}" if differing else ""
    if version not in SUPPORTED:
        return Detected(
            DEFAULT, f"default: {where} says {version}, but mlship supports {SUPPORTED[0]} to {SUPPORTED[-1]}"
        )
    return Detected(version, where + but)


def _stated(tree: Tree, dockerfile: Dockerfile | None) -> Iterator[tuple[str, str]]:
    yield from _first(r"^\s*(?:cpython-|python-?)?(\d+\.\d+)", tree.text(".python-version"), ".python-version")
    project = pyproject(tree).get("project")
    required = project.get("requires-python") if isinstance(project, dict) else None
    yield from _lowest(required, "requires-python in pyproject.toml")
    yield from _lowest(setup_cfg(tree, "python_requires"), "python_requires in setup.cfg")
    path, entries = conda(tree)
    for entry in entries:
        yield from _first(r"^(?:[\w-]+::)?python\s*[=<>~]+\s*(\d+\.\d+)", str(entry), path)
    yield from _first(r"^\s*python-(\d+\.\d+)", tree.text("runtime.txt"), "runtime.txt")
    if dockerfile and dockerfile.python:
        yield dockerfile.python, "the Dockerfile's base image"


def _first(pattern: str, text: str | None, where: str) -> Iterator[tuple[str, str]]:
    match = re.search(pattern, text or "")
    if match:
        yield match[1], where


def _lowest(specifiers: object, where: str) -> Iterator[tuple[str, str]]:
    """The lowest supported version that matches, because it is the most likely to have been tested."""
    try:
        wanted = SpecifierSet(specifiers if isinstance(specifiers, str) else "")
    except InvalidSpecifier:
        return
    fits = [version for version in SUPPORTED if wanted.contains(f"{version}.0") or wanted.contains(f"{version}.99")]
    if str(wanted) and fits:
        yield fits[0], where
