"""Imports, server objects, routes and loaders of Python sources. Parsed, never run."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import PurePosixPath

from mlship.init.cuda_code import CudaUse, find_cuda_use
from mlship.init.downloads import Download, find_downloads
from mlship.init.handlers import RequestModel, request_models
from mlship.init.load_calls import LoadedFile, find_loaded_files, path_constants
from mlship.init.page_folders import PageFolders, read_page_folders
from mlship.init.routers import Route, Routing, full_routes, read_routing
from mlship.init.scripts import ScriptStart, script_start
from mlship.init.serving_libraries import ServedAddress, ServingUse, find_served, read_address
from mlship.init.tree import SIDE_FOLDERS
from mlship.init.written_files import WrittenFile, find_written_files, read_variables
from mlship.project.import_statements import Imports, live_nodes, read_imports
from mlship.project.serving_table import serving_table
from mlship.project.syntax import FunctionNode, assigned, constant_text, dotted, last_name, parameters, parse_source

LOADERS = ("load", "load_model", "get_model", "load_predictor", "get_predictor", "make_predictor", "build_model")
_LOADING = {*LOADERS, "from_pretrained", "InferenceSession", "Booster", "load_weights", "load_learner", "pipeline"}
_SETTINGS = {"json.load", "yaml.load", "toml.load", "tomllib.load"}
_TASKS = {"Thread", "Process", "Timer", "Executor", "ThreadPoolExecutor", "ProcessPoolExecutor", "start_new_thread",
          "create_task", "ensure_future", "run_in_executor", "start_soon", "BackgroundScheduler"}  # fmt: skip
_REGISTERS = {"route", "get", "post", "put", "delete", "patch", "api", "task", "command", "tool", "api_route"}
_FACTORIES = ("create_app", "make_app", "get_app", "build_app")
_NOT_SERVED = ("train", "test", "conftest", "setup", "noxfile", "fabfile", "evaluate", "benchmark", "convert", "export")
_SIDE_FOLDERS = {*SIDE_FOLDERS, "benchmarks"}


@dataclass(frozen=True)
class App:
    """A server object, or a factory function for one; the kind is a key of `app` in data/serving.toml."""

    kind: str
    name: str
    factory: bool


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted module name, relative to the import root; None if the path is not importable.
        imports: absolute dotted names of all that it may import, its own package's modules too.
        statements: the same, by whether the module can do without them.
        bare: functions that return what a library loads.
        strings: string constants.
        sets_path: it changes sys.path.
        routing: what it says about routes; routes: the routes with their full paths, once all modules are read.
        models: its pydantic models, by class.
        loads: it loads a model when it is imported.
        starts_tasks: it starts threads or tasks, which may load a model later.
        loaded: the files that its calls load; outside: those with an absolute path.
        downloads: its calls that need a network.
        written: the files that its calls write.
        variables: those of the environment that it reads without a default.
        pages: the folders and templates of its pages.
        start: the server that it starts as a script.
        served: its uses of other libraries that serve; address: where these serve.
    """

    path: str
    name: str | None
    imports: frozenset[str]
    statements: Imports
    apps: tuple[App, ...]
    routing: Routing
    loaders: tuple[str, ...]
    bare: frozenset[str]
    strings: frozenset[str]
    cuda: CudaUse
    sets_path: bool = False
    models: Mapping[str, RequestModel] = field(default_factory=dict)
    loads: bool = False
    starts_tasks: bool = False
    loaded: tuple[LoadedFile, ...] = ()
    outside: tuple[LoadedFile, ...] = ()
    downloads: tuple[Download, ...] = ()
    written: tuple[WrittenFile, ...] = ()
    variables: frozenset[str] = frozenset()
    pages: PageFolders = field(default_factory=PageFolders)
    start: ScriptStart | None = None
    served: tuple[ServingUse, ...] = ()
    address: ServedAddress = field(default_factory=ServedAddress)
    routes: tuple[Route, ...] = ()


@lru_cache(maxsize=4096)
def parse_module(path: str, text: str, root: str = "") -> Module | None:
    """Parse a source file below the import root, "" or "src"; None if it is not valid Python."""
    tree = parse_source(text)
    if tree is None:
        return None
    name = _module_name(path, root)
    nodes = tuple(live_nodes(tree))
    served, constants = find_served(nodes), path_constants(nodes, path)
    loaded, outside = find_loaded_files(nodes, constants)
    methods = (one for made in nodes if isinstance(made, ast.ClassDef) for one in made.body)
    bound = {name for one in methods for name in _registrars(one)}  # such as Ray Serve, which calls them on its objects
    statements = read_imports(nodes, name or "", package=path.endswith("/__init__.py"))
    return Module(
        path=path,
        name=name,
        imports=statements.all,
        statements=statements,
        apps=tuple(one for one in _apps(tree.body) if one.name not in bound),
        routing=read_routing(nodes, name or "", package=path.endswith("/__init__.py")),
        loaders=tuple(_loaders(tree.body)),
        bare=frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef) and _is_bare(one)),
        strings=frozenset(filter(None, (*map(constant_text, nodes), *constants.values()))),
        cuda=find_cuda_use(nodes),
        sets_path=any(isinstance(n, ast.Attribute) and (n.attr, last_name(n.value)) == ("path", "sys") for n in nodes),
        models=request_models(tree.body),
        loads=_loads(tree.body),
        starts_tasks=not _TASKS.isdisjoint(_calls(tree)),
        loaded=tuple(loaded),
        outside=tuple(outside),
        downloads=tuple(find_downloads(nodes)),
        written=find_written_files(nodes, constants),
        variables=read_variables(nodes),
        pages=read_page_folders(nodes, constants),
        served=served,
        address=read_address(nodes, served),
        start=script_start(tree.body, [app.name for app in _apps(tree.body)]),
    )


