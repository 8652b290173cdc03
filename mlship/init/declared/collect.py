"""Choose the folder whose files say what the served code needs, and read them all."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from posixpath import normpath

from packaging.utils import canonicalize_name

from mlship.init.declared.conda import read_conda
from mlship.init.declared.documents import MalformedError, document_if_any, project_names, read_document
from mlship.init.declared.file_addresses import without_files
from mlship.init.declared.locks import NAMES as LOCK_FILES
from mlship.init.declared.locks import read_lock_file
from mlship.init.declared.projects import read_pipfile, read_pyproject
from mlship.init.declared.requirement_files import read_requirements
from mlship.init.declared.result import Declared
from mlship.init.declared.serving_files import read_bentofile, read_cog, read_mlmodel
from mlship.init.declared.setup_files import read_setup_cfg, read_setup_py
from mlship.init.tree import SIDE_FOLDERS, Tree
from mlship.units import few

SERVING_INPUT = "serving/requirements.in"  # written if requirements.in lacks server requirements

_Reader = Callable[[Tree, str], Declared | None]
_SERVING = "(prod|production|deploy|serve|serving|api|app|inference|cpu|base|main|package)"


def _of_document(read: Callable[[Tree, str, dict[str, object]], Declared | None]) -> _Reader:
    return lambda tree, path: read(tree, path, read_document(tree, path))


# By file name, most specific first.
_READERS: tuple[tuple[str, _Reader], ...] = (
    (r"requirements\.in", read_requirements),
    (r"requirements\.txt", read_requirements),
    (rf"requirements[-_.]?{_SERVING}\.txt", read_requirements),
    (rf"requirements/{_SERVING}\.(in|txt)", read_requirements),
    (r"pyproject\.toml", _of_document(read_pyproject)),
    (r"setup\.cfg", read_setup_cfg),
    (r"setup\.py", read_setup_py),
    (r"Pipfile", _of_document(read_pipfile)),
    (r"cog\.ya?ml", _of_document(read_cog)),
    (r"bentofile\.ya?ml", _of_document(read_bentofile)),
    (r"(conda[-_]?)?(environment|env|conda)([-_.][\w-]+)?\.ya?ml", _of_document(read_conda)),
    (r"MLmodel", _of_document(read_mlmodel)),
    *((re.escape(name), _of_document(read_lock_file)) for name in LOCK_FILES),
    (r"pylock\.[\w.-]+\.toml", _of_document(read_lock_file)),
)
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern, _ in _READERS))
_COMMANDS = re.compile(r"(?i)(.*/)?(readme[.\w]*|makefile|justfile)")
_ITEM, _PLACE = re.compile(r"\n\s*- "), re.compile(r"working-directory:\s*[\"']?/*([\w./-]+)")
_STEPS = re.compile(r"\bcd\s+/*([\w./-]+)|\s-r\s+/*([\w./-]+)")
_SIDE = {
    *(*SIDE_FOLDERS, "example", "benchmark", "benchmarks", "train", "demo", "demos"),
    *("third_party", "vendor", "js", "web"),
}


@dataclass(frozen=True)
class Collected:
    """All that the chosen folder says.

    Attributes:
        declared: by file, most specific first.
        notes: the choice among folders, and what could not be used.
        projects: folders to choose from, if nothing determines one.
    """

    declared: tuple[Declared, ...] = ()
    notes: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()


def collect(tree: Tree, served: str | None = None, used: Collection[str] = ()) -> Collected:
    """Read the requirements of the served code.

    The folder is the nearest one above the served code that has any, unless the repository's texts install those of
    another one above. Without served code it is the root, or the only folder with requirements; several are a choice
    that only the user can make.

    Args:
        served: path of the server or loader.
        used: folders whose files are read anyway.
    """
    folders = _folders(tree)
    above = ["" if str(parent) == "." else str(parent) for parent in PurePosixPath(served or "x").parents]
    known = {"", *above, *used}
    others = [one for one in folders if one not in known and _SIDE.isdisjoint(one.lower().split("/"))]
    found, choice = _first(tree, folders, above)
    if any(one.lists_any for one in found):
        return Collected(found, (*[choice] * bool(choice and not used), *_notes(found, others)))
    if served is None and len(others) == 1:
        return Collected((*_read(tree, folders[others[0]]), *found), (f"used the requirements of `{others[0]}`",))
    return Collected(found, tuple(_notes(found, others)), tuple(others) if served is None else ())


def _first(tree: Tree, folders: dict[str, list[str]], above: list[str]) -> tuple[tuple[Declared, ...], str]:
    """What the nearest folder with requirements says, or the one that texts install; and a note on the choice.

    Without such a folder, what the root says.
    """
    found = [tuple(_read(tree, folders[folder])) for folder in above if folder in folders]
    listing = [one for one in found if any(file.lists_any for file in one)]
    installed = frozenset(_installed(tree)) if listing[1:] else frozenset[str]()
    named = [one for one in listing if not installed.isdisjoint(file.origin for file in one)]
    chosen = (named or listing or found[-1:] or [()])[0]
    others = [f"`{one[0].origin}`" for one in listing if one != chosen]
    why = "installed by the README or CI" if named else "the nearest to the served code"
    return chosen, f"used `{chosen[0].origin}`, {why}, not {few(others)}" if others else ""


def _installed(tree: Tree) -> Iterator[str]:
    """The requirements files in the commands of READMEs, Makefiles and CI, after `cd` from the folder that it names."""
    hidden = (path.relative_to(tree.root).as_posix() for path in tree.root.glob(".git[hl]*/**/*.y*ml"))
    for path in (*filter(_COMMANDS.fullmatch, tree.files), ".gitlab-ci.yml", *hidden):
        inside = ""
        for item in _ITEM.split(tree.text(path) or ""):
            own = _PLACE.search(item)  # of a step on GitHub, above or below its commands
            folder = _folder(tree, own[1]) if own else inside
            for place, file in _STEPS.findall(item):
                folder = _folder(tree, place) if place else folder
                yield from [normpath(f"{folder or '.'}/{file}")] if file else ()
            inside = inside if re.search(r"\brun:", item) and "defaults:" not in item else folder


def _folder(tree: Tree, place: str) -> str:
    return folder if (folder := normpath(place)) in tree.folders else ""


def _folders(tree: Tree) -> dict[str, list[str]]:
    """Dependency files by folder, closest to the root first; `requirements/` belongs to the folder above it."""
    folders: dict[str, list[str]] = {}
    for path in tree.files:
        parts = path.split("/")
        inner = parts[-2:] if len(parts) > 1 and parts[-2] == "requirements" else parts[-1:]
        if path == SERVING_INPUT or _ANY.fullmatch("/".join(inner)):
            folder = "" if path == SERVING_INPUT else "/".join(parts[: len(parts) - len(inner)])
            folders.setdefault(folder, []).append(path)
    return dict(sorted(folders.items(), key=lambda item: (item[0].count("/") + bool(item[0]), item[0])))


def _read(tree: Tree, paths: list[str]) -> Iterator[Declared]:
    if SERVING_INPUT in paths:
        yield read_requirements(tree, SERVING_INPUT)
    for pattern, reader in _READERS:
        for path in sorted(paths, key=len):
            if path != SERVING_INPUT and re.search(rf"(^|/){pattern}$", path):
                yield from _one(tree, path, reader)


def _one(tree: Tree, path: str, reader: _Reader) -> Iterator[Declared]:
    try:
        found = reader(tree, path)
    except MalformedError as error:
        found = Declared(path, notes=(f"{path}: not used: {error}",))
    if found is not None:
        found = without_files(tree, found)
        placed = [(one, one.path or find_package(tree, one.name) or "") for one in found.packages]
        yield replace(found, packages=tuple(replace(one, path=path) for one, path in placed))


def _notes(found: tuple[Declared, ...], others: list[str]) -> Iterator[str]:
    for one in found:
        yield from one.notes
    if others:
        verb = "has its" if len(others) == 1 else "have their"
        yield f"{shown_folders(others)} {verb} own requirements, not used here; for one, run `mlship init -C FOLDER`"


def shown_folders(folders: Sequence[str]) -> str:
    """The first folders, and how many more there are."""
    return few((f"`{folder}`" for folder in folders), 6)


def find_package(tree: Tree, name: str) -> str | None:
    """The folder of a package of the repository, by its normalised name."""
    paths = (path for path in tree.files if PurePosixPath(path).name == "pyproject.toml")
    names = ((path, project_names(document_if_any(tree, path))) for path in paths)
    found = (path for path, own in names if own and canonicalize_name(own[0]) == name)
    return next((path.rpartition("/")[0] or "." for path in found), None)
