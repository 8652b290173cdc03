"""Debian packages that Python packages need beside them: data/system_packages.toml, read on first use."""

from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlship.requirement_line import requirement_in
from mlship.versioned import TableRow, table_reader


class SystemNeed(TableRow):
    """One row of the table, whose header explains the keys."""

    distributions: frozenset[str]
    run: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    below: str | None = None
    instead: str = ""
    why: str
    source: str

    def alternative(self, name: str) -> str | None:
        """A distribution with the same modules that needs nothing."""
        return f"{name}{self.instead}" if self.instead else None


class SystemTable(TableRow):
    trixie: dict[str, str]
    libraries: dict[str, str]
    programs: dict[str, str]
    rows: tuple[SystemNeed, ...]


system_table = table_reader(SystemTable, "system_packages")


def debian_name(package: str, distro: str) -> str:
    """The name of a package of the table in a Debian release."""
    return system_table().trixie.get(package, package) if distro == "trixie" else package


def package_of_library(library: str, distro: str) -> str | None:
    """The Debian package of a shared library such as libGL.so.1."""
    package = system_table().libraries.get(library)
    return debian_name(package, distro) if package else None


def package_of_program(program: str) -> str | None:
    return system_table().programs.get(program)


def system_needs(requirements: Iterable[str]) -> Iterator[tuple[str, SystemNeed]]:
    """The rows for requirement lines, each with the name of its distribution."""
    for line in requirements:
        requirement = requirement_in(line)
        if requirement is None:
            continue
        name = str(canonicalize_name(requirement.name))
        for row in system_table().rows:
            if name in row.distributions and _concerns(row, requirement):
                yield name, row


def _concerns(row: SystemNeed, requirement: Requirement) -> bool:
    """An old version counts only if the requirement pins or bounds it."""
    if row.below is None:
        return True
    limit = Version(row.below)
    upper = ("==", "<", "<=", "~=")
    bounds = [spec.version.removesuffix(".*") for spec in requirement.specifier if spec.operator in upper]
    return any(Version(bound) <= limit and not requirement.specifier.contains(row.below) for bound in bounds)
