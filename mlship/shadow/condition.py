"""Conditions such as `agreement >= 0.995 and psi < 0.1`: comparisons of figures and numbers, `and`, `or`, `not`."""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

from mlship.errors import UsageError

_LONGEST = 500  # characters
_LARGEST = 1e300  # an int above it has no float
_OPERATORS: Mapping[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


class _NotConditionError(ValueError):
    pass


@dataclass(frozen=True)
class FigureCondition:
    """A parsed condition; every comparison names a figure."""

    text: str
    tree: ast.expr

    @property
    def comparisons(self) -> tuple["FigureCondition", ...]:
        """The comparisons, in order."""
        found = [node for node in ast.walk(self.tree) if isinstance(node, ast.Compare)]
        found.sort(key=lambda node: (node.lineno, node.col_offset))
        return tuple(FigureCondition(ast.unparse(node), node) for node in found)

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that it names."""
        return tuple(dict.fromkeys(node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)))

    def holds(self, values: Mapping[str, float | None]) -> bool | None:
        """Whether it holds; None if that depends on unknown values."""
        return _value(self.tree, values)


def parse_condition(text: str, names: Collection[str]) -> FigureCondition:
    """Parse a condition on these figures.

    Raises:
        UsageError: it is anything else.
    """
    try:
        tree = _parsed(text)
        _value(tree, dict.fromkeys(names))
    except _NotConditionError as error:
        raise UsageError(
            f"`{text[:_LONGEST]}` is not a condition: {error}",
            hint=f"compare {', '.join(names)} with numbers, and join comparisons with `and`, `or`, `not`",
        ) from None
    return FigureCondition(text, tree)


def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise _NotConditionError(f"it is longer than {_LONGEST} characters")
    if "#" in text:
        raise _NotConditionError("it has a comment")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError, Warning) as error:
        raise _NotConditionError(str(error).partition(" (")[0]) from None


def _value(node: ast.expr, values: Mapping[str, float | None]) -> bool | None:
    """Kleene's logic: unknown, unless the known parts decide.

    Raises:
        _NotConditionError: a part is no comparison of these figures.
    """
    match node:
        case ast.BoolOp(op=op, values=parts):
            decides = isinstance(op, ast.Or)
            found = {_value(part, values) for part in parts}
            return decides if decides in found else None if None in found else not decides
        case ast.UnaryOp(op=ast.Not(), operand=part):
            value = _value(part, values)
            return None if value is None else not value
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [left, *others]
            numbers = [number for side in sides if (number := _number(side, values)) is not None]
            if wrong := next((op for op in ops if type(op) not in _OPERATORS), None):
                raise _NotConditionError(f"`{type(wrong).__name__}` is not one of <, <=, >, >=")
            if not any(isinstance(side, ast.Name) for side in sides):
                raise _NotConditionError(f"`{ast.unparse(node)}` names no figure")
            if len(numbers) < len(sides):
                return None
            return all(_OPERATORS[type(op)](*pair) for op, pair in zip(ops, pairwise(numbers), strict=True))
        case _:
            raise _NotConditionError(f"`{ast.unparse(node)}` is not a comparison")


def _number(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    match node:
        case ast.Name(id=name) if name in values:
            value = values[name]
            return None if value is None or math.isnan(value) else value
        case ast.Name(id=name):
            raise _NotConditionError(f"unknown figure `{name}`")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=number)) | ast.Constant(value=number):
            if type(number) not in {int, float} or not abs(number) < _LARGEST:  # type: ignore[arg-type]
                raise _NotConditionError(f"`{ast.unparse(node)}` is not a finite number")
            found: float = ast.literal_eval(node)
            return found
        case _:
            raise _NotConditionError(f"`{ast.unparse(node)}` is neither a figure nor a number")
