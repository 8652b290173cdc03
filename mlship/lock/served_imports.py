"""Modules that the served code imports when it starts, and that no locked package brings."""

import ast
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from mlship.imports import candidates_for, distribution_of, in_standard_library, is_namespace, prefixes, requirement_for
from mlship.lock.hashes import HashedPin
from mlship.lock.wheel_modules import FileNames, has_module, wheel_names
from mlship.project.commands import server_module
from mlship.project.config import Config
from mlship.project.import_statements import live_nodes, read_imports
from mlship.project.paths import LEFT_OUT, WORKDIR
from mlship.project.syntax import parse_source
from mlship.units import first_rows

_CODE = (".py", ".pyi", ".pyx", ".so", ".pyd")


def unprovided_imports(repo: Path, config: Config, pins: Iterable[HashedPin], names_in: FileNames) -> Iterator[str]:
    """A sentence for each such module.

    Args:
        names_in: the names of the files in a wheel; None if unknown.
    """
    pins = tuple(pins)
    locked = {pin.name for pin in pins}
    wanted = {name: path for name, path in _foreign(repo, config).items() if distribution_of(name) not in locked}
    if not wanted:
        return
    found = wheel_names(pins, names_in)
    names = {name for one in found for name in one or ()}
    unread = [pin.name for pin, one in zip(pins, found, strict=True) if one is None]
    for module, path in wanted.items():
        if not has_module(names, module):
            choices = (line,) if (line := requirement_for(module, config.python)) else candidates_for(module)
            package = " or ".join(f"`{line}`" for line in choices) or "its package"
            others = " or ".join(first_rows(unread, 3, "one of {} more"))
            maybe = f", unless {others} does, which cannot be looked into" if unread else ""
            yield (
                f"{path} needs `{module}`, which no locked package brings{maybe}; add {package} to "
                f"`{config.requirements.input}`"
            )


def _foreign(repo: Path, config: Config) -> dict[str, str]:
    """Modules that neither the standard library nor the repository has, each with a file that imports it."""
    roots = _roots(config)
    found: dict[str, str] = {}
    if program := server_module(config.serve.command):
        found[program] = "`serve.command`"
    seen: set[str] = set()
    waiting = list(_started(config))
    while waiting:
        name = waiting.pop()
        place = None if name in seen else next(_places(repo, roots, name), None)
        seen.add(name)
        if place:
            needed, own = _imports(repo, place, name)
            waiting += [part for one in needed | own for part in prefixes(one)]
            for one in sorted(needed):
                found.setdefault(_module(one), f"`{place}`")
    names = _own_names(repo)
    provided = (one for one in found if in_standard_library(one, config.python) or one.split(".")[0].lower() in names)
    return {name: found[name] for name in sorted(found.keys() - {*provided}) if not is_namespace(name)}


def _roots(config: Config) -> tuple[str, ...]:
    """Folders that the server imports from."""
    entries = config.env.get("PYTHONPATH", "").split(":")
    inside = [entry.removeprefix(WORKDIR).strip("/") for entry in entries]
    moved = [word.removeprefix("--chdir=").strip("/") for word in config.serve.command if word.startswith("--chdir=")]
    scripts = [str(PurePosixPath(word).parent) for word in config.serve.command if word.endswith(".py")]
    return tuple(dict.fromkeys(["", *moved, *inside, *scripts]))


def _started(config: Config) -> Iterator[str]:
    """Dotted names of the modules that the image loads first."""
    if config.model.load:
        yield config.model.load.partition(":")[0]
    for word in config.serve.command:
        name = word.partition(":")[0].removesuffix(".py").removeprefix("./")
        yield name.replace("/", ".")
        yield f"{name.replace('/', '.')}.__main__"
        yield PurePosixPath(name).name


def _places(repo: Path, roots: Iterable[str], name: str) -> Iterator[str]:
    """Files of a module."""
    path = name.replace(".", "/")
    for place in (PurePosixPath(root, inner) for root in roots for inner in (f"{path}.py", f"{path}/__init__.py")):
        if (repo / place).is_file():
            yield place.as_posix()


def _imports(repo: Path, place: str, name: str) -> tuple[frozenset[str], frozenset[str]]:
    """Absolute and relative imports at the start of a module, without those that it can do without."""
    module = None
    with suppress(OSError):
        module = parse_source((repo / place).read_bytes())
    if module is None:
        return frozenset(), frozenset()
    body = [one for one in module.body if not (isinstance(one, ast.If) and "__main__" in ast.unparse(one.test))]
    nodes = live_nodes(ast.Module(body, []))
    found = read_imports(nodes, name, package=place.endswith("/__init__.py"))
    return found.needed - found.lazy, found.relative


def _module(name: str) -> str:
    """The part of a dotted name that is a module for certain: the first, or what is below a namespace."""
    return next((one for one in prefixes(name) if not is_namespace(one)), name)


def _own_names(repo: Path) -> set[str]:
    """Names of all files with code and all folders, any of which could answer an import."""
    found: set[str] = set()
    for _, folders, names in os.walk(repo):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        found |= {name.lower() for name in folders}
        found |= {name.split(".")[0].lower() for name in names if name.endswith(_CODE)}
    return found
