"""The folder that a server has to run in: not always the repository's."""

import posixpath
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import PurePosixPath

from mlship.imports import is_foreign
from mlship.init.sources import Module, is_served, reachable
from mlship.init.tree import Tree
from mlship.project.commands import run_in
from mlship.project.serving_table import serving_table

_MOVES = ("--chdir", "--app-dir", "--pythonpath")


@dataclass(frozen=True)
class WorkingFolder:
    """Where a server runs.

    Attributes:
        path: relative to the repository.
        why: for people.
        needs_root: modules are imported by their names below the repository's root, too.
    """

    path: str
    why: str
    needs_root: bool = False


def server_folder(
    tree: Tree, folder: str, entry: Module | None, served: Sequence[Module], *, written: bool
) -> WorkingFolder | None:
    """The folder that a server runs in; None for the repository's.

    Args:
        folder: where the command finds its module; written: the repository has the command.
    """
    if entry and is_django(entry):
        # https://docs.djangoproject.com/en/5.2/howto/deployment/: modules have their names below the project's folder
        why = "which Django's settings name modules from"
        return WorkingFolder(_project(entry), why) if _project(entry) != "." and not written else None
    if entry and folder:
        return WorkingFolder(folder, "where the command finds its module", needs_root(entry, served))
    return _needed_folder(tree, entry, served) if entry and not written else None


def _needed_folder(tree: Tree, entry: Module, served: Sequence[Module]) -> WorkingFolder | None:
    """The folder, if it is not the repository's root: what the code opens is there, or its name hides a module."""
    folders = [str(folder) for folder in PurePosixPath(entry.path).parents if str(folder) != "."]
    absent = sorted(_opened(served) - {*tree.files})  # from the root
    for folder in folders:
        if opened := next((file for file in absent if posixpath.normpath(f"{folder}/{file}") in tree), None):
            return WorkingFolder(folder, f"which has `{opened}`", needs_root(entry, served))
    if odd := [part for part in (entry.name or "").split(".") if not part.isidentifier() or iskeyword(part)]:
        return WorkingFolder(folders[0], f"because Python cannot import from `{odd[0]}`")
    top, _, inner = (entry.name or "").partition(".")
    beside = f"{folders[-1]}.py" if folders else ""
    if inner and f"{folders[-1]}/__init__.py" not in tree and beside in tree:
        return WorkingFolder(folders[0], f"because `import {top}` finds `{beside}`")
    own = f"{top}/__init__.py" in tree and top not in {serving_table().app[app.kind].package for app in entry.apps}
    if inner and not own and (top in sys.stdlib_module_names or is_foreign(top)):
        return WorkingFolder(folders[0], f"because `import {top}` finds another module")
    return None


def _opened(served: Sequence[Module]) -> set[str]:
    """Files that the code opens by a path from where it runs."""
    return {file.text for module in served for file in module.loaded if not (file.anchored or file.rooted)}


def opens_from_root(tree: Tree, folder: str, served: Sequence[Module]) -> bool:
    """Whether the code opens files by paths that lead to nothing from the folder, but from the root."""
    return bool(folder) and any(file in tree and f"{folder}/{file}" not in tree for file in _opened(served))


def needs_root(entry: Module, served: Sequence[Module]) -> bool:
    """Whether modules are imported by their names below the repository's root."""
    top, _, inner = (entry.name or "").partition(".")
    below = {module.name for module in served if f"{module.name}".startswith(f"{top}.")}
    absolute = (module.statements.all - module.statements.relative for module in served)
    return bool(inner) and (bool(entry.statements.relative) or not below.isdisjoint(frozenset().union(*absolute)))


def named_modules(command: Sequence[str], modules: Mapping[str, Module], inside: str = "") -> tuple[list[str], str]:
    """The modules that a command names (`app:app`, `-m app`, `app.py`), and their folder; `inside` is the image's."""
    command = command[2:] if [*command[:2]] == ["bentoml", "serve"] else command
    words = [re.sub(r"(:.*|\.py)$", "", word).removeprefix("./").replace("/", ".") for word in command]
    below = [f"{inside.replace('/', '.')}.{word}" for word in words if inside]
    if found := [name for name in below if name in modules]:
        return found, inside
    if found := [name for word in words if (name := word if word in modules else word.removeprefix("src.")) in modules]:
        path, script = modules[found[0]].path, f"/{next((word for word in command if word.endswith('.py')), ' ')}"
        return found, path.removesuffix(script) if path.endswith(script) else ""
    apps = [module.name for module in modules.values() if module.name and module.apps]
    inner = [(name, word) for name in apps for word in words if word and name.endswith(f".{word}")]
    if len(inner) != 1:
        return [], ""
    name, word = inner[0]
    moved = any(flag.startswith(_MOVES) for flag in command)
    return [name], "" if moved else PurePosixPath(modules[name].path).parents[word.count(".")].as_posix()


def placed_command(command: tuple[str, ...], place: WorkingFolder | None, entry: Module | None) -> tuple[str, ...]:
    """The command in the working folder; an app keeps its full name if modules need the root."""
    if place is None:
        return command
    if entry and entry.name and not place.needs_root:
        depth = len(PurePosixPath(entry.path).relative_to(place.path).parts)
        inner = ".".join(entry.name.split(".")[-depth:])
        command = tuple(re.sub(rf"^{re.escape(entry.name)}(?=:|$)", inner, word) for word in command)
    return run_in(place.path, command)


def is_django(entry: Module) -> bool:
    """Whether a module has the application of a Django project."""
    return any(app.kind.startswith("django") for app in entry.apps)


def project_modules(entry: Module, modules: Mapping[str, Module]) -> tuple[Module, ...]:
    """The packages beside that of the settings, which may be apps, and what they import.

    Settings name modules and apps by strings, so the whole project is served:
    https://docs.djangoproject.com/en/5.2/howto/deployment/
    """
    served = [module for module in modules.values() if is_served(module.path)]
    folders = {module.path: set(PurePosixPath(module.path).parent.parents) for module in served}
    return reachable((one.name or "" for one in served if PurePosixPath(_project(entry)) in folders[one.path]), modules)


def _project(entry: Module) -> str:
    return PurePosixPath(entry.path).parent.parent.as_posix()
