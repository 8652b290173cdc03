"""The server of a library such as LitServe or BentoML: how it starts, and the routes that the library adds."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mlship.init.declared.documents import document_if_any, text_in
from mlship.init.found import Routes
from mlship.init.serving_libraries import ServingUse
from mlship.init.sources import Module, is_served
from mlship.init.tree import Tree
from mlship.project.serving_table import serving_table
from mlship.project.syntax import constant_text, keyword_value
from mlship.units import few

_BENTOFILES = ("bentofile.yaml", "bentofile.yml")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class ServingStart:
    """A server that the code has without FastAPI, Flask or Django.

    Attributes:
        port: what the code says; None if it does not decide it, or if the command decides it.
        needs: distributions that the command requires.
    """

    module: Module
    command: tuple[str, ...]
    port: int | None
    needs: tuple[str, ...]
    why: str


def find_start(tree: Tree, modules: Mapping[str, Module]) -> ServingStart | None:
    """The server whose command is known; None without one, and if there are several."""
    uses = list(_uses(modules.values()))
    lit = [_litserve(module, one) for module, one in uses if one.library.title == "LitServe"]
    bento = [_bentoml(module, one) for module, one in uses if one.library.title == "BentoML" and one.name]
    named = _bentofile(tree)
    found = {start.command: start for start in (*lit, *bento) if named is None or start.command[2:3] == (named,)}
    return next(iter(found.values())) if len(found) == 1 else None


def library_routes(entry: Module | None, routes: Routes, served: Iterable[Module]) -> Routes:
    """The routes with those that the library of the entry adds; the served modules may have its APIs."""
    rows = {one.library.title: one.library for one in entry.served} if entry else {}
    if entry and (row := rows.get("LitServe")):
        paths = {path for module in served for path in module.address.paths} or {row.predict or ""}
        predict = paths.pop() if len(paths) == 1 else None
        return Routes(row.live, _keyword(entry.served, "healthcheck_path", row.ready), predict or None)
    row = rows.get("BentoML")
    return replace(routes, live=row.live, ready=row.ready) if row else routes


def unknown_starts(modules: Mapping[str, Module]) -> Iterator[str]:
    """Notes about servers whose command or protocol is unknown, which must not be reported as absent."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for module, one in _uses(modules.values()):
        found.setdefault((one.library.title, one.library.kind), {}).setdefault(module.path, one.line)
    for (title, kind), lines in found.items():
        places = [f"`{path}` (line {line})" for path, line in lines.items()]
        yield f"{few(places)} {'uses' if len(places) == 1 else 'use'} {title} to serve, " + (
            "whose command `init` does not know: set `serve.command`, `serve.port` and the routes in mlship.yaml"
            if kind == "http"
            else "which does not accept a sample over HTTP: write `load()`, and mlship serves the model"
        )


def foreign_code(tree: Tree) -> Iterator[str]:
    """A note about a server that may be written in another language."""
    found: dict[str, list[str]] = {}
    languages = serving_table().languages
    for path in tree.files:
        if language := languages.get(PurePosixPath(path).name) or languages.get(PurePosixPath(path).suffix):
            found.setdefault(language, []).append(f"`{path}`")
    yield from (f"{few(paths)}: code in {language} is not read" for language, paths in found.items())


def host_notes(start: ServingStart) -> Iterator[str]:
    """A note if the server may be unreachable from outside its container."""
    host, path = start.module.address.host, start.module.path
    if start.command[0] == "bentoml" or host is None:
        return
    if host in _LOOPBACK:
        yield f"`{path}` listens on {host}, which is unreachable from outside the container: set it to 0.0.0.0"
    elif not host:
        yield f"`{path}` sets a host that is not constant: it must be 0.0.0.0 in the container"


def other_processes(served: Iterable[Module]) -> Iterator[str]:
    """Notes about brokers and workers that the server needs besides."""
    titles = {one.library.title: module.path for module, one in _uses(served) if one.library.kind == "other"}
    for title, path in titles.items():
        yield f"`{path}` uses {title}; its other processes, such as brokers and workers, are not in this image"


def _uses(modules: Iterable[Module]) -> Iterator[tuple[Module, ServingUse]]:
    yield from ((module, one) for module in modules if is_served(module.path) for one in module.served)


def _litserve(module: Module, one: ServingUse) -> ServingStart:
    command = ("python", "-m", module.name or "") if "/" in module.path else ("python", module.path)
    port = module.address.port if module.address.port is not None else one.library.port
    return ServingStart(module, command, port or None, ("litserve",), f"{module.path} starts a LitServe server")


def _bentoml(module: Module, one: ServingUse) -> ServingStart:
    command = ("bentoml", "serve", f"{module.name}:{one.name}")
    return ServingStart(module, command, None, ("bentoml",), f"{module.path} has the BentoML service {one.name}")


def _bentofile(tree: Tree) -> str | None:
    """The service that bentofile.yaml names: `module:service`."""
    named = (text_in(document_if_any(tree, path), "service") or "" for path in _BENTOFILES)
    module, colon, service = next((one for one in named if ":" in one), "").partition(":")
    return f"{module.removesuffix('.py').replace('/', '.')}:{service}" if colon else None


def _keyword(served: Iterable[ServingUse], name: str, default: str | None) -> str | None:
    """A path that the code may set, if it is constant."""
    given = (keyword_value(one.call, name) for one in served if one.call)
    texts = {constant_text(value) for value in given if value} or {default}
    return texts.pop() if len(texts) == 1 else None
