"""Detect the command, port and routes of a server in the repository."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from mlship.init.found import ExistingServer, Routes, few
from mlship.init.sources import App, Module, Route, is_served, reachable
from mlship.init.tree import Tree
from mlship.init.working_folder import WorkingFolder, find_working_folder, named_modules, needs_root
from mlship.project.commands import (
    PORT,
    Dockerfile,
    app_command,
    is_server,
    listen_on,
    parse_command,
    port_of,
    procfile_web,
    program_name,
    run_in,
)
from mlship.project.config import names_musl

LIVE = ("/health/live", "/livez", "/live", "/v2/health/live", "/healthz", "/health", "/healthcheck", "/ping", "/")
READY = ("/health/ready", "/readyz", "/ready", "/v2/health/ready", "/healthz", "/health", "/healthcheck", "/ping")
PREDICT = ("/predict", "/predictions", "/invocations", "/infer", "/inference", "/embed", "/classify", "/score")
_USUAL = ("app", "main", "server", "api", "wsgi", "asgi")
_FOUNDATIONS = {"fastapi": "fastapi", "flask": "flask"}


def find_server(
    tree: Tree, modules: Mapping[str, Module], dockerfile: Dockerfile | None
) -> tuple[ExistingServer | None, tuple[str, ...]]:
    """Find the server and notes about it; None if the repository has no server.

    The command comes from the Procfile, then the Dockerfile, then the kind of app object.
    """
    apps = _apps(modules)
    notes = [*_unusable(tree, dockerfile)]
    chosen = _command(tree, dockerfile, apps)
    if chosen is None:
        return None, tuple(notes)
    command, why, written = chosen
    named = port_of(command) or (dockerfile.port if dockerfile else None)
    requested = named or PORT
    port = requested if 1024 < requested <= 65535 else PORT
    if port != requested:
        notes.append(f"port {requested} requires root, but the image runs as non-root; mlship.yaml uses port {port}")
    command = listen_on(command, port)
    if not named and port_of(command) is None:
        notes.append(f"the command sets no port; `serve.port` is {port}, change it if the server uses another port")
    entries, folder = named_modules(command, modules)
    entries = entries or [m.name or "" for m, _ in apps[:1]]
    served = reachable(entries, modules)
    entry = modules[entries[0]] if entries else None
    place = _place(tree, folder, entry, served, written=written)
    server = ExistingServer(
        kind=apps[0][1].kind if apps else command[0],
        path=entry.path if entry else why.rpartition(" ")[2].rstrip("."),
        command=_placed(command, place, entry),
        port=port,
        routes=_routes_of(tree, served),
        modules=tuple(module.name for module in served if module.name),
        needs=_needs(command, apps),
        why=f"{why}; it runs in `{place.path}`, {place.why}" if place else why,
        folder=place,
    )
    return server, (*_other_apps(apps, entries, written=written), *notes, *_missing_routes(server))


def _place(
    tree: Tree, folder: str, entry: Module | None, served: Sequence[Module], *, written: bool
) -> WorkingFolder | None:
    if entry and folder:
        return WorkingFolder(folder, "where the command finds its module", needs_root(entry, served))
    return find_working_folder(tree, entry, served) if entry and not written else None


def _placed(command: tuple[str, ...], place: WorkingFolder | None, entry: Module | None) -> tuple[str, ...]:
    """The command in the working folder; an app keeps its full name if modules need the root."""
    if place is None:
        return command
    if entry and entry.name and not place.needs_root:
        depth = len(PurePosixPath(entry.path).relative_to(place.path).parts)
        inner = ".".join(entry.name.split(".")[-depth:])
        command = tuple(re.sub(rf"^{re.escape(entry.name)}(?=:|$)", inner, word) for word in command)
    return run_in(place.path, command)


def _routes_of(tree: Tree, served: Sequence[Module]) -> Routes:
    routes = [route for module in served for route in module.routes]
    found = find_routes(routes, loads_first=any(module.loads for module in served))
    models = {name: fields for module in served for name, fields in module.models.items()}
    pages = (tree.text(path) or "" for path in tree.files if path.endswith((".html", ".htm")))
    handler = next((route.handler for route in routes if route.path == found.predict), None)
    return replace(found, handler=handler.completed(models, pages, found.predict or "") if handler else None)


def find_routes(routes: Sequence[Route], *, loads_first: bool = False) -> Routes:
    """Choose the liveness, readiness and prediction routes.

    Args:
        loads_first: the model is loaded while the server's modules are imported, so a server that answers is ready.
    """
    get = [route.path for route in routes if "GET" in route.methods]
    plain = [route for route in routes if "{" not in route.path and "<" not in route.path]
    post = [route.path for route in plain if "POST" in route.methods]
    alike = [route.path for route in plain if any(word.strip("/") in route.path for word in PREDICT)]
    live = next((path for path in LIVE if path in get), None)
    return Routes(
        live=live,
        ready=next((path for path in READY if path in get), live if loads_first else None),
        predict=next((path for path in (*PREDICT, *alike) if path in post), None) or next(iter([*post, *alike]), None),
    )


def _apps(modules: Mapping[str, Module]) -> list[tuple[Module, App]]:
    """Ordered by depth, usual file names, then objects before factories."""
    found = [(module, app) for module in modules.values() if is_served(module.path) for app in module.apps]
    return sorted(found, key=lambda f: (f[0].path.count("/"), _rank(f[0].path), f[1].factory, f[0].path, f[1].name))


def _rank(path: str) -> int:
    stem = PurePosixPath(path).stem
    return _USUAL.index(stem) if stem in _USUAL else len(_USUAL)


def _command(
    tree: Tree, dockerfile: Dockerfile | None, apps: Sequence[tuple[Module, App]]
) -> tuple[tuple[str, ...], str, bool] | None:
    """The command, its origin, and whether the repository has it as it is."""
    web = procfile_web(tree.text("Procfile") or "")
    if web and (command := parse_command([web])):
        return command, "the `web` line in Procfile", True
    if dockerfile and (command := parse_command(dockerfile.command)) and (apps or is_server(command)):
        return command, "the command in Dockerfile", True
    for module, app in apps[:1]:
        how = "the factory function" if app.factory else "the object"
        why = f"{module.path} has {how} {app.name} ({'FastAPI' if app.kind == 'fastapi' else 'Flask'})"
        return app_command(app.kind, f"{module.name}:{app.name}", factory=app.factory), why, False
    return None


def _unusable(tree: Tree, dockerfile: Dockerfile | None) -> Iterator[str]:
    """Notes about commands that require a shell and unsupported base images."""
    web = procfile_web(tree.text("Procfile") or "")
    if web and not parse_command([web]):
        yield f"ignored the `web` line in Procfile, because it requires a shell: {web[:200]}"
    if dockerfile and dockerfile.command and not parse_command(dockerfile.command):
        yield "ignored the command in Dockerfile, because it requires a shell"
    if dockerfile and names_musl(dockerfile.base):
        yield f"Dockerfile uses {dockerfile.base}; mlship uses Debian slim, which runs standard manylinux wheels"
    if dockerfile:
        yield "mlship generates its own Dockerfile and does not use or change yours"


def _other_apps(apps: Sequence[tuple[Module, App]], entries: Sequence[str], *, written: bool) -> Iterator[str]:
    others = [f"{module.name}:{app.name}" for module, app in apps if module.name not in entries]
    if others:
        chosen = "that of the command" if written else "the one closest to the root"
        yield f"found {len(apps)} server objects; using {chosen}, not {few(others)}"


def _needs(command: Sequence[str], apps: Sequence[tuple[Module, App]]) -> tuple[str, ...]:
    name = program_name(command)
    module = command[2:3] if name.startswith("python") and "-m" in command[1:2] else [name]
    programs = [name for name in module if is_server([name]) and name not in _FOUNDATIONS]
    names = ["waitress" if name == "waitress-serve" else name for name in programs]
    return tuple(sorted({*names, *(_FOUNDATIONS[app.kind] for _, app in apps[:1])}))


def _missing_routes(server: ExistingServer) -> Iterator[str]:
    routes = server.routes
    if routes.predict is None:
        yield "no POST route found in the server; set `serve.predict` in mlship.yaml to the prediction route"
    if routes.live is None or routes.ready is None:
        yield (
            "no health route found in the server; add a GET route that returns 200 once the model is loaded, "
            "and set `serve.live` and `serve.ready` to it"
        )
