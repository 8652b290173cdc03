"""Compiles bytecode into layers, and removes files that nothing loads.

    bytecode.py packages FOLDER TARGET     the packages that install.py has split into layers
    bytecode.py packages FOLDER TARGET REQUIREMENTS UV ...
                                           the same, after installing them like install.py: one start of Python
    bytecode.py python FOLDER TARGET       the standard library, into TARGET/<its own path>, and an environment without
                                           packages
    bytecode.py code REPOSITORY TARGET FOLDER PATH ... [--without PATH ...]
                                           paths of the repository, which it copies to FOLDER below TARGET, which is
                                           `/` in the image; model files have layers of their own

FOLDER holds `modules.json` (the traced modules in mlship.lock's format; without it everything is compiled), and for
packages also `layers.json` and `prune.json`: {"kinds": [...], "keep": [patterns]}.

Bytecode is hash-based and unchecked, so it stays valid whatever happens to file times. A read-only container cannot
store bytecode: it compiles whatever is missing here at every start.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # the base image has no bytecode of the standard library: keep what these imports compile
    sys.pycache_prefix = "/root/.cache/mlship/" + "".join(filter(str.isalnum, sys.version))

import ast
import csv
import fnmatch
import hashlib
import json
import os
import py_compile
import re
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlship.image.inside.install import CACHE, create_environment, install, settle, site_packages
else:  # in the build, install.py lies beside this file, and -I leaves this folder out of the path
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    from install import CACHE, create_environment, install, settle, site_packages


# Texts of one letter exist once in a process, and bytecode says whether they are interned: any module that has the
# identifier `ä` would change the bytecode of later ones that have the text "ä". So all of them are interned.
LETTERS = [sys.intern(chr(code)) for code in range(256)]
# With Python 3.13, so are names of nested classes. These are of modules that only some steps or processes import.
FILES = [f"CompatibilityFiles.{kind}Path" for kind in ("Child", "Orphan", "Spec")]
CLASSES = [sys.intern(name) for name in ("finalize._Info", "DistributionFinder.Context", *FILES)]
Folders = dict[str, str]
HEADERS = (".h", ".hpp", ".hxx", ".hh", ".cuh")
TESTS_NAMED = re.compile(r"(?:^|[/\\.])tests(?:$|[/\\.])")
# What source looks like that may name them, in a text or an import: parsing the rest of a large package takes seconds.
MAY_NAME_TESTS = re.compile(
    rb"""(?:[/\\.'"}]|\\\r?\n|\\[xuU0-7]\w*)tests[/\\.'"{\r\n]
    |\b(?:import|from)\b(?:[^'"\n]|\\\r?\n)*\btests\b
    |\bimport\s*\((?:[^)#]|\#[^\n]*)*\btests\b""",
    re.VERBOSE,
)
ARCHIVES = (".a", ".lib")
# Parts of the standard library that no server imports.
UNUSED = ("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages")


def main(arguments: list[str]) -> int:
    command, *rest = arguments
    if command == "code":
        target = Path(rest[1])
        copy_code(Path(rest[0]), Path(f"{target}{rest[2]}"), rest[3:])
        compile_all(list(code_jobs(target)))
        settle(target)
        return 0
    folder, target, *requirements = map(Path, rest[:3])
    if requirements and (code := install(requirements[0], target, rest[3:])):
        return code
    modules = folder / "modules.json"
    traced = json.loads(modules.read_text()) if modules.exists() else None
    target.mkdir(parents=True, exist_ok=True)
    if command == "python":
        create_environment(str(target))
        jobs = list(python_jobs(traced, target))
    else:
        layers: dict[str, list[str]] = json.loads((folder / "layers.json").read_text())
        roots = {name: target / layer for layer, names in layers.items() for name in names}
        prune(target, json.loads((folder / "prune.json").read_text()), traced)
        jobs = list(package_jobs(traced, roots, target))
    compile_all(jobs)
    settle(target.parent)  # with the metadata, if they were installed
    return 0


def python_jobs(traced: Folders | None, target: Path) -> Iterator[tuple[str, str, str]]:
    """Source, bytecode, and the source's path at run time, for each module that the base has not compiled."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in named(library, traced) if traced is not None else used(library):
        where = cached(path)
        if path.exists() and not where.exists():
            yield str(path), str(target / where.relative_to("/")), str(path)


def copy_code(repository: Path, folder: Path, arguments: list[str]) -> None:
    """Copy files and folders as COPY does, but no model files: copying those takes as long as sending them."""
    end = arguments.index("--without") if "--without" in arguments else len(arguments)
    left = {os.path.normpath(path) for path in arguments[end + 1 :]}
    for path in arguments[:end]:
        source = repository / path
        if not source.exists():
            hint = "correct `source` in mlship.yaml so that it names files of the repository"
            sys.exit(f"mlship: `{path}` does not exist, or .dockerignore excludes it\nhint: {hint}")
        if not source.is_dir():
            if os.path.normpath(path) not in left:
                copy_one(source.resolve(), folder / path)
            continue
        for where, folders, names in os.walk(source.resolve()):
            here = os.path.normpath(os.path.join(path, os.path.relpath(where, source.resolve())))  # noqa: PTH118
            os.makedirs(folder / here, exist_ok=True)  # noqa: PTH103
            links = [name for name in folders if os.path.islink(os.path.join(where, name))]  # noqa: PTH114, PTH118
            for name in (*links, *names):
                if os.path.normpath(f"{here}/{name}") not in left:
                    copy_one(Path(where, name), folder / here / name)


def copy_one(source: Path, target: Path) -> None:
    """Copy a file, or a link as a link, in place of what an earlier path brought."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink() or source.is_file():
        shutil.copy(source, target, follow_symlinks=False)
    elif source.is_fifo():
        os.mkfifo(target)


def code_jobs(target: Path) -> Iterator[tuple[str, str, str]]:
    """Every module, because the code is small; bytecode of the checkout is removed."""
    for old in sorted(target.rglob("__pycache__"), reverse=True):
        old.unlink() if old.is_symlink() or not old.is_dir() else shutil.rmtree(old)
    for path in sorted(target.rglob("*.py")):
        if path.is_file():
            yield str(path), str(cached(path)), f"/{path.relative_to(target)}"


def used(library: Path) -> Iterator[Path]:
    for path in sorted(library.rglob("*.py")):
        if path.relative_to(library).parts[0] not in UNUSED and "tests" not in path.parts:
            yield path


def package_jobs(
    traced: dict[str, Folders] | None, roots: dict[str, Path], target: Path
) -> Iterator[tuple[str, str, str]]:
    if traced is None:
        sources: Iterable[Path] = sorted(target.rglob("*.py"))
    else:
        found = (named(roots[name] / site_packages().relative_to("/"), traced.get(name, {})) for name in sorted(roots))
        sources = [path for paths in found for path in paths]
    for path in sources:
        layer = target / path.relative_to(target).parts[0]
        if path.exists() and "site-packages" in path.parts:
            yield str(path), str(cached(path)), f"/{path.relative_to(layer)}"


def named(root: Path, folders: Folders) -> Iterator[Path]:
    for folder, names in sorted(folders.items()):
        yield from (root / folder / f"{name}.py" for name in names.split())


def cached(path: Path) -> Path:
    return path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc"


def compile_all(jobs: list[tuple[str, str, str]]) -> None:
    """Copy what the cache has, and compile the rest in parallel; the result does not depend on the order."""
    os.makedirs(CACHE, exist_ok=True)  # noqa: PTH103
    for folder in {os.path.dirname(job[1]) for job in jobs}:  # noqa: PTH120
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    found = [(*job, cache_of(job)) for job in jobs]
    missing = [job for job in found if not (os.path.exists(job[3]) and shutil.copyfile(job[3], job[1]))]  # noqa: PTH110
    if len(missing) < 200:
        for job in missing:
            compile_one(job)
        return
    from concurrent.futures import ProcessPoolExecutor  # imported here: most edits compile a few modules

    with ProcessPoolExecutor() as pool:
        list(pool.map(compile_one, missing, chunksize=32))


def cache_of(job: tuple[str, str, str]) -> str:
    """The place of a module's bytecode in the cache: it depends only on Python, source and path."""
    source, _, shown = job
    with open(source, "rb") as file:  # noqa: PTH123  faster, for thousands of files
        key = hashlib.sha256(f"3 {sys.version} {shown}\n".encode() + file.read()).hexdigest()
    return f"{CACHE}/{key}"


def compile_one(job: tuple[str, str, str, str]) -> None:
    source, target, shown, cache = job
    made = f"{cache}.{os.urandom(8).hex()}"  # other builds share the cache, with the same process numbers
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, made, shown, doraise=True, invalidation_mode=mode)
    except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
        return  # packages contain templates that end in .py and are not Python
    shutil.copyfile(made, target)
    os.replace(made, cache)  # noqa: PTH105


def prune(target: Path, wanted: dict[str, list[str]], traced: dict[str, Folders] | None) -> None:
    """Remove files that nothing loads, and record in each layer the removed bytes and files by kind."""
    imported = {folder for folders in (traced or {}).values() for folder in folders}
    for layer in sorted(target.iterdir()):
        root = layer / site_packages().relative_to("/")
        loaded = imported | named_tests(root)
        gone = [
            (root / path, kind)
            for path in may_be_unused(root)
            if (kind := kind_of(path, loaded)) in wanted["kinds"]
            and not any(fnmatch.fnmatch(str(path), pattern) for pattern in wanted["keep"])
        ]
        if gone:
            prune_layer(layer, root, gone)


def may_be_unused(root: Path) -> Iterator[Path]:
    """Files below `root` whose kind has to be looked at: a `Path` for each of thousands of files takes long."""
    for where, _, names in os.walk(root):
        folder = f"{where}/".removeprefix(f"{root}/")
        yield from (Path(folder, name) for name in names if "tests" in folder or name.endswith((*HEADERS, *ARCHIVES)))


def named_tests(root: Path) -> set[str]:
    """Folders of tests that other code of their package names, by import or in a text: it may load data from there.

    A name belongs to the `tests` beside the module that has it, or beside one of the module's folders.
    """
    found: set[str] = set()
    near: dict[str, set[str]] = {}
    for where, folders, names in os.walk(root):
        beside = set(near.get(os.path.dirname(where), ()))  # noqa: PTH120  faster, for thousands of files
        if "tests" in folders:
            folders.remove("tests")
            if where != str(root):  # a folder of no package
                beside.add(f"{where}/tests".removeprefix(f"{root}/"))
        near[where] = beside
        for name in names:
            if name.endswith(".py") and beside - found:
                with open(f"{where}/{name}", "rb") as file:  # noqa: PTH123
                    found |= beside if names_tests(file.read()) else set()
    return found


def names_tests(source: bytes) -> bool:
    """Whether code names a folder or package `tests`, other than in its documentation."""
    if b"tests" not in source or not MAY_NAME_TESTS.search(source):
        return False
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return any(
        TESTS_NAMED.search(text)
        for node in ast.walk(tree)
        for text in (
            [node.value]
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
            else [node.module or "", *(alias.name for alias in node.names)]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    )


def kind_of(path: Path, imported: set[str]) -> str | None:
    """The kind of a file that nothing loads, or None. An imported package of tests counts as loaded."""
    folders = [str(folder) for folder in path.parents if folder.name == "tests"]
    if folders and not any(one == folder or one.startswith(f"{folder}/") for one in imported for folder in folders):
        return "tests"
    if path.suffix in HEADERS:
        return "headers"
    return "archives" if path.suffix in ARCHIVES else None


def prune_layer(layer: Path, root: Path, gone: list[tuple[Path, str]]) -> None:
    removed: dict[str, dict[str, int]] = {}
    for path, kind in gone:
        entry = removed.setdefault(kind, {"bytes": 0, "files": 0})
        entry["bytes"] += path.lstat().st_size
        entry["files"] += 1
        path.unlink()
    names = {str(path.relative_to(root)) for path, _ in gone}
    for path, _ in gone:
        remove_empty(path.parent, root)
    for record in sorted(root.glob("*.dist-info/RECORD")):
        lines = record.read_text().splitlines()
        kept = (line for line, (path, *_) in zip(lines, csv.reader(lines), strict=True) if path not in names)
        record.write_text("".join(f"{line}\n" for line in kept))
    note = layer / "opt/venv/share/mlship" / f"{layer.parent.name}-{layer.name}.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"pruned": removed}, sort_keys=True))


def remove_empty(folder: Path, root: Path) -> None:
    while folder != root and folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
