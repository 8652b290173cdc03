"""Lock files of uv, Poetry, PDM and Pipenv, and PEP 751: their versions, as constraints for ours."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from mlship.init.declared.documents import list_in, table_in, text_in
from mlship.init.declared.poetry import python_specifier
from mlship.init.declared.result import Declared, Entry, few_notes, one_python, shown
from mlship.init.tree import Tree
from mlship.requirement_line import package_version, parse_requirement

NAMES = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock")
_OTHER_SOURCES = ("git", "hg", "vcs", "path", "url", "directory", "archive", "editable", "virtual", "file")


@dataclass(frozen=True)
class _Locked:
    name: str
    version: str
    marker: str | None


def read_lock_file(_: Tree, path: str, document: dict[str, object]) -> Declared:
    """Read a lock file."""
    if path.endswith("Pipfile.lock"):
        packages = [{"name": name, **table_in(value)} for group in ("develop", "default")
                    for name, value in table_in(document, group).items()]  # fmt: skip
        python = one_python(text_in(table_in(document, "_meta", "requires"), "python_version"))
    else:
        packages = [table_in(item) for item in list_in(document, "packages" if "packages" in document else "package")]
        metadata = table_in(document, "metadata")
        old = python_specifier(metadata.get("python-versions"))
        python = text_in(document, "requires-python") or text_in(metadata, "requires_python") or old or None
    versions: dict[str, list[_Locked]] = defaultdict(list)
    notes: list[str] = []
    for package in packages:
        locked = _locked(package)
        if locked is None:
            notes.extend(_left_out(package, path))
        elif locked not in versions[locked.name]:
            versions[locked.name].append(locked)
    entries = [Entry(line) for name in sorted(versions) for line in _constraints(versions[name])]
    unclear = [name for name, found in sorted(versions.items()) if not list(_constraints(found))]
    if unclear:
        notes.append(f"{path}: several versions without a marker, not used: {', '.join(unclear[:8])}")
    return Declared(path, tuple(entries), lock=True, python=python, notes=few_notes(notes))


def _locked(package: Mapping[str, object]) -> _Locked | None:
    """One package from an index; None for a local one, a repository, and what is not valid."""
    source = package.get("source")
    kind = text_in(source, "type")
    if kind in ("git", "directory", "file", "url") or any(key in package for key in _OTHER_SOURCES):
        return None
    if isinstance(source, dict) and any(key in source for key in _OTHER_SOURCES if key != "url") and kind is None:
        return None
    name, version = text_in(package, "name"), package_version((text_in(package, "version") or "").removeprefix("=="))
    return _Locked(canonicalize_name(name), version.public, _marker(package)) if name and version else None


def _left_out(package: Mapping[str, object], path: str) -> Iterator[str]:
    name, source = text_in(package, "name"), table_in(package, "source")
    own = any(key in source for key in ("virtual", "editable")) or package.get("path") == "."
    if not own:
        where = "no version" if text_in(package, "version") is None else "not from an index"
        yield f"{path}: {shown(name or '?')} not used: {where}"


def _marker(package: Mapping[str, object]) -> str | None:
    """The environment marker; uv lists one for each resolution."""
    forks = [text for text in list_in(package, "resolution-markers") if isinstance(text, str)]
    if forks:
        return " or ".join(f"({fork})" for fork in forks)
    return next((text for key in ("marker", "markers") if (text := text_in(package, key))), None)


def _constraints(found: list[_Locked]) -> Iterator[str]:
    """A line for each version. Several versions of one package need markers to tell them apart."""
    several = len({one.version for one in found}) > 1
    for one in found:
        line = f"{one.name}=={one.version}"
        marked = f"{line} ; {one.marker}" if one.marker else line
        if one.marker and parse_requirement(marked):
            yield marked
        elif not several:
            yield line
