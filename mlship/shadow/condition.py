"""Conditions such as `agreement >= 0.995 and psi < 0.1`: comparisons of figures and numbers, `and`, `or`, `not`."""

import ast
import math
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
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
        return tuple(FigureCondition(ast.unparse(node), node) for node in _comparisons(self.tree))

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
        _check(tree, names)
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


def _check(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                _check(part, names)
        case ast.UnaryOp(op=ast.Not(), operand=part):
            _check(part, names)
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [left, *others]
            for side in sides:
                _check_side(side, names)
            if wrong := next((op for op in ops if type(op) not in _OPERATORS), None):
                raise _NotConditionError(f"`{type(wrong).__name__}` is not one of <, <=, >, >=")
            if not any(isinstance(side, ast.Name) for side in sides):
                raise _NotConditionError(f"`{ast.unparse(node)}` names no figure")
        case _:
            raise _NotConditionError(f"`{ast.unparse(node)}` is not a comparison")


def _check_side(node: ast.expr, names: Collection[str]) -> None:
    match node:
        case ast.Name(id=name) if name in names:
            return
        case ast.Name(id=name):
            raise _NotConditionError(f"unknown figure `{name}`")
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as constant) | (ast.Constant() as constant):
            if type(constant.value) not in {int, float} or not abs(constant.value) < _LARGEST:  # type: ignore[arg-type]
                raise _NotConditionError(f"`{ast.unparse(node)}` is not a finite number")
        case _:
            raise _NotConditionError(f"`{ast.unparse(node)}` is neither a figure nor a number")


def _comparisons(node: ast.expr) -> Iterator[ast.Compare]:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _comparisons(part)
        case ast.UnaryOp(operand=part):
            yield from _comparisons(part)
        case ast.Compare():
            yield node
        case _:  # the parser refused it
            raise AssertionError(ast.dump(node))


def _value(node: ast.expr, values: Mapping[str, float | None]) -> bool | None:
    """Kleene's logic: unknown, unless the known parts decide."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            decides = isinstance(op, ast.Or)
            found = {_value(part, values) for part in parts}
            return decides if decides in found else None if None in found else not decides
        case ast.UnaryOp(operand=part):
            value = _value(part, values)
            return None if value is None else not value
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [number for side in (left, *others) if (number := _number(side, values)) is not None]
            if len(sides) <= len(others):
                return None
            return all(_OPERATORS[type(op)](*pair) for op, pair in zip(ops, pairwise(sides), strict=True))
        case _:
            raise AssertionError(ast.dump(node))


def _number(node: ast.expr, values: Mapping[str, float | None]) -> float | None:
    if isinstance(node, ast.Name):
        value = values[node.id]
        return None if value is None or math.isnan(value) else value
    number: float = ast.literal_eval(node)
    return number
