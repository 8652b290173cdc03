"""Detect the command, port and routes of a server in the repository."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from mlship.init.found import ExistingServer, Routes
from mlship.init.sources import App, Module, Route, is_served, reachable
from mlship.init.tree import Tree
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
    notes = [*_other_apps(apps), *_unusable(tree, dockerfile)]
    chosen = _command(tree, dockerfile, apps)
    if chosen is None:
        return None, tuple(notes)
    command, why = chosen
    named = port_of(command) or (dockerfile.port if dockerfile else None)
    requested = named or PORT
    port = requested if 1024 < requested <= 65535 else PORT
    if port != requested:
        notes.append(f"port {requested} requires root, but the image runs as non-root; mlship.yaml uses port {port}")
    command = listen_on(command, port)
    if not named and port_of(command) is None:
        notes.append(f"the command sets no port; `serve.port` is {port}, change it if the server uses another port")
    entries = _named_modules(command, modules) or [m.name or "" for m, _ in apps[:1]]
    served = reachable(entries, modules)
    server = ExistingServer(
        kind=apps[0][1].kind if apps else command[0],
        path=modules[entries[0]].path if entries else why.rpartition(" ")[2].rstrip("."),
        command=command,
        port=port,
        routes=_routes_of(tree, served),
        modules=tuple(module.name for module in served if module.name),
        needs=_needs(command, apps),
        why=why,
    )
    return server, (*notes, *_missing_routes(server))


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
) -> tuple[tuple[str, ...], str] | None:
    web = procfile_web(tree.text("Procfile") or "")
    if web and (command := parse_command([web])):
        return command, "the `web` line in Procfile"
    if dockerfile and (command := parse_command(dockerfile.command)) and (apps or is_server(command)):
        return command, "the command in Dockerfile"
    for module, app in apps[:1]:
        how = "the factory function" if app.factory else "the object"
        why = f"{module.path} has {how} {app.name} ({'FastAPI' if app.kind == 'fastapi' else 'Flask'})"
        return app_command(app.kind, f"{module.name}:{app.name}", factory=app.factory), why
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


def _other_apps(apps: Sequence[tuple[Module, App]]) -> Iterator[str]:
    if len(apps) > 1:
        others = ", ".join(f"{module.name}:{app.name}" for module, app in apps[1:4])
        yield f"found {len(apps)} server objects; using the one closest to the root, not {others}"


def _named_modules(command: Sequence[str], modules: Mapping[str, Module]) -> list[str]:
    """Modules in a command: `app:app`, `-m app`, `app.py`."""
    names = [re.sub(r"(:.*|\.py)$", "", word).replace("/", ".") for word in command]
    return [name for name in names if name in modules]


def _needs(command: Sequence[str], apps: Sequence[tuple[Module, App]]) -> tuple[str, ...]:
    name = program_name(command)
    started = [command[2]] if name.startswith("python") and "-m" in command[1:2] and len(command) > 2 else [name]
    programs = [name for name in started if is_server([name]) and name not in _FOUNDATIONS]
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
