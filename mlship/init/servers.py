"""Detect the command, port and routes of a server in the repository."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from posixpath import join, normpath

from mlship.dockerfile.stages import BuildStage
from mlship.dockerfile.words import shown_image
from mlship.imports import is_foreign
from mlship.init.builds import Build
from mlship.init.found import ExistingServer, Routes
from mlship.init.frameworks import tops
from mlship.init.known import init_table
from mlship.init.page_folders import template_steps
from mlship.init.route_choice import PREDICT, find_routes
from mlship.init.serving_starts import ServingStart, find_start, host_notes, library_routes, other_processes
from mlship.init.sources import App, Module, is_served, reachable
from mlship.init.start_scripts import read_start_script, script_path
from mlship.init.tree import Tree
from mlship.init.working_folder import (
    is_django,
    named_modules,
    opens_from_root,
    placed_command,
    project_modules,
    server_folder,
)
from mlship.project.commands import (
    PORT,
    app_command,
    is_server,
    listen_on,
    parse_command,
    port_of,
    procfile_web,
    program_name,
    python_module,
    takes_no_sample,
    without_reload,
)
from mlship.project.config import names_musl
from mlship.project.paths import WORKDIR
from mlship.project.serving_table import ServerProgram, serving_table
from mlship.units import count_of, few

_STEPS, _NOTES = init_table().steps, init_table().notes
_USUAL = ("app", "main", "server", "api", "wsgi", "asgi")


@dataclass(frozen=True)
class _Command:
    """A command, its origin, whether the repository has it, the user's steps, and the folder of its modules."""

    command: tuple[str, ...]
    why: str
    written: bool
    steps: tuple[str, ...] = ()
    folder: str = ""


def find_server(
    tree: Tree, modules: Mapping[str, Module], build: Build
) -> tuple[ExistingServer | None, tuple[str, ...]]:
    """Find the server and notes about it; None if the repository has no server.

    The command comes from the Procfile, then the Dockerfile, then the kind of app object.
    """
    apps, stage = _apps(modules), build.stage
    unusable = tuple(_unusable(tree, stage))
    started = find_start(tree, modules)
    found = _command(tree, build, modules, apps, started)
    if found is None:
        return None, unusable
    found = _with_step(tree, build.folder, _as_here(tree, build, found, apps))
    named, folder = named_modules(found.command, modules, found.folder)
    first = [module for module, _ in apps[:1]] or ([started.module] if started else [])
    entries = sorted(named, key=lambda one: not modules[one].apps) or [module.name or "" for module in first]
    entry = modules[entries[0]] if entries else None
    served = project_modules(entry, modules) if entry and is_django(entry) else reachable(entries, modules)
    chosen = _without_script(found, entry)
    import_root = folder if opens_from_root(tree, folder, served) else ""
    place = server_folder(tree, folder.removesuffix(import_root), entry, served, written=chosen.written)
    started = started if started and entry is started.module else None
    script = _with_script(tree, chosen.command)
    known, notes, steps = (None, (), ()) if script else _port(chosen, stage, entry, started.port if started else None)
    moved = {one: at for one in chosen.command if import_root and (at := normpath(join(import_root, one))) in tree}
    port, command = known or PORT, tuple(moved.get(one, one) for one in without_reload(chosen.command))
    server = ExistingServer(
        kind=apps[0][1].kind if apps else chosen.command[0],
        path=entry.path if entry else chosen.why.rpartition(" ")[2].rstrip("."),
        command=placed_command(script or listen_on(command, port), place, entry),
        port=port,
        routes=library_routes(entry, _routes_of(tree, served, chosen.command), served),
        modules=tuple(module.name for module in served if module.name),
        needs=_needs(chosen.command, apps, started),
        why=f"{chosen.why}; it runs in `{place.path}`, {place.why}" if place else chosen.why,
        folder=place,
        import_root=import_root,
        written=chosen.written,
        opaque=bool(script),
        port_known=known is not None,
        steps=(*chosen.steps, *steps, *template_steps(tree, {module.path: module.pages for module in served})),
    )
    return server, (
        *_other_apps(apps, server.modules, written=chosen.written and bool(named)),
        *unusable,
        *notes,
        *_remarks(server, served),
        *other_processes(served),
        *(host_notes(started) if started else ()),
    )


