"""Parts of the syntax trees of Python sources. Parsed, never run."""

import ast
import sys
import warnings
from collections.abc import Iterator
from typing import TypeAlias

# Why `parse_source` has no tree: the parser knows the syntax of its own Python, not that of later ones.
CANNOT_PARSE = f"Python {sys.version_info.major}.{sys.version_info.minor}, which runs mlship, cannot parse it"
FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def parse_source(source: str | bytes) -> ast.Module | None:
    """The tree of a file; None if the Python that runs mlship cannot parse it."""
    tree = tree_or_problem(source)
    return None if isinstance(tree, str) else tree


def tree_or_problem(source: str | bytes) -> ast.Module | str:
    """The tree of a file, or where and why it cannot be parsed, such as "line 3: invalid syntax"."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as invalid escape sequences
            return ast.parse(source)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        return str(error) or type(error).__name__


def dotted(node: ast.expr) -> str:
    """The dotted name that an expression is; empty for any other."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name):
            return f"{inner}.{name}" if (inner := dotted(owner)) else ""
        case _:
            return ""


def last_name(node: ast.AST | None) -> str:
    """`c` of `a.b.c`, also of `f().c`; empty for an expression that is no name."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def constant_text(node: ast.AST | None) -> str | None:
    """The text of a string constant; None for any other expression."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def keyword_value(call: ast.Call, *names: str) -> ast.expr | None:
    """The argument with one of these names, the first in the call; None without one."""
    return next((one.value for one in call.keywords if one.arg in names), None)


def argument(call: ast.Call, place: int, *names: str) -> ast.expr | None:
    """The argument at a place, or with one of its names; None without it."""
    given = call.args[place] if place < len(call.args) else keyword_value(call, *names)
    return None if isinstance(given, ast.Starred) else given


def parameters(function: FunctionNode | ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    """The parameters that have a name, each with its default, without `*args` and `**kwargs`."""
    given = function if isinstance(function, ast.arguments) else function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(positional) - len(given.defaults)), *given.defaults]
    return [*zip(positional, defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]


def assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Each target of an assignment, with the value."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
