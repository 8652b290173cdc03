"""Requirements as Poetry and Pipenv write them: tables of constraints with caret, tilde and wildcard."""

import re
from collections.abc import Mapping

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from mlship.init.declared.documents import list_in, table_in, text_in
from mlship.init.declared.result import Entry, LocalPackage, RequirementRole, shown
from mlship.requirement_line import parse_requirement

_SCP = re.compile(r"^([\w.-]+@[\w.-]+):(?!/)")  # `git@host:owner/name`, which pip does not read
_PART = re.compile(r"(\^|~=|~|===?|!=|<=|>=|<|>)?\s*v?([\w.*+!-]+)")


class UnclearError(Exception):
    """Why a dependency cannot be written as a requirement."""


def pep440(constraint: str) -> str:
    """A constraint of Poetry or Pipenv as PEP 440 specifiers; empty for any version.

    Raises:
        UnclearError: it has alternatives (`||`) or is not valid.
    """
    if "|" in constraint:
        raise UnclearError("alternatives (`||`) have no form in pip's requirements")
    parts = re.sub(r"([<>=!~^]+)\s+", r"\1", constraint.strip()).replace(",", " ").split()
    text = ",".join(found for part in parts if (found := _specifier(part)))
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise UnclearError(f"{shown(constraint)} is not a version constraint") from error
    return text


def _specifier(part: str) -> str:
    match = _PART.fullmatch(part)
    if not match:
        raise UnclearError(f"{shown(part)} is not a version constraint")
    operator, version = match[1] or "", match[2]
    if version == "*" and operator in ("", "==", ">="):
        return ""
    if operator in ("^", "~"):
        return f">={version},<{_ceiling(operator, version)}"
    return f"{operator or '=='}{version}"


def _ceiling(operator: str, version: str) -> str:
    """The first version that no longer fits: `^` keeps the leftmost number that is not zero, `~` the minor version."""
    try:
        release = Version(version).release
    except InvalidVersion as error:
        raise UnclearError(f"{shown(version)} is not a version") from error
    nonzero = next((place for place, number in enumerate(release) if number), len(release) - 1)
    kept = nonzero if operator == "^" else min(1, len(release) - 1)
    return ".".join(str(number) for number in (*release[:kept], release[kept] + 1))


def python_specifier(value: object) -> str | None:
    """The Python versions of Poetry's `python` entry, which may have alternatives; None if not understood."""
    if not isinstance(value, str):
        return None
    try:
        return pep440(value.split("|")[0])
    except UnclearError:
        return None


class NamedConstraints:
    """The requirements of a table, the local packages among them, and what is not understood."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.entries: list[Entry] = []
        self.packages: list[LocalPackage] = []
        self.notes: list[str] = []

    def add(self, table: Mapping[str, object], role: RequirementRole = "main", group: str = "") -> None:
        """Read a table of dependencies by name."""
        for name, value in table.items():
            if name.lower() == "python":
                continue
            for one in value if isinstance(value, list) else [value]:
                try:
                    self._one(name, one, role, group)
                except UnclearError as error:
                    self.notes.append(f"{self._origin}: `{shown(name).strip('`')}` not understood: {error}")

    def _one(self, name: str, value: object, role: RequirementRole, group: str) -> None:
        if path := text_in(value, "path") or text_in(value, "file"):
            self.packages.append(LocalPackage(path))
            return
        optional: RequirementRole = "extra" if role == "main" and table_in(value).get("optional") is True else role
        text = f"{name}{_extras(value)}{_source(value)}{_marker(value)}"
        if not parse_requirement(text):
            raise UnclearError(shown(value))
        self.entries.append(Entry(text, role=optional, group=group or ("optional" if optional == "extra" else "")))


def _extras(value: object) -> str:
    extras = [item for item in list_in(value, "extras") if isinstance(item, str)]
    return f"[{','.join(extras)}]" if extras else ""


def _source(value: object) -> str:
    """The version, or the address of a repository or file."""
    if isinstance(value, str):
        return pep440(value)
    if not isinstance(value, dict):
        raise UnclearError(shown(value))
    return address_of(value) or pep440(text_in(value, "version") or "*")


def address_of(value: object) -> str:
    """The repository or file of a dependency of Poetry, Pipenv or uv, as ` @ URL`; empty without one."""
    url, folder = text_in(value, "url") or "", text_in(value, "subdirectory")
    if git := text_in(value, "git"):
        revision = next((f"@{found}" for key in ("rev", "ref", "tag", "branch") if (found := text_in(value, key))), "")
        url = "git+" + _SCP.sub(r"ssh://\1/", git.removeprefix("git+")) + revision
    return f" @ {url}{f'#subdirectory={folder}' if folder else ''}" if url else ""


def _marker(value: object) -> str:
    """The environment marker, from Poetry's own keys too."""
    markers = [found for key in ("markers", "marker") if (found := text_in(value, key))]
    if platform := text_in(value, "platform"):
        markers.append(f"sys_platform == '{platform}'")
    if (python := python_specifier(table_in(value).get("python"))) is not None:
        versions = [(one.operator, one.version.removesuffix(".*").split(".")) for one in SpecifierSet(python)]
        markers += [f"python_version {operator} '{'.'.join(parts[:2])}'" for operator, parts in versions]
    return f" ; {' and '.join(f'({marker})' for marker in markers)}" if markers else ""