def _as_here(tree: Tree, build: Build, found: _Command, apps: Sequence[tuple[Module, App]]) -> _Command:
    """The command of an image that has the app's module under a name that the repository has not."""
    for word in found.command if found.written else ():
        top, (path, _, name) = re.split("[.:]", word)[0], word.replace(".", "/").partition(":")
        alike = [(module, app) for module, app in apps if app.name == name and not app.factory]
        named = {f"{module.name}:{app.name}": module.path for module, app in alike}
        source, ends = build.source(tree, f"{path}.py"), (f"/{path}.py", f"/{path}/__init__.py")
        copied = [one for one, file in named.items() if file == source]
        ours = copied or [one for one in named if f".{one}".endswith(f".{word.rpartition('.')[2]}")] or [*named]
        files = [source] if copied else tree.files
        if not ours or is_foreign(top) or any(f"/{file}".endswith(ends) for file in files):
            continue
        if ours[1:]:
            step = f"Correct `serve.command`: `{word}` is not here, but {few([f'`{one}`' for one in ours])} are."
            return replace(found, steps=(*found.steps, step))
        command = tuple(ours[0] if one == word else one for one in found.command)
        step = f"Move the code into a folder `{top}`, or change its imports: it has that name only in your image."
        steps = (*found.steps, step) if any(top in tops(module.imports) for module, _ in apps) else found.steps
        why = f"{found.why}, with `{ours[0]}` for `{word}`, which is not here"
        return replace(found, command=command, why=why, steps=steps)
    return found


def _row(command: Sequence[str]) -> ServerProgram | None:
    return serving_table().programs.get(python_module(command) or program_name(command))


def _with_step(tree: Tree, folder: str, found: _Command) -> _Command:
    """With what a person has to do for the program, unless the command names a model of the repository."""
    row, parts = _row(found.command), (part for word in found.command[2:] for part in word.split("="))
    shipped = any(normpath(join(folder, part.removeprefix(f"{WORKDIR}/"), "config.json")) in tree for part in parts)
    return replace(found, steps=(*found.steps, row.step)) if row and row.step and not shipped else found


def _port(
    chosen: _Command, stage: BuildStage | None, entry: Module | None, given: int | None
) -> tuple[int | None, tuple[str, ...], tuple[str, ...]]:
    """The port, None if nothing says it; notes about it, and steps."""
    start = entry.start if entry and program_name(chosen.command).startswith("python") else None
    written = port_of(chosen.command) if chosen.written else None
    named = written or given or (start.port if start else None) or (_exposed(stage) if stage else None)
    named = named or (row.port if (row := _row(chosen.command)) and row.predict else None)  # where no code decides it
    requested = named or PORT
    port = requested if 1024 < requested <= 65535 else PORT
    root = f"port {requested} requires root, but the image runs as non-root"
    if port != requested:
        step = (f"Change port {requested} in `{entry.path}` to {port}: {root}.",) if start and entry else ()
        return port, () if step else (f"{root}; mlship.yaml uses port {port}",), step
    if not named and port_of(listen_on(chosen.command, port)) is None:
        return None, ("the command sets no port, so `serve.port` is left open",), ()
    return port, (), ()


def _with_script(tree: Tree, command: Sequence[str]) -> tuple[str, ...]:
    """A command that runs a script of the repository, from its place here; empty if none hides the server."""
    program = command[0].removeprefix("./")
    if program in tree:
        return () if program.endswith(".py") else tuple(command)
    path = script_path(tree, command)
    return (f"{WORKDIR}/{path}", *command[1:]) if path else ()


def _without_script(chosen: _Command, entry: Module | None) -> _Command:
    """Gunicorn instead of Flask's development server, with what the script does before as a step."""
    plain = program_name(chosen.command).startswith("python") and len(chosen.command) == 2
    file, start = chosen.command[-1] if plain else "", entry.start if entry else None
    app = next((one for one in entry.apps if start and one.name == start.runner), None) if entry else None
    if not (file.endswith(".py") and entry and start and app and app.kind == "flask" and start.simple):
        return chosen
    name = file.removesuffix(".py").removeprefix("./").replace("/", ".")
    why = f"{chosen.why} starts Flask's development server; gunicorn serves `{app.name}` of {entry.path} instead"
    command = app_command("flask", f"{name}:{app.name}", factory=False)
    return _Command(command, why, chosen.written, tuple(_moves(entry, app)))


