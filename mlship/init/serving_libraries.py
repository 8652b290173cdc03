"""What else code serves with than FastAPI, Flask and Django, so that no server is reported as absent. Never run."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlship.init.routers import import_aliases
from mlship.project.serving_table import ServingLibrary, serving_table
from mlship.project.syntax import FunctionNode, argument, assigned, dotted, keyword_value, last_name


@dataclass(frozen=True)
class ServingUse:
    """A use of a serving library.

    Attributes:
        name: what the code binds it to: a variable, or a decorated class or function; empty for neither.
        call: the call; None for a decorator without arguments.
    """

    library: ServingLibrary
    line: int
    name: str = ""
    call: ast.Call | None = None


def find_served(nodes: Sequence[ast.AST]) -> tuple[ServingUse, ...]:
    """All uses in a module, by line."""
    found: dict[int, ServingUse] = {}
    for absolute, node, name in absolute_uses(nodes):
        library = serving_table().by_mark.get(absolute)
        if library and (node.lineno not in found or name):
            found[node.lineno] = ServingUse(library, node.lineno, name, node if isinstance(node, ast.Call) else None)
    return tuple(found[line] for line in sorted(found))


def absolute_uses(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, ast.expr, str]]:
    """What code calls or decorates with, by the absolute names of its imports, and the name that it is bound to."""
    imports = (node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    absolute = (node for node in imports if isinstance(node, ast.Import) or not node.level)
    aliases = dict(pair for node in absolute for pair in import_aliases(node, "", package=False))
    for node, name in _named(nodes) if aliases else ():
        first, _, rest = dotted(node.func if isinstance(node, ast.Call) else node).partition(".")
        if first in aliases:
            yield f"{aliases[first]}.{rest}".strip("."), node, name


def _named(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.expr, str]]:
    """Calls and decorators, with the name that they are bound to."""
    for node in nodes:
        if isinstance(node, FunctionNode | ast.ClassDef):
            yield from ((decorator, node.name) for decorator in node.decorator_list)
        elif isinstance(node, ast.Call):
            yield node, ""
        yield from ((value, target.id) for target, value in assigned(node)
                    if isinstance(target, ast.Name) and isinstance(value, ast.Call))  # fmt: skip


@dataclass(frozen=True)
class ServedAddress:
    """What the code says about where and under which path it serves; None if it says nothing.

    Attributes:
        port: 0 if it is not constant, or if no call of `run` was found.
        host: empty if it is not constant.
        paths: each `api_path`; empty for one that is not constant.
    """

    port: int | None = None
    host: str | None = None
    paths: tuple[str, ...] = ()


def read_address(nodes: Sequence[ast.AST], served: Sequence[ServingUse]) -> ServedAddress:
    """The constants in `server.run(port=…)` and `LitServer(…).run(port=…)`, and the paths of the APIs."""
    named = (one.value for one in nodes if isinstance(one, ast.keyword) and one.arg == "api_path")
    bodies = (line for one in nodes if isinstance(one, ast.ClassDef) for line in one.body)
    bound = (value for line in bodies for to, value in assigned(line) if last_name(to) == "api_path")
    paths = tuple(map(_constant, (*named, *bound)))
    names, calls = {one.name for one in served if one.name}, {id(one.call) for one in served if one.call}
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr="run")) if id(owner) in calls or (
                isinstance(owner, ast.Name) and owner.id in names
            ):
                port = _argument(node, "port", 1)
                number = int(port) if port and port.isdecimal() else 0
                return ServedAddress(None if port is None else number, _argument(node, "host", 0), paths)
            case _:
                pass
    return ServedAddress(0, "", paths)


def _argument(call: ast.Call, name: str, place: int) -> str | None:
    """The value of an argument as text: None if the call has none, empty if it is not constant."""
    spread = any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords)
    found = keyword_value(call, name) or (None if spread else argument(call, place))
    return ("" if spread else None) if found is None else _constant(found)


def _constant(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str | int) else ""