def with_routes(modules: Mapping[str, Module]) -> dict[str, Module]:
    """The modules with their routes, which depend on each other."""
    routes = full_routes({name: module.routing for name, module in modules.items()})
    return {name: replace(module, routes=routes[name]) for name, module in modules.items()}


def is_served(path: str) -> bool:
    """Whether a source file may be served, rather than a test, training script, notebook or tool."""
    parts = PurePosixPath(path)
    stem = parts.stem.lower()
    side = any(part.lower() in _SIDE_FOLDERS for part in parts.parts[:-1])
    return not (side or stem.startswith(_NOT_SERVED) or stem.endswith("_test"))


def reachable(start: Iterable[str], modules: Mapping[str, Module]) -> tuple[Module, ...]:
    """`start` and all modules that they import, directly or not, sorted by path."""
    seen: dict[str, Module] = {}
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        module = modules.get(name)
        if module is None or name in seen:
            continue
        seen[name] = module
        parents = [name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)]
        packages = (one for one in parents if one in modules and modules[one].path.endswith("/__init__.py"))
        waiting += [*packages, *module.imports]
    return tuple(sorted(seen.values(), key=lambda module: module.path))


def _module_name(path: str, root: str) -> str | None:
    """The dotted name; a server can run in a folder whose name Python cannot import, but not below its parent."""
    inside = path.removeprefix(f"{root}/") if root else path
    parts = inside.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts) if parts[-1].isidentifier() and not any("." in part for part in parts) else None


def _apps(body: list[ast.stmt]) -> Iterator[App]:
    for statement in body:
        for target, value in assigned(statement):
            if isinstance(target, ast.Name) and (kind := _constructed(value)):
                yield App(kind, target.id, factory=False)
        if isinstance(statement, ast.FunctionDef) and statement.name in _FACTORIES and not _required(statement):
            kinds = [kind for node in ast.walk(statement) if (kind := _constructed(node))]
            yield from (App(kind, statement.name, factory=True) for kind in kinds[:1])


def _constructed(node: ast.AST) -> str | None:
    name = last_name(node.func) if isinstance(node, ast.Call) else ""
    return next((kind for kind, row in serving_table().app.items() if row.made_by == name), None)


def _required(function: ast.FunctionDef) -> bool:
    return any(default is None for _, default in parameters(function))


def _loaders(body: list[ast.stmt]) -> Iterator[str]:
    for one in body:
        if isinstance(one, ast.FunctionDef) and one.name in LOADERS and not (_required(one) or _registrars(one)):
            if one.name == "build_model" and not any(name in _LOADING or "load" in name for name in _calls(one)):
                continue  # it makes an untrained network
            results = [node.value for node in _own(one) if isinstance(node, ast.Return) and node.value is not None]
            if any(isinstance(result, ast.Tuple) for result in results):
                continue  # parts of a predictor
            if results or not any(isinstance(node, ast.Assign | ast.Global) for node in ast.walk(one)):
                yield one.name  # else it sets a variable


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions and classes in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, FunctionNode | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def _registrars(function: ast.stmt) -> set[str]:
    """The objects that register a function, such as `app` in `@app.route("/model")`: only their server calls it."""
    marks = function.decorator_list if isinstance(function, FunctionNode) else []
    calls = (one.func for one in marks if isinstance(one, ast.Call) and "staticmethod" not in map(last_name, marks))
    return {dotted(one.value) for one in calls if isinstance(one, ast.Attribute) and one.attr in _REGISTERS}


def _is_bare(function: ast.FunctionDef) -> bool:
    """Whether it returns what a library loads: `return joblib.load(...)`, which takes no requests as a server does."""
    nodes = list(ast.walk(function))
    pairs = (pair for node in nodes for pair in assigned(node))
    made = {target.id for target, value in pairs if isinstance(target, ast.Name) and _is_loading(value)}
    returned = [node.value for node in nodes if isinstance(node, ast.Return) and node.value is not None]
    return any(_is_loading(one) or (isinstance(one, ast.Name) and one.id in made) for one in returned)


def _is_loading(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) in _LOADING


def _loads(body: list[ast.stmt]) -> bool:
    """Whether a statement of the module itself calls a function that loads models, or one of its own that does."""
    own = {one.name: list(_calls(one)) for one in body if isinstance(one, ast.FunctionDef)}
    others = (one for one in body if not isinstance(one, FunctionNode | ast.ClassDef | ast.If))
    calls = [name for one in others for name in _calls(one)]
    return not _LOADING.isdisjoint([*calls, *(inner for name in calls for inner in own.get(name, ()))])


def _calls(node: ast.AST) -> Iterator[str]:
    yield from (last_name(inner.func) for inner in ast.walk(node)
               if isinstance(inner, ast.Call) and dotted(inner.func) not in _SETTINGS)  # fmt: skip
