"""pyproject.toml (PEP 621, PEP 735, Poetry, PDM, uv) and Pipfile."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from posixpath import normpath

from packaging.utils import canonicalize_name

from mlship.init.declared.documents import list_in, table_in, text_in
from mlship.init.declared.poetry import NamedConstraints, address_of, python_specifier
from mlship.init.declared.requirement_files import read_requirements
from mlship.init.declared.result import (
    Declared,
    Entry,
    LocalPackage,
    RequirementRole,
    entries_of,
    few_notes,
    group_role,
    not_understood,
    one_python,
    shown,
)
from mlship.init.tree import Tree


def read_pyproject(tree: Tree, path: str, document: dict[str, object]) -> Declared | None:
    """Read pyproject.toml; None if it is not for a project."""
    project = table_in(document, "project")
    table = table_in(document, "tool", "poetry")
    poetry, declares = _poetry(table, path), "dependencies" in list_in(project, "dynamic")
    dynamic = table_in(document, "tool", "setuptools", "dynamic") if declares else {}
    groups_of = {str(canonicalize_name(name)): one for name, one in table_in(document, "dependency-groups").items()}
    groups = [
        *table_in(project, "optional-dependencies").items(),
        *((name, [*_group(groups_of, name)]) for name in groups_of),
        *table_in(document, "tool", "pdm", "dev-dependencies").items(),
        ("dev", table_in(document, "tool", "uv").get("dev-dependencies")),
    ]
    entries = [*entries_of(project.get("dependencies")), *_dynamic(tree, path, dynamic), *poetry.entries]
    entries += (entry for group, values in groups for entry in entries_of(values, group))
    of_uv = table_in(document, "tool", "uv", "sources").items()
    sources: dict[str, object] = {canonicalize_name(name): one for name, one in of_uv}
    own = dict(_local(sources))
    packages = [*poetry.packages, *own.values()]
    folder = path.rpartition("/")[0] or "."
    python = text_in(project, "requires-python") or python_specifier(table_in(table, "dependencies").get("python"))
    if not (entries or packages or python or project or table):
        return None
    return Declared(
        path,
        tuple(_placed(entry, sources) for entry in entries if entry.name not in own),
        packages=tuple(replace(one, path=normpath(f"{folder}/{one.path}")) if one.path else one for one in packages),
        python=python,
        notes=few_notes([*poetry.notes, *not_understood(project.get("dependencies"), path)]),
    )


def _poetry(table: Mapping[str, object], path: str) -> NamedConstraints:
    found = NamedConstraints(path)
    found.add(table_in(table, "dependencies"))
    extras = table_in(table, "extras")
    groups = {one.name: [name for name in extras if one.name in _names(extras, name)] for one in found.entries}
    found.entries = [replace(one, group=group) for one in found.entries for group in groups[one.name] or [one.group]]
    found.add(table_in(table, "dev-dependencies"), "dev", "dev")
    for group, content in table_in(table, "group").items():
        role: RequirementRole = "main" if group == "main" else group_role(group)
        found.add(table_in(content, "dependencies"), role, "" if role == "main" else group)
    return found


def _names(table: Mapping[str, object], key: str) -> list[str]:
    return [canonicalize_name(str(name)) for name in list_in(table, key)]


def _group(groups: Mapping[str, object], name: str, above: tuple[str, ...] = ()) -> Iterator[object]:
    """The requirements of a dependency group, and of those that it includes: https://peps.python.org/pep-0735/."""
    for one in list_in(groups, name) if name not in above else ():
        included = text_in(one, "include-group")
        yield from _group(groups, canonicalize_name(included), (*above, name)) if included else (one,)


def _dynamic(tree: Tree, path: str, dynamic: Mapping[str, object]) -> Iterator[Entry]:
    """Requirements that setuptools reads from files."""
    named = table_in(dynamic, "dependencies").get("file")
    for file in [named] if isinstance(named, str) else named if isinstance(named, list) else []:
        other = normpath(f"{path.rpartition('/')[0] or '.'}/{file}")
        if tree.text(other) is not None:
            yield from read_requirements(tree, other).entries


def _placed(entry: Entry, sources: Mapping[str, object]) -> Entry:
    """From the repository or file of uv's sources, if they name one, because an index may have a stranger's."""
    address = address_of(sources.get(entry.name or ""))
    return entry.at(address) if address else entry


def _local(sources: Mapping[str, object]) -> Iterator[tuple[str, LocalPackage]]:
    """Local packages in uv's sources, which no index may answer, by name: paths, and members of the workspace."""
    for name, source in sources.items():
        if path := text_in(source, "path"):
            yield name, LocalPackage(path)
        elif table_in(source).get("workspace") is True:
            yield name, LocalPackage("", name=name)


def read_pipfile(_: Tree, path: str, document: dict[str, object]) -> Declared:
    """Read Pipfile."""
    found = NamedConstraints(path)
    found.add(table_in(document, "packages"))
    found.add(table_in(document, "dev-packages"), "dev", "dev-packages")
    requires = table_in(document, "requires")
    version = text_in(requires, "python_version") or text_in(requires, "python_full_version")
    folder = path.rpartition("/")[0] or "."
    urls = [url for source in list_in(document, "source") if (url := text_in(source, "url"))]
    others = [url for url in urls if "pypi.org" not in url and "pypi.python.org" not in url]
    return Declared(
        path,
        tuple(found.entries),
        packages=tuple(LocalPackage(normpath(f"{folder}/{one.path}")) for one in found.packages),
        python=f"=={version}" if version and version.count(".") != 1 else one_python(version),
        notes=few_notes([*found.notes, *(f"{path}: not used: index {shown(url)}" for url in others if "@" not in url)]),
    )
