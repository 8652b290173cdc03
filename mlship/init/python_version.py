"""Detect the Python version of a repository."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from mlship.dockerfile.stages import BuildStage
from mlship.init.declared.result import Declared
from mlship.init.found import Detected
from mlship.init.tree import Tree
from mlship.project.config import PYTHONS
from mlship.requirement_line import specifiers

DEFAULT = "3.11"
_OF_IMAGE = r"(?:(?:^|/)python:|:(?:\S*-)?py(?:thon)?-?)(\d+\.\d+)"  # python:3.12-slim, uvicorn-gunicorn:python3.12
_PATCHES = (*range(16), 99)  # `>=3.11.5` and `<3.11.3` both allow some 3.11


@dataclass(frozen=True)
class _Stated:
    """What a file says about the Python version: `text` as written, and the same as a specifier."""

    text: str
    allowed: SpecifierSet
    where: str

    @property
    def fits(self) -> list[str]:
        """The supported versions that it allows."""
        return [version for version in PYTHONS if allows(self.allowed, version)]


def find_python(tree: Tree, declared: Sequence[Declared], stage: BuildStage | None) -> Detected:
    """Major and minor version from the first file that states one; 3.11 by default.

    Of several, the lowest supported version, because it is the most likely to have been tested.
    """
    if not (stated := list(_stated(tree, declared, stage))):
        return Detected(DEFAULT, "default: no `.python-version` or `requires-python` found")
    first = stated[0]
    chosen = first.fits[0] if first.fits else _nearest(first)
    differing = [f"{one.text} ({one.where})" for one in stated[1:] if chosen not in one.fits]
    but = f"; ignored: {', '.join(differing)}" if differing else ""
    if first.fits:
        return Detected(chosen, first.where + but)
    older = "older" if chosen == DEFAULT else "newer"
    tried = f"mlship supports {PYTHONS[0]} to {PYTHONS[-1]}, so {chosen} is tried instead"
    pinned = f"packages pinned for the {older} Python may not install"
    return Detected(chosen, f"{first.where} says {first.text}, but {tried}; {pinned}{but}")


def allows(allowed: SpecifierSet, version: str) -> bool:
    """Whether specifiers allow some patch of a Python version such as 3.11."""
    return any(allowed.contains(f"{version}.{patch}") for patch in _PATCHES)


def _nearest(stated: _Stated) -> str:
    """The oldest supported version for a file that wants an older one, else the newest."""
    newer = any(stated.allowed.contains(f"3.{minor}.0") for minor in range(int(PYTHONS[-1].split(".")[1]) + 1, 100))
    return PYTHONS[-1] if newer else DEFAULT


def _stated(tree: Tree, declared: Sequence[Declared], stage: BuildStage | None) -> Iterator[_Stated]:
    yield from _version(r"^\s*(?:cpython-|python-?)?(\d+\.\d+)", tree.text(".python-version"), ".python-version")
    for one in declared:
        if allowed := specifiers(one.python):
            exact = re.fullmatch(r"==(\d+\.\d+)\.\*", str(one.python))
            yield _Stated(exact[1] if exact else str(one.python), allowed, one.origin)
    yield from _version(r"^\s*python-(\d+\.\d+)", tree.text("runtime.txt"), "runtime.txt")
    if stage:
        yield from _version(_OF_IMAGE, stage.root.image, "the Dockerfile's base image")


def _version(pattern: str, text: str | None, where: str) -> Iterator[_Stated]:
    if match := re.search(pattern, text or ""):
        yield _Stated(match[1], SpecifierSet(f"=={match[1]}.*"), where)
