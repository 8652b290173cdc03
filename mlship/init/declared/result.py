"""What one file of a repository says about the environment: requirements, pins, Python, system packages."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlship.init.known import init_table
from mlship.project.config import PYTHONS
from mlship.requirement_line import marker_may_hold, parse_requirement, requirement_in
from mlship.units import first_rows

RequirementRole: TypeAlias = Literal["main", "extra", "dev"]

_DEV_GROUP, _DEV_PACKAGE = init_table().patterns["dev_group"], init_table().patterns["dev_package"]


@dataclass(frozen=True)
class Entry:
    """One requirement in pip syntax.

    Attributes:
        line: its line in the file; 0 if unknown.
        group: the extra or dependency group that lists it; empty for `main`.
    """

    text: str
    line: int = 0
    role: RequirementRole = "main"
    group: str = ""

    @cached_property
    def requirement(self) -> Requirement | None:
        return parse_requirement(self.text)

    @property
    def always(self) -> bool:
        """Whether its marker holds for every Python that mlship supports, on Linux."""
        marker = self.requirement.marker if self.requirement else None
        return marker is None or all(marker_may_hold(marker, "linux/amd64", python) for python in PYTHONS)

    @property
    def name(self) -> str | None:
        """The normalised name; None for a line that is not a requirement."""
        return canonicalize_name(self.requirement.name) if self.requirement else None

    def at(self, address: str) -> "Entry":
        """From an address, ` @ URL`, instead of an index; without one, in any version."""
        wanted = self.requirement
        if wanted is None:
            return self
        extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
        return replace(self, text=f"{wanted.name}{extras}{address}" + (f" ; {wanted.marker}" if wanted.marker else ""))


@dataclass(frozen=True)
class LocalPackage:
    """A package of the repository or beside it.

    Attributes:
        path: its folder or wheel; empty if a workspace names it only by `name`.
    """

    path: str
    line: int = 0
    name: str = ""


@dataclass(frozen=True)
class Declared:
    """What one file says.

    Attributes:
        origin: path of the file.
        entries: requirements of all roles.
        options: pip's options, such as an index.
        packages: local packages.
        lock: the file pins all packages, direct or not, so its versions are constraints.
        ours: a lock that `mlship lock` may replace, because it has the same form.
        usable: a requirements file that pip-tools can resolve unchanged.
        python: specifier of the Python versions, or one version.
        system: Debian packages.
        gpu: how the file asks for a GPU, such as "requires pytorch-cuda".
        predictor: what the file names to run the model, such as `predict.py:Predictor`.
        notes: parts of the file that are not used, with the reason.
    """

    origin: str
    entries: tuple[Entry, ...] = ()
    options: tuple[str, ...] = ()
    packages: tuple[LocalPackage, ...] = ()
    lock: bool = False
    ours: bool = False
    usable: bool = False
    python: str | None = None
    system: tuple[str, ...] = ()
    gpu: str | None = None
    predictor: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.role == "main")

    @property
    def lines(self) -> tuple[str, ...]:
        """The requirements that the program always needs."""
        return tuple(entry.text for entry in self.main)

    @property
    def names(self) -> frozenset[str]:
        """What an image gets from the file: an environment marker may leave a requirement out."""
        return frozenset(entry.name for entry in self.main if entry.name and entry.always)

    def including(self, groups: frozenset[str]) -> "Declared":
        """With the requirements of these extras and groups among those that the program always needs."""
        entries = (replace(one, role="main") if canonicalize_name(one.group) in groups else one for one in self.entries)
        return replace(self, entries=tuple(entries))

    @property
    def lists_any(self) -> bool:
        """Whether it names a requirement, apart from the project that it belongs to."""
        return bool(self.main) or any(one.path not in {".", "", self.folder} for one in self.packages)

    @property
    def folder(self) -> str:
        return self.origin.rpartition("/")[0]


@dataclass(frozen=True)
class ImageInstalls:
    """What `pip install` gets in a Dockerfile.

    Attributes:
        files: requirements files of the repository, without those for development, in the order of the commands.
        packages: what it names itself.
        projects: files that describe the project that it installs (`pip install .`), the first that exists counts.
        groups: extras and dependency groups of it, as normalised.
    """

    files: tuple[Declared, ...] = ()
    packages: Declared = field(default_factory=lambda: Declared(""))
    projects: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()

    @property
    def direct(self) -> tuple[Declared, ...]:
        """The files that say what is required, rather than all versions that were installed."""
        return tuple(one for one in self.files if not one.lock)

    @property
    def decided(self) -> tuple[Declared, ...]:
        """All that is installed, if files say what is required."""
        return (*self.files, self.packages) if self.direct else ()

    def before(self, declared: Iterable[Declared]) -> tuple[Declared, ...]:
        """All files of requirements: these first, because the image has them, and the packages last."""
        origins = {one.origin for one in self.files}
        others = (one.including(self.groups) for one in declared if one.origin not in origins)
        return (*self.files, *others, *([self.packages] if self.packages.entries else []))


def distribution(line: str) -> str | None:
    """The normalised name in a line of a requirements file; None for options, URLs and invalid lines."""
    found = requirement_in(line)
    return canonicalize_name(found.name) if found else None


def one_python(version: str | None) -> str | None:
    """The specifier of a Python version, of which the patch does not count: `==3.11.*` for 3.11.4."""
    return f"=={'.'.join(version.split('.')[:2])}.*" if version else None


def is_development_package(name: str) -> bool:
    """A tool for writing, testing or documenting code; programs do not import it when they serve."""
    return re.fullmatch(_DEV_PACKAGE, name) is not None


def group_role(group: str) -> RequirementRole:
    """The role of an extra or dependency group, by its name."""
    return "dev" if _DEV_GROUP.search(group) else "extra"


def entries_of(values: object, group: str = "") -> Iterator[Entry]:
    """The valid requirements in a list."""
    role: RequirementRole = group_role(group) if group else "main"
    for value in values if isinstance(values, list | tuple) else ():
        if isinstance(value, str) and parse_requirement(value.strip()):
            yield Entry(" ".join(value.split()), role=role, group=group)


def not_understood(values: object, where: str) -> Iterator[str]:
    """Notes about the elements of a list that are not requirements."""
    if values is not None and not isinstance(values, list | tuple):
        yield f"{where}: expected a list of requirements"
        return
    for value in values or ():
        if not (isinstance(value, str) and parse_requirement(value.strip())):
            yield f"{where}: not understood: {shown(value)}"


def shown(value: object) -> str:
    """A value of a file on one short line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)[:400]).split())
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"


def few_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """The first notes, and how many more there are."""
    return tuple(first_rows(dict.fromkeys(notes), 4, "and {} more like it"))