def _moves(module: Module, app: App) -> Iterator[str]:
    """Calls that only the script makes, or that it makes always: a server imports the file."""
    start = module.start
    if start and start.on_import:
        yield _STEPS["below_guard"].format(line=start.on_import, path=module.path)
    if start and start.calls and start.runner in (app.name, "uvicorn"):
        named, line = few(dict.fromkeys(f"`{call}()`" for call, _ in start.calls)), start.calls[0][1]
        yield _STEPS["out_of_guard"].format(named=named, path=module.path, line=line)


def _routes_of(tree: Tree, served: Sequence[Module], command: Sequence[str]) -> Routes:
    if (row := _row(command)) and row.predict:
        return Routes(row.live, row.ready, row.predict)
    routes = [route for module in served for route in module.routes]
    found = find_routes(routes, at_once=not any(module.starts_tasks for module in served))
    models = {name: model for module in served for name, model in module.models.items()}
    pages = (tree.text(path) or "" for path in tree.files if path.endswith((".html", ".htm")))
    named = sorted((one for one in routes if one.path == found.predict), key=lambda one: "POST" not in one.methods)
    if not named:
        return found
    handler = named[0].handler.completed(models, pages, found.predict or "")
    return replace(found, handler=handler, posts="POST" in named[0].methods)


def _apps(modules: Mapping[str, Module]) -> list[tuple[Module, App]]:
    """Ordered by depth, servers with a prediction route and then with a model before others, then by usual names."""
    found = [(module, app) for module in modules.values() if is_served(module.path) for app in module.apps]
    uses = {module.path: reachable([module.name or ""], modules) for module, _ in found}
    return sorted(found, key=lambda one: (one[0].path.count("/"), _order(one[0], one[1], uses[one[0].path])))


def _order(module: Module, app: App, used: Sequence[Module]) -> tuple[bool, bool, int, bool, str, str]:
    predicts = any(word in route.path for one in used for word in PREDICT for route in one.routes)
    models = [f for one in used for f in one.loaded if f.is_model or f.hub or not PurePosixPath(f.text).suffix]
    loads = bool(models) or any(one.loads for one in used)
    stem = PurePosixPath(module.path).stem
    return not predicts, not loads, (*_USUAL, stem).index(stem), app.factory, module.path, app.name


def _command(
    tree: Tree,
    build: Build,
    modules: Mapping[str, Module],
    apps: Sequence[tuple[Module, App]],
    started: ServingStart | None,
) -> _Command | None:
    stage, serves = build.stage, partial(_serves, tree, modules, apps)
    words, given = _written(tree, stage)
    if (script := read_start_script(tree, words, given)) and serves(build.folder, script.command):
        why, ran = f"the last command in {script.path}", ", ".join(f"`{one}`" for one in script.before)
        steps = (_STEPS["left_script"].format(path=script.path, ran=ran),) * bool(ran)
        return _Command(script.command, why, written=True, steps=steps, folder=build.folder)
    command = parse_command(words, given) if procfile_web(tree.text("Procfile") or "") else None
    if command and (serves(build.folder, command) or not (apps or takes_no_sample(command))):
        return _Command(command, "the `web` line in Procfile", written=True, folder=build.folder)
    command, folder = build.placed(tree, (stage and parse_command(stage.command, stage.env)) or ())
    if command and serves(folder, command):
        return _Command(command, f"the command in {build.origin}", written=True, folder=folder)
    for module, app in apps[:1]:
        how = "the factory function" if app.factory else "the object"
        why = f"{module.path} has {how} {app.name} ({serving_table().app[app.kind].title})"
        command = app_command(app.kind, f"{module.name}:{app.name}", factory=app.factory)
        return _Command(command, why, written=False, steps=tuple(_moves(module, app)))
    return _Command(started.command, started.why, written=False) if started else None


