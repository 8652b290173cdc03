"""Module names that something in the repository could answer. Such a name is never asked from an index.

A stranger may register any name on a public index, so an import of the repository's own module that reaches the index
installs the stranger's code. Everything counts here: modules, packages, folders, stubs, extensions, submodules, local
wheels, at any depth and in any spelling.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mlship.init.declared.documents import document_if_any, project_names
from mlship.init.tree import Tree

_CODE = {".py", ".pyw", ".pyi", ".pyx", ".pyc", ".so", ".pyd", ".ipynb"}
_ARCHIVES = re.compile(r"^([\w.]+?)-\d.*\.(whl|egg|tar\.gz|tar\.bz2|zip)$")
_ENVIRONMENTS = {"site-packages", "dist-packages", "node_modules", "__pycache__"}
_ENTRIES = 200_000
_SETUP_NAME = re.compile(r"""\bname\s*=\s*["']([\w.-]+)["']""")
_SUBMODULE = re.compile(r"^\s*path\s*=\s*(\S+)", re.MULTILINE)


@dataclass(frozen=True)
class LocalNames:
    """Paths by module name.

    Attributes:
        paths: files and folders that can hold code.
        data: names inside the folders that hold no code. Python can import such a folder too, as an empty namespace.
        complete: the whole repository was seen; if not, any name may be answered.
    """

    paths: dict[str, list[str]] = field(default_factory=dict)
    data: dict[str, set[str]] = field(default_factory=dict)
    complete: bool = True

    def answers(self, module: str, imported: Iterable[str]) -> str | None:
        """What could answer a top-level module; None if nothing can. `imported` are all names of the importing code."""
        name = _spelling(module)
        if name in self.paths:
            return self.paths[name][0]
        inside = {parts[1] for dotted in imported if (parts := dotted.split("."))[0] == module and len(parts) > 1}
        if name in self.data and (not inside or inside & self.data[name]):
            return f"{module}/"
        return None if self.complete else "a file that was not inspected"


def read_local_names(tree: Tree) -> LocalNames:
    """Walk the whole repository, including what `mlship init` leaves out elsewhere."""
    entries = list(_entries(tree.root))
    paths: dict[str, list[str]] = defaultdict(list)
    data: dict[str, set[str]] = defaultdict(set)
    files = [path for path, kind in entries if kind == "file"]
    links = [path for path, kind in entries if kind == "link"]
    code = {str(parent) for path in [*links, *filter(_is_code, files)] for parent in PurePosixPath(path).parents}
    shown = [path for path in files if not PurePosixPath(path).name.startswith(".")]
    filled = {str(parent) for path in shown for parent in PurePosixPath(path).parents}
    children: dict[str, set[str]] = defaultdict(set)
    for path, kind in entries:
        if kind != "file":
            children[str(PurePosixPath(path).parent)].add(PurePosixPath(path).name)
    for path, kind in entries:
        folder = PurePosixPath(path)
        if kind == "folder" and path in filled and path not in code:
            data[_spelling(folder.name)].update(children[path])
        else:
            for name in _names(path, kind):
                paths[name].append(path)
    for name, origin in _declared_names(tree):
        paths[name].append(origin)
    return LocalNames(dict(paths), dict(data), len(entries) < _ENTRIES)


def _entries(root: Path) -> Iterator[tuple[str, str]]:
    """Paths of files, folders, and links to folders, whose content may lie elsewhere."""
    count = 0
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name != ".git" and not _is_environment(Path(place, name)))
        base = Path(place).relative_to(root)
        found = [(name, "link" if Path(place, name).is_symlink() else "folder") for name in folders]
        for name, kind in [*found, *((name, "file") for name in sorted(names))]:
            yield (base / name).as_posix(), kind
        count += len(found) + len(names)
        if count >= _ENTRIES:
            return


def _is_environment(folder: Path) -> bool:
    return folder.name in _ENVIRONMENTS or (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists()


def _is_code(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in _CODE


def _names(path: str, kind: str) -> Iterator[str]:
    """The module names of one path; a folder without code, such as a submodule that is not fetched, has one too."""
    name = PurePosixPath(path).name
    archive = _ARCHIVES.match(name)
    if kind != "file":
        yield _spelling(name.removesuffix("-stubs"))
    elif archive:
        yield _spelling(archive[1])
    elif _is_code(path):
        yield _spelling(name.split(".")[0])
    elif name.endswith(".proto"):
        yield from (_spelling(name.removesuffix(".proto") + end) for end in ("_pb2", "_pb2_grpc"))


def _declared_names(tree: Tree) -> Iterator[tuple[str, str]]:
    """Names of the repository's own distribution and of its submodules."""
    for name in project_names(document_if_any(tree, "pyproject.toml")):
        yield _spelling(name), "pyproject.toml"
    for path in ("setup.py", "setup.cfg"):
        if match := _SETUP_NAME.search(tree.text(path) or ""):
            yield _spelling(match[1]), path
    for path in _SUBMODULE.findall(tree.text(".gitmodules") or ""):
        yield from ((_spelling(part), ".gitmodules") for part in path.split("/") if part)


def _spelling(name: str) -> str:
    """One spelling for names that differ in case, - and _ only: a disk or an index may not tell them apart."""
    return name.casefold().replace("-", "_").replace(".", "_")
