"""Imports, server objects, routes and loaders of Python sources. Parsed, never run."""

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

from mlship.init.cuda_code import CudaUse, find_cuda_use
from mlship.init.handlers import Handler, model_fields, read_handler
from mlship.init.import_statements import Imports, live_nodes, read_imports
from mlship.init.load_calls import LoadedFile, find_loaded_files
from mlship.init.scripts import ScriptStart, script_start

AppKind: TypeAlias = Literal["fastapi", "flask"]

LOADERS = ("load", "load_model", "get_model", "load_predictor", "get_predictor", "make_predictor", "build_model")
_LOADING = {*LOADERS, "from_pretrained", "InferenceSession", "Booster", "load_weights", "load_learner", "pipeline"}
_FACTORIES = ("create_app", "make_app", "get_app", "build_app")
_CONSTRUCTORS: dict[str, AppKind] = {"FastAPI": "fastapi", "Flask": "flask"}
_VERBS = {"get", "post", "put"}
_NOT_SERVED = ("train", "test", "conftest", "setup", "noxfile", "fabfile", "evaluate", "benchmark", "convert", "export")
_SIDE_FOLDERS = {"tests", "test", "docs", "doc", "notebooks", "training", "scripts", "benchmarks", "examples", "tools"}


@dataclass(frozen=True)
class App:
    """A server object, or a factory function for one."""

    kind: AppKind
    name: str
    factory: bool


@dataclass(frozen=True)
class Route:
    """A route that a decorator registers; methods in upper case."""

    path: str
    methods: tuple[str, ...]
    handler: Handler = field(default_factory=Handler)


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted module name, relative to the import root; None if the path is not importable.
        imports: absolute dotted names of all that it may import, its own package's modules too.
        statements: the same, by whether the module can do without them.
        strings: string constants.
        sets_path: it changes sys.path.
        models: required fields of pydantic models, by class.
        loads: it loads a model when it is imported.
        loaded: the files that its calls load.
        start: the server that it starts as a script.
    """

    path: str
    name: str | None
    imports: frozenset[str]
    statements: Imports
    apps: tuple[App, ...]
    routes: tuple[Route, ...]
    loaders: tuple[str, ...]
    strings: frozenset[str]
    cuda: CudaUse
    sets_path: bool = False
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loads: bool = False
    loaded: tuple[LoadedFile, ...] = ()
    start: ScriptStart | None = None


def parse_module(path: str, text: str, root: str = "") -> Module | None:
    """Parse a source file; None if it is not valid Python.

    Args:
        root: import root: "" or "src".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escape sequences
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    name = _module_name(path, root)
    nodes = tuple(live_nodes(tree))
    statements = read_imports(nodes, name or "", package=path.endswith("/__init__.py"))
    return Module(
        path=path,
        name=name,
        imports=statements.all,
        statements=statements,
        apps=tuple(_apps(tree.body)),
        routes=tuple(_routes(nodes)),
        loaders=tuple(_loaders(tree.body)),
        strings=frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)),
        cuda=find_cuda_use(nodes),
        sets_path=any(isinstance(n, ast.Attribute) and (n.attr, _last_name(n.value)) == ("path", "sys") for n in nodes),
        models=model_fields(tree.body),
        loads=_loads(tree.body),
        loaded=tuple(sorted(find_loaded_files(nodes, path), key=lambda file: file.line)),
        start=script_start(tree.body),
    )


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
        waiting += [*parents, *module.imports]
    return tuple(sorted(seen.values(), key=lambda module: module.path))


def _module_name(path: str, root: str) -> str | None:
    inside = path.removeprefix(f"{root}/") if root else path
    parts = inside.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(parts) if all(part.isidentifier() for part in parts) else None


def _apps(body: list[ast.stmt]) -> Iterator[App]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and (kind := _constructed(statement.value)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from (App(kind, target.id, factory=False) for target in targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.FunctionDef) and statement.name in _FACTORIES and not _required(statement):
            kinds = [kind for node in ast.walk(statement) if (kind := _constructed(node))]
            yield from (App(kind, statement.name, factory=True) for kind in kinds[:1])


def _constructed(node: ast.AST | None) -> AppKind | None:
    return _CONSTRUCTORS.get(call_name(node)) if isinstance(node, ast.Call) else None


def call_name(call: ast.Call) -> str:
    """The last name of what is called."""
    return _last_name(call.func)


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _required(function: ast.FunctionDef) -> bool:
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or None in arguments.kw_defaults


def _loaders(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef) and statement.name in LOADERS and not _required(statement):
            nodes = list(ast.walk(statement))
            returns = any(isinstance(node, ast.Return) and node.value is not None for node in nodes)
            if returns or not any(
                isinstance(node, ast.Assign | ast.Global) for node in nodes
            ):  # else it sets a variable
                yield statement.name


def _loads(body: list[ast.stmt]) -> bool:
    """Whether a statement of the module itself calls a function that loads models, or one of its own that does."""
    own = {one.name: list(_calls(one)) for one in body if isinstance(one, ast.FunctionDef)}
    calls = [
        name
        for statement in body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If)
        for name in _calls(statement)
    ]
    return not _LOADING.isdisjoint([*calls, *(inner for name in calls for inner in own.get(name, ()))])


def _calls(node: ast.AST) -> Iterator[str]:
    yield from (_last_name(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call))


def _routes(nodes: tuple[ast.AST, ...]) -> Iterator[Route]:
    prefix = _router_prefix(nodes)
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found = (route for decorator in node.decorator_list if (route := _route(decorator, prefix)))
            yield from (replace(route, handler=read_handler(node, route.path)) for route in found)


def _router_prefix(nodes: tuple[ast.AST, ...]) -> dict[str, str]:
    """Prefixes by router name: `router = APIRouter(prefix="/v1")`."""
    return {
        target.id: prefix
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for keyword in node.value.keywords
        if keyword.arg in ("prefix", "url_prefix") and (prefix := _string(keyword.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _route(decorator: ast.expr, prefixes: Mapping[str, str]) -> Route | None:
    match decorator:
        case ast.Call(func=ast.Attribute(value=owner, attr=verb), args=[first, *_], keywords=keywords):
            path = _string(first)
        case _:
            return None
    if path is None or (verb not in _VERBS and verb not in ("route", "api_route")):
        return None
    named = [_strings(keyword.value) for keyword in keywords if keyword.arg == "methods"]
    methods = (verb.upper(),) if verb in _VERBS else named[0] if named else ("GET",)
    return Route(prefixes.get(_last_name(owner), "") + path, methods)


def _string(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _strings(node: ast.expr) -> tuple[str, ...]:
    elements = node.elts if isinstance(node, ast.List | ast.Tuple | ast.Set) else []
    return tuple(text.upper() for element in elements if (text := _string(element)))
