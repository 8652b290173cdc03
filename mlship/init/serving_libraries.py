"""What else code serves with than FastAPI, Flask and Django, so that no server is reported as absent. Never run."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeGuard

from mlship.init.routers import dotted, import_aliases
from mlship.versioned import TableRow, data_table


class ServingLibrary(TableRow):
    """One row of data/serving.toml, whose header explains the keys."""

    title: str
    marks: tuple[str, ...]
    kind: Literal["http", "other"]
    source: str


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


@cache
def serving_libraries() -> Mapping[str, ServingLibrary]:
    """The rows by their marks."""
    rows = data_table(dict[str, tuple[ServingLibrary, ...]], "serving")["library"]
    return {mark: row for row in rows for mark in row.marks}


def find_served(nodes: Sequence[ast.AST]) -> tuple[ServingUse, ...]:
    """All uses in a module, by line."""
    found: dict[int, ServingUse] = {}
    for absolute, node, name in absolute_uses(nodes):
        library = serving_libraries().get(absolute)
        if library and (node.lineno not in found or name):
            found[node.lineno] = ServingUse(library, node.lineno, name, node if isinstance(node, ast.Call) else None)
    return tuple(found[line] for line in sorted(found))


def _is_absolute(node: ast.AST) -> TypeGuard[ast.Import | ast.ImportFrom]:
    return isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)


def absolute_uses(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, ast.expr, str]]:
    """What code calls or decorates with, by the absolute names of its imports, and the name that it is bound to."""
    aliases = dict(pair for node in nodes if _is_absolute(node) for pair in import_aliases(node, "", package=False))
    for node, name in _named(nodes) if aliases else ():
        first, _, rest = dotted(node.func if isinstance(node, ast.Call) else node).partition(".")
        if first in aliases:
            yield f"{aliases[first]}.{rest}".strip("."), node, name


def _named(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.expr, str]]:
    """Calls and decorators, with the name that they are bound to."""
    for node in nodes:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from ((decorator, node.name) for decorator in node.decorator_list)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call):
                yield call, name
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call() as call):
                yield call, name
            case ast.Call():
                yield node, ""
            case _:
                pass


def run_port(nodes: Sequence[ast.AST], served: Sequence[ServingUse]) -> int | None:
    """The port in `server.run(port=…)` of a served object: None if the call has no port, 0 if its value is unknown."""
    names = {one.name for one in served if one.name}
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr="run"), keywords=given) if owner in names:
                value = next((one.value for one in given if one.arg == "port"), None)
                if value is not None:
                    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, int) else 0
            case _:
                pass
    return None