def _serves(
    tree: Tree, modules: Mapping[str, Module], apps: Sequence[tuple[Module, App]], folder: str, command: Sequence[str]
) -> bool:
    """Whether a command of the repository starts a server; a program of the repository may, if there is an app."""
    if is_server(command) or takes_no_sample(command):
        return is_server(command)
    if not program_name(command).startswith("python"):
        return bool(apps) and command[0].removeprefix("./") in tree
    run = reachable(named_modules(command, modules, folder)[0], modules)
    return any(one.apps or one.served or one.start for one in run) or any(is_django(module) for module, _ in apps)


def _written(tree: Tree, stage: BuildStage | None) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command of the Procfile, otherwise of the Dockerfile, with the variables that are set for it; or no words."""
    if web := procfile_web(tree.text("Procfile") or ""):
        return ("sh", "-c", web), {}
    return (stage.command or (), stage.env) if stage else ((), {})


def _exposed(stage: BuildStage) -> int | None:
    """The port of EXPOSE; None if the file does not decide it, or lists several that do not require root."""
    ports = {int(number[0]) for number in (re.match(r"\d+", port) for port in stage.ports) if number}
    chosen = {port for port in ports if port > 1024} or ports
    return chosen.pop() if len(chosen) == 1 else None


def _unusable(tree: Tree, stage: BuildStage | None) -> Iterator[str]:
    """Notes about commands that require a shell and unsupported base images."""
    words, given = _written(tree, stage)
    path, command = script_path(tree, words), parse_command(words, given)
    own = command and (command[0] in tree or command[0].startswith(("python", "./")))
    if path and not read_start_script(tree, words, given):
        why = "it is more than a list of commands, so `init` did not read it"
        yield f"`{path}` starts the server, but {why}: check `serve.command` and `serve.port`"
    elif words and not (path or command):
        web = procfile_web(tree.text("Procfile") or "")
        what, text = ("the `web` line in Procfile", f": {web[:200]}") if web else ("the command in Dockerfile", "")
        yield f"ignored {what}, because it requires a shell{text}"
    elif command and not (path or own or is_server(command) or takes_no_sample(command)):
        yield f"`{command[0]}` of the Procfile or Dockerfile is no server that `init` supports; check `serve.command`"
    if stage and names_musl(stage.root.image):
        base = shown_image(stage.root.image)
        yield f"Dockerfile uses {base}; mlship uses Debian slim, which runs standard manylinux wheels"
    outer = tree.root.resolve().name
    if stage and any(source.split("/")[0] == outer and not tree.below(outer) for _, source, _ in stage.copied):
        yield "the Dockerfile is built from the folder above; if the server needs files of it, run `mlship init` there"
    if stage:
        yield "mlship generates its own Dockerfile and does not use or change yours"


def _other_apps(apps: Sequence[tuple[Module, App]], used: Sequence[str], *, written: bool) -> Iterator[str]:
    others = [f"{module.name}:{app.name}" for module, app in apps if module.name not in used]
    if others:
        chosen = "that of the command" if written else "the first by depth, prediction route, model and name"
        yield f"found {count_of(len(apps), 'server object')}; using {chosen}, not {few(others)}"


def _needs(command: Sequence[str], apps: Sequence[tuple[Module, App]], started: ServingStart | None) -> tuple[str, ...]:
    """The distributions of the program, the app object and the library that serve."""
    table = serving_table()
    words = {program_name(command), python_module(command), *command[1:2]}
    programs = {row.package for word, row in table.programs.items() if word in words}
    packages = {*programs, *(table.app[app.kind].package for _, app in apps[:1]), *(started.needs if started else ())}
    return tuple(sorted(packages - {""}))


def _remarks(server: ExistingServer, served: Sequence[Module]) -> Iterator[str]:
    if written := [f"`{one.text}` ({module.path}, line {one.line})" for module in served for one in module.written]:
        yield f"only /tmp is writable in the image, but the server writes {few(written)}"
    routes = server.routes
    if server.kind.startswith("django"):
        yield _NOTES["django_routes"]
        return
    if routes.predict is None and not routes.posts_to:
        yield _NOTES["no_post_route"]
    if routes.live is None or routes.ready is None:
        yield _NOTES["no_health_route"]
