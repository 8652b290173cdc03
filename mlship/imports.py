"""Which distribution brings a module: data/imports.toml, read on first use.

A module that the table does not list has no distribution here: the index may offer a stranger's under its name.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate

from packaging.utils import canonicalize_name

from mlship.versioned import TableRow, table_reader


class ImportGroup(TableRow):
    """Rows that share a source."""

    source: str
    same: tuple[str, ...] = ()
    differ: Mapping[str, str] = {}


class RemovedModule(TableRow):
    """A module that the standard library had before this Python; `requirement` is empty if nothing replaces it."""

    python: str
    requirement: str


class ImportTable(TableRow):
    """The file, whose header explains its keys."""

    sources: dict[str, str]
    also: frozenset[str]
    groups: tuple[ImportGroup, ...]
    unclear: dict[str, tuple[str, ...]]
    removed: dict[str, RemovedModule]


import_table = table_reader(ImportTable, "imports")


@cache
def known_modules() -> dict[str, str]:
    """The requirement for each listed module."""
    rows = import_table().groups
    same = {module: str(canonicalize_name(module)) for group in rows for module in group.same}
    return same | {module: line for group in rows for module, line in group.differ.items()}


def requirement_for(module: str, python: str | None = None) -> str | None:
    """The requirement that brings a module, dotted or not; None if unknown or in the standard library.

    Args:
        python: version of the image, such as "3.12".
    """
    gone = import_table().removed.get(module.partition(".")[0])
    if gone:
        return (gone.requirement or None) if python and not _before(python, gone.python) else None
    return next((known_modules()[name] for name in [*prefixes(module)][::-1] if name in known_modules()), None)


def distribution_of(module: str) -> str | None:
    """The normalised name of the distribution that brings a module."""
    line = requirement_for(module)
    return str(canonicalize_name(re.split(r"[<>=!~\[ ]", line, maxsplit=1)[0])) if line else None


@cache
def known_distributions() -> frozenset[str | None]:
    """The distributions that bring the listed modules."""
    return import_table().also | frozenset(map(distribution_of, known_modules()))


def candidates_for(module: str) -> tuple[str, ...]:
    """Requirements of which one may bring the module, if the choice is not clear."""
    return import_table().unclear.get(module.partition(".")[0], ())


def is_namespace(module: str) -> bool:
    """Whether many distributions share the module."""
    return module in _namespaces()


def is_foreign(top: str) -> bool:
    """Whether a known distribution brings the module."""
    return is_namespace(top) or requirement_for(top) is not None


def in_standard_library(module: str, python: str) -> bool:
    """Whether the image's Python brings the module."""
    top = module.partition(".")[0]
    if top == "__main__":
        return True
    gone = import_table().removed.get(top)
    return _before(python, gone.python) if gone else top in sys.stdlib_module_names


@cache
def _namespaces() -> frozenset[str]:
    parents = {parent for name in known_modules() for parent in prefixes(name)} - known_modules().keys()
    return frozenset(parents)


def prefixes(module: str) -> Iterator[str]:
    """a, a.b, a.b.c."""
    return accumulate(module.split("."), "{}.{}".format)


def _before(python: str, other: str) -> bool:
    return tuple(map(int, python.split("."))) < tuple(map(int, other.split(".")))
