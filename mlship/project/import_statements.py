"""Imports of a module, and which of them it can do without. Parsed, never run."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from mlship.project.syntax import FunctionNode, dotted, last_name

_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException", ""}
_FORMS = {"fastapi.Form", "fastapi.File", "fastapi.UploadFile"}  # https://fastapi.tiangolo.com/tutorial/request-files/
_ENDS = {"exit", "_exit", "abort"}
_LINUX = {"sys.platform": "linux", "os.name": "posix", "platform.system": "Linux"}

Choices: TypeAlias = tuple[frozenset[str], ...]


@dataclass(frozen=True)
class Imports:
    """Absolute dotted names; `from a import b` counts as both a and a.b.

    Attributes:
        needed: without which the module fails.
        lazy: those of `needed` that only functions import, when they are called.
        relative: of the module's own package.
        choices: for each `try`, the names of its body, then those of each handler; an empty set if a handler goes on
            without them.
    """

    needed: frozenset[str]
    relative: frozenset[str]
    choices: tuple[Choices, ...]
    lazy: frozenset[str] = frozenset()

    @property
    def all(self) -> frozenset[str]:
        return (self.needed | self.relative).union(*(names for choice in self.choices for names in choice))


def read_imports(nodes: Iterable[ast.AST], name: str, *, package: bool) -> Imports:
    """Imports among the nodes of the module `name`; `package`: the file is an `__init__.py`."""
    nodes = tuple(nodes)
    functions = (node for node in nodes if isinstance(node, FunctionNode))
    inside = {inner for function in functions for inner in ast.walk(function)}
    needed: set[str] = set()
    at_once: set[str] = set()
    relative: set[str] = set()
    choices: list[Choices] = []
    for node in nodes:
        if isinstance(node, ast.Try) and _guards(node):
            bodies = [node.body, *(handler.body for handler in node.handlers if _rescues(handler))]
            choices.append(tuple(frozenset(_absolute_names(body)) for body in bodies))
            relative |= {own for body in bodies for found in _statements(body) for own in _own(found, name, package)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            needed |= set(_absolute_names([node]))
            at_once |= set(_absolute_names([node])) if node not in inside else set()
            relative |= set(_own(node, name, package))
    return Imports(frozenset(needed), frozenset(relative), tuple(choices), frozenset(needed - at_once))


def live_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that can run in the image; of a `try` that guards imports, its imports only as one node."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and (taken := _branch(node)) is not None:
            waiting += taken
        elif isinstance(node, ast.Try) and _guards(node):
            inner = (*node.body, *(one for on in node.handlers for one in on.body), *node.orelse, *node.finalbody)
            waiting += (one for one in inner if not isinstance(one, ast.Import | ast.ImportFrom))
        else:
            waiting += ast.iter_child_nodes(node)


def _branch(node: ast.If) -> list[ast.stmt] | None:
    """The statements of an `if` that is decided for Linux and Python 3.11 or newer; None if it is not decided."""
    match node.test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return node.orelse
        case ast.Compare(left=left, ops=[op], comparators=[ast.Tuple() as right]):
            return _by_version(node, op, right) if dotted(left) == "sys.version_info" else None
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[ast.Constant(value=str() as wanted)]):
            system = _LINUX.get(dotted(left.func if isinstance(left, ast.Call) else left))
            return None if system is None else node.body if wanted == system else node.orelse
        case _:
            return None


def _by_version(node: ast.If, op: ast.cmpop, right: ast.Tuple) -> list[ast.stmt] | None:
    numbers = tuple(e.value for e in right.elts if isinstance(e, ast.Constant) and isinstance(e.value, int))
    if numbers[:2] > (3, 11) or len(numbers) != len(right.elts):
        return None
    match op:
        case ast.GtE() | ast.Gt() if numbers[:2] != (3, 11) or isinstance(op, ast.GtE):
            return node.body
        case ast.Lt() | ast.LtE() if numbers[:2] != (3, 11) or isinstance(op, ast.Lt):
            return node.orelse
        case _:
            return None


def _guards(node: ast.Try) -> bool:
    return any(_rescues(handler) for handler in node.handlers) and any(
        isinstance(statement, ast.Import | ast.ImportFrom) for statement in node.body
    )


def _rescues(handler: ast.ExceptHandler) -> bool:
    """Whether the module goes on after a failed import."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = any(kind is None or last_name(kind) in _CAUGHT for kind in kinds)
    last = handler.body[-1]
    exits = isinstance(last, ast.Expr) and isinstance(last.value, ast.Call) and last_name(last.value.func) in _ENDS
    return caught and not (isinstance(last, ast.Raise) or exits)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    for statement in body:
        yield from (node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom))


def _absolute_names(body: Iterable[ast.stmt]) -> Iterator[str]:
    for node in _statements(body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif not node.level:
            yield from (names := [*_from(node.module or "", node)])
            yield from ["python_multipart"] * (not _FORMS.isdisjoint(names))


def _own(node: ast.Import | ast.ImportFrom, name: str, package: bool) -> Iterator[str]:
    """`from ..a import b` in x.y.z means x.a and x.a.b."""
    if isinstance(node, ast.ImportFrom) and node.level:
        parts = name.split(".")
        kept = parts[: max(len(parts) - node.level + package, 0)]
        yield from _from(".".join([*kept, *([node.module] if node.module else [])]), node)


def _from(base: str, node: ast.ImportFrom) -> Iterator[str]:
    yield base
    yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")
