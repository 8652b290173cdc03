"""Routes with their full paths: routers are included under prefixes, often constants of other modules. Never run.

https://fastapi.tiangolo.com/reference/apirouter/ and https://flask.palletsprojects.com/en/stable/blueprints/
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mlship.init.handlers import Handler, read_handler
from mlship.project.syntax import (
    FunctionNode,
    argument,
    assigned,
    constant_text,
    dotted,
    keyword_value,
    last_name,
    parameters,
)

_ROUTERS = {"APIRouter": "prefix", "Blueprint": "url_prefix"}
# The child and its prefix, by keyword.
_INCLUDES = {"include_router": ("router", "prefix"), "register_blueprint": ("blueprint", "url_prefix")}
# Where the function of a route is: its place and its keyword.
_ADDS = {"add_url_rule": (2, "view_func"), "add_api_route": (1, "endpoint"), "add_route": (1, "route")}
_VERBS = {"get", "post", "put"}
DOCS = "/docs"  # FastAPI's own page
_NO_DOCS = {"docs_url", "openapi_url"}
_DEPTH = 8  # of routers in routers, and of constants that name constants


@dataclass(frozen=True)
class Route:
    """A route that a decorator registers; methods in upper case."""

    path: str
    methods: tuple[str, ...]
    handler: Handler = field(default_factory=Handler)


@dataclass(frozen=True)
class _Registered:
    owner: ast.expr
    path: ast.expr
    methods: tuple[str, ...]
    function: FunctionNode
    handler: Handler | None = None


@dataclass(frozen=True)
class _Include:
    """`parent.include_router(child, prefix=prefix)`; `replaces`: Flask ignores the blueprint's own prefix then.

    Attributes:
        mounts: the child is an application.
    """

    parent: ast.expr
    child: ast.expr
    prefix: ast.expr | None
    replaces: bool = False
    mounts: bool = False


@dataclass(frozen=True)
class Routing:
    """What one module says about routes.

    Attributes:
        values: expressions by the dotted local name that they are assigned to.
        aliases: absolute dotted names of imports, by local name.
    """

    name: str = ""
    registered: tuple[_Registered, ...] = ()
    includes: tuple[_Include, ...] = ()
    values: Mapping[str, ast.expr] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


def read_routing(nodes: Iterable[ast.AST], name: str, *, package: bool) -> Routing:
    """Routers, routes, constants and imports of a module; `package`: the file is an `__init__.py`."""
    nodes = tuple(nodes)
    own = {node.name: node for node in nodes if isinstance(node, FunctionNode | ast.ClassDef)}
    registered: list[_Registered] = []
    includes: list[_Include] = []
    values: dict[str, ast.expr] = {}
    aliases: dict[str, str] = {}
    for node in nodes:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found = [read(mark, node) for mark in node.decorator_list for read in (_registered, _bento_api)]
                registered += filter(None, found)
            case ast.ClassDef():
                registered += (found for decorator in node.decorator_list for found in _resource(decorator, node))
                _add(values, ((f"{node.name}.{local}", value) for one in node.body for local, value in _named(one)))
            case ast.Assign() | ast.AnnAssign():
                _add(values, _named(node))
            case ast.Import() | ast.ImportFrom():
                aliases |= dict(import_aliases(node, name, package=package))
            case ast.Call():
                includes += _included(node)
                registered += _added(node, own)
            case _:
                pass
    return Routing(name, tuple(registered), tuple(includes), values, aliases)


def full_routes(routings: Mapping[str, Routing]) -> dict[str, tuple[Route, ...]]:
    """The routes of each module, without those whose path is unknown or whose router no server includes."""
    paths = _Paths(routings)
    return {name: tuple(paths.routes(one)) for name, one in routings.items()}


def _add(values: dict[str, ast.expr], assigned: Iterable[tuple[str, ast.expr]]) -> None:
    """A name with several values has none that is known."""
    for name, value in assigned:
        other = values.get(name)
        values[name] = value if other is None or ast.dump(other) == ast.dump(value) else ast.Constant(None)


def _registered(decorator: ast.expr, function: FunctionNode) -> _Registered | None:
    match decorator:
        case ast.Call(func=ast.Attribute(value=owner, attr=verb)):
            path = argument(decorator, 0, "path", "rule")
            if path is None or (verb not in _VERBS and verb not in ("route", "api_route")):
                return None
            return _Registered(owner, path, (verb.upper(),) if verb in _VERBS else _methods(decorator), function)
        case _:
            return None


def _bento_api(decorator: ast.expr, function: FunctionNode) -> _Registered | None:
    """`@bentoml.api` in a service's class, or `@service.api(...)`: its route is its name, unless it has another.

    https://docs.bentoml.com/en/latest/build-with-bentoml/services.html
    """
    owner = decorator.func if isinstance(decorator, ast.Call) else decorator
    if not isinstance(owner, ast.Attribute) or owner.attr != "api":
        return None
    route = keyword_value(decorator, "route") if isinstance(decorator, ast.Call) else None
    required = [one for one, default in parameters(function)[1:] if default is None]
    fields = tuple(one.arg for one in required if last_name(one.annotation) != "Context")
    body = Handler(function.name, json=fields) if dotted(owner.value) == "bentoml" else None
    return _Registered(owner.value, route or ast.Constant(f"/{function.name}"), ("POST",), function, body)


def _resource(call: ast.expr, made: ast.AST | None) -> Iterator[_Registered]:
    """`@api.route("/x")` on a class, whose methods have the names of the verbs.

    https://flask-restx.readthedocs.io/en/latest/quickstart.html#resourceful-routing
    """
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(made, ast.ClassDef):
        functions = [one for one in made.body if isinstance(one, FunctionNode) and one.name in _VERBS]
        yield from (_Registered(call.func.value, path, (one.name.upper(),), one)
                    for path in call.args[:1] for one in functions)  # fmt: skip


def _added(call: ast.Call, own: Mapping[str, ast.AST]) -> Iterator[_Registered]:
    """`app.add_url_rule("/x", view_func=f)`, `app.add_api_route("/x", f)`, `api.add_resource(Class, "/x")`.

    https://flask-restful.readthedocs.io/en/latest/quickstart.html#endpoints
    """
    match call:
        case ast.Call(func=ast.Attribute(attr="add_resource"), args=[ast.Name(id=name), path, *_]):
            yield from _resource(ast.Call(call.func, [path], []), own.get(name))
        case ast.Call(func=ast.Attribute(value=owner, attr=verb)) if verb in _ADDS:
            at, view = argument(call, 0, "path", "rule"), argument(call, *_ADDS[verb])
            function = own.get(dotted(view)) if view is not None else None
            if at is not None and isinstance(function, FunctionNode):
                yield _Registered(owner, at, _methods(call), function)
        case _:
            pass


def _included(call: ast.Call) -> Iterator[_Include]:
    match call.func:
        case ast.Attribute(value=parent, attr=verb) if verb in _INCLUDES:
            name, at = _INCLUDES[verb]
            child, prefix = argument(call, 0, name), keyword_value(call, at)
            if child is not None:
                yield _Include(parent, child, prefix, verb == "register_blueprint" and prefix is not None)
        case ast.Attribute(value=parent, attr="mount"):
            path, child = argument(call, 0, "path"), argument(call, 1, "app")
            if path is not None and child is not None:
                yield _Include(parent, child, path, mounts=True)
        case _:
            pass


def _named(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    yield from ((name, value) for target, value in assigned(node) if (name := dotted(target)))


def import_aliases(node: ast.Import | ast.ImportFrom, name: str, *, package: bool) -> Iterator[tuple[str, str]]:
    """Absolute dotted names by local name; `name` is that of the importing module."""
    if isinstance(node, ast.Import):
        yield from ((one.asname, one.name) if one.asname else (top := one.name.partition(".")[0], top)
                    for one in node.names)  # fmt: skip
        return
    parts = name.split(".")
    kept = parts[: max(len(parts) - node.level + package, 0)] if node.level else []
    base = ".".join([*kept, *([node.module] if node.module else [])])
    yield from ((one.asname or one.name, f"{base}.{one.name}".lstrip(".")) for one in node.names)


class _Paths:
    """Looks up names and prefixes over all modules."""

    def __init__(self, routings: Mapping[str, Routing]) -> None:
        self._routings = routings
        self._includes = [(module, one) for module in routings.values() for one in module.includes]
        # A variable of a loop, for example, can be any router.
        self._unclear = [(module, one) for module, one in self._includes
                         if not one.mounts and all(place := self._place(one.child, module)) and not self._value(place)
        ]  # fmt: skip

    def routes(self, module: Routing) -> Iterator[Route]:
        for name, value in module.values.items():
            app = isinstance(value, ast.Call) and last_name(value.func) == "FastAPI"
            if isinstance(value, ast.Call) and app and _NO_DOCS.isdisjoint(one.arg for one in value.keywords):
                yield from (Route(f"{prefix}{DOCS}", ("GET",)) for prefix in self._prefixes((module.name, name)))
        for one in module.registered:
            path = self._text(one.path, module)
            for prefix in self._prefixes(self._place(one.owner, module)) if path is not None else ():
                full = f"{prefix}{path}"
                yield Route(full, one.methods, one.handler or read_handler(one.function, full))

    def _prefixes(self, place: tuple[str, str], depth: int = 0) -> list[str]:
        """The prefixes under which a router is served: none if it is not included, or under an unknown one."""
        value = self._value(place)
        kind = last_name(value.func) if isinstance(value, ast.Call) else ""
        own = self._own_prefix(value, place) if kind in _ROUTERS else ""
        direct = [(module, one) for module, one in self._includes if self._place(one.child, module) == place]
        if not direct and kind not in _ROUTERS:
            return [] if kind.lower() == "namespace" else [""]  # Flask-RESTX decides the path of a namespace elsewhere
        found: dict[str | None, None] = {}
        for module, one in (direct or self._unclear) if depth < _DEPTH else ():
            prefix = self._text(one.prefix, module) if one.prefix else ""
            inner = "" if one.replaces else own
            outer = self._prefixes(self._place(one.parent, module), depth + 1)
            known = prefix is not None and inner is not None
            found |= dict.fromkeys(f"{before}{prefix}{inner}" if known else None for before in outer)
        return [prefix for prefix in found if prefix is not None] if direct or len(found) == 1 else []

    def _own_prefix(self, router: ast.expr | None, place: tuple[str, str]) -> str | None:
        if not isinstance(router, ast.Call):
            return ""
        prefix = keyword_value(router, _ROUTERS[last_name(router.func)])
        return "" if prefix is None else self._text(prefix, self._routings[place[0]])

    def _value(self, place: tuple[str, str]) -> ast.expr | None:
        module = self._routings.get(place[0])
        return module.values.get(place[1]) if module else None

    def _place(self, node: ast.expr, module: Routing) -> tuple[str, str]:
        """The module and local name that an expression stands for."""
        return self._find(dotted(node), module, 0)

    def _find(self, local: str, module: Routing, depth: int) -> tuple[str, str]:
        first, _, rest = local.partition(".")
        if local in module.values or first not in module.aliases or depth > _DEPTH:
            return module.name, local
        absolute = f"{module.aliases[first]}.{rest}".rstrip(".")
        parts = absolute.split(".")
        inside = module.name.split(".")
        for above in (inside[:depth] for depth in range(len(inside))):  # the root and folders: one may be on PYTHONPATH
            for length in range(len(parts), 0, -1):
                other = self._routings.get(".".join([*above, *parts[:length]]))
                if other is not None and length < len(parts):
                    return self._find(".".join(parts[length:]), other, depth + 1)
        return "", absolute

    def _text(self, node: ast.expr | None, module: Routing, depth: int = 0) -> str | None:
        """The string that an expression is, if constants determine it."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=parts):
                texts = [self._text(part.value if isinstance(part, ast.FormattedValue) else part, module, depth)
                         for part in parts]  # fmt: skip
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                texts = [self._text(left, module, depth), self._text(right, module, depth)]
            case ast.Name() | ast.Attribute() if depth < _DEPTH:
                return self._constant(dotted(node), module, depth)
            case _:
                return None
        return "".join(text for text in texts if text is not None) if None not in texts else None

    def _constant(self, local: str, module: Routing, depth: int) -> str | None:
        """A constant, or an attribute of an object with defaults in its class: `settings.PREFIX`."""
        place = self._find(local, module, 0)
        other = self._routings.get(place[0])
        if other is None:
            return None
        owner, _, name = place[1].rpartition(".")
        made = other.values.get(owner)
        if place[1] not in other.values and isinstance(made, ast.Call):
            return self._constant(f"{dotted(made.func)}.{name}", other, depth + 1) if depth < _DEPTH else None
        return self._text(other.values.get(place[1]), other, depth + 1)


def _methods(call: ast.Call) -> tuple[str, ...]:
    listed = keyword_value(call, "methods")
    if listed is None:
        return ("GET",)
    elements = listed.elts if isinstance(listed, ast.List | ast.Tuple | ast.Set) else []
    return tuple(text.upper() for one in elements if (text := constant_text(one)) is not None)
