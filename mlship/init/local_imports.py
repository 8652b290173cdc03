"""Resolve imports of the repository's own modules that are not below the import root.

`python app/main.py` finds app/utils.py as `utils`; a server that is started from the root does not, unless app/ is on
PYTHONPATH.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mlship.imports import is_foreign
from mlship.init.sources import Module


@dataclass(frozen=True)
class LocalImport:
    """A bare import of one of the repository's own modules.

    Attributes:
        path: the importing file.
        found: dotted name of the module below the import root.
        parents: dotted names of folders that would have to be on PYTHONPATH, one of them.
        certain: the importing file lies below the only such folder, and the folder hides no other module.
        handled: the importing file changes sys.path itself.
    """

    path: str
    name: str
    found: str
    parents: tuple[str, ...]
    certain: bool
    handled: bool


def resolve_locally(modules: Mapping[str, Module]) -> tuple[dict[str, Module], tuple[LocalImport, ...]]:
    """The modules with the names of what they import from other folders, and these imports."""
    parents = _parents(modules)
    found = {name: tuple(_local_imports(module, modules, parents)) for name, module in modules.items()}
    extended = {
        name: replace(module, imports=module.imports.union(one.found for one in found[name])) if found[name] else module
        for name, module in modules.items()
    }
    return extended, tuple(one for name in sorted(found) for one in found[name])


def path_entries(imports: Iterable[LocalImport], served: Sequence[Module]) -> tuple[str, ...]:
    """Folders that PYTHONPATH must have for the served code, as dotted names."""
    paths = {module.path for module in served}
    return tuple(sorted({one.parents[0] for one in imports if one.path in paths and one.certain and not one.handled}))


def _parents(modules: Mapping[str, Module]) -> dict[str, set[str]]:
    """Parents of each name, anywhere in the repository: `utils` is below `app` if app/utils.py exists."""
    found: dict[str, set[str]] = {}
    for name in modules:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            found.setdefault(parts[depth], set()).add(".".join(parts[:depth]))
    return found


def _local_imports(
    module: Module, modules: Mapping[str, Module], parents: Mapping[str, set[str]]
) -> Iterator[LocalImport]:
    top_level = {name.partition(".")[0] for name in modules}
    for name in sorted(module.imports - module.statements.relative):
        top = name.partition(".")[0]
        places = parents.get(top, set())
        if not places or top in top_level or top in {*sys.stdlib_module_names, "__main__"}:
            continue
        named = (module.name or "").rpartition(".")[2] == top  # the importing file; a package may well import itself
        itself = {_folder_of(module)} if named and not module.path.endswith("/__init__.py") else set[str]()
        chosen, above = _folders(module, top, sorted(places - itself), modules)
        if not chosen:
            continue
        found = next((f"{place}.{name}" for place in chosen if f"{place}.{name}" in modules), f"{chosen[0]}.{top}")
        certain = above and len(chosen) == 1 and not _hidden(chosen[0], top, modules)
        yield LocalImport(module.path, top, found, tuple(chosen), certain, module.sets_path)


def _folders(module: Module, top: str, places: list[str], modules: Mapping[str, Module]) -> tuple[list[str], bool]:
    """Folders that could be on PYTHONPATH for an import, and whether the importing file lies below them.

    A package is none, except for files in it that run as scripts. A name of a known distribution means the installed
    one, unless a file beside the importing script has it.
    """
    own = _folder_of(module)
    packages = {name for name, one in modules.items() if one.path.endswith("/__init__.py")}
    plain = [place for place in places if place not in packages]
    if is_foreign(top):
        return [place for place in plain if place == own], True
    above = [place for place in places if f"{module.name}.".startswith(f"{place}.")]
    chosen = [place for place in above if place in plain] or above
    return chosen or plain, bool(chosen)


def _folder_of(module: Module) -> str:
    return (module.name or "").rpartition(".")[0]


def _hidden(parent: str, top: str, modules: Mapping[str, Module]) -> set[str]:
    """Other modules that a folder on PYTHONPATH would hide: standard ones, and those of known distributions."""
    inside = {name.removeprefix(f"{parent}.").partition(".")[0] for name in modules if name.startswith(f"{parent}.")}
    return {name for name in inside - {top} if name in sys.stdlib_module_names or is_foreign(name)}
