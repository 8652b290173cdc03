"""The mutants of `scripts/mutants`: every change of one expression in a pure module, in an order that a seed fixes."""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Modules that compute values and touch neither files nor programs.
PURE = (
    "doctor", "cuda", "init", "lock", "project", "image", "size", "smoke", "report", "build", "driver/answer.py",
    "driver/codes.py", "frameworks.py", "known_texts.py", "redact.py", "units.py", "versioned.py",
)  # fmt: skip
IMPURE = ("/probes/", "/inside/", "lock/compile.py", "lock/trace", "build/run.py", "smoke/run.py")
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """One change to one module.

    Attributes:
        path: relative to the repository, such as "mlship/units.py".
        before: the changed lines, joined to one.
        text: the whole module after the change.
        scope: the lines of the function around the change, or of the module.
    """

    path: str
    line: int
    before: str
    after: str
    text: str
    scope: range

    def diff(self) -> str:
        return f"{self.path}:{self.line}\n- {self.before}\n+ {self.after}"

    def place(self, seed: int, repeat: int) -> str:
        """Sorts mutants; `repeat` separates equal changes of one module."""
        return sha256(repr((seed, self.path, self.before, self.after, repeat)).encode()).hexdigest()


def drawn(seed: int, within: list[str]) -> list[Mutant]:
    """All mutants of the pure modules, in the order of the seed."""
    paths = sorted(path for path in (ROOT / "mlship").rglob("*.py") if _is_pure(path))
    placed: dict[str, Mutant] = {}
    repeats: Counter[tuple[str, str, str]] = Counter()
    for mutant in (mutant for path in paths for mutant in mutants(path)):
        key = mutant.path, mutant.before, mutant.after
        if not within or any(mutant.path.startswith(start) for start in within):
            placed[mutant.place(seed, repeats[key])] = mutant
        repeats[key] += 1
    return [placed[place] for place in sorted(placed)]


def _is_pure(path: Path) -> bool:
    name = path.relative_to(ROOT / "mlship").as_posix()
    pure = f"{name}/".startswith(tuple(f"{start}/" for start in PURE))
    return pure and not any(part in f"/{name}" for part in IMPURE)


def mutants(path: Path) -> Iterator[Mutant]:
    """Every mutant of a module."""
    source = path.read_bytes()
    lines = source.splitlines(keepends=True)
    name = path.relative_to(ROOT).as_posix()
    for node, scope in _code(ast.parse(source), range(1, len(lines) + 1)):
        for target, changed in _changes(node):
            first, last = target.lineno - 1, (target.end_lineno or target.lineno) - 1
            before = b"".join(lines[first : last + 1])
            end = len(before) - len(lines[last]) + (target.end_col_offset or 0)
            after = before[: target.col_offset] + f"({ast.unparse(changed)})".encode() + before[end:]
            text = b"".join((*lines[:first], after, *lines[last + 1 :])).decode()
            yield Mutant(name, target.lineno, _one_line(before), _one_line(after), text, scope)


def _one_line(data: bytes) -> str:
    return " ".join(data.decode().split())


def _code(node: ast.AST, scope: range) -> Iterator[tuple[ast.AST, range]]:
    """The nodes that run as code and can be changed in a way that a test should notice, and the lines around them.

    Annotations, decorators, what only type checkers read and `strict=True` of `zip` have no effect in correct code.
    The parts of f-strings have no position in Python 3.11, and patterns contain no expressions to change.
    """
    yield node, scope
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        within = scope
        if name == "body" and isinstance(node, ast.FunctionDef):
            within = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for child in value if isinstance(value, list) else [value]:
            ignored = isinstance(child, ast.JoinedStr | ast.pattern) or (
                isinstance(child, ast.keyword) and child.arg == "strict"
            )
            if isinstance(child, ast.AST) and not ignored:
                yield from _code(child, within)


def _changes(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Pairs of an expression and what replaces it."""
    if isinstance(node, ast.expr) and (changed := _changed(node)) is not None:
        yield node, changed
    tests = node.ifs if isinstance(node, ast.comprehension) else []
    if isinstance(node, ast.If | ast.While):
        tests = [node.test]
    for test in tests:
        checked_by_types = isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
        if _changed(test) is None and not checked_by_types:
            yield test, ast.UnaryOp(ast.Not(), test)


def _changed(node: ast.expr) -> ast.expr | None:
    changed: ast.expr | None = None
    match node:
        case ast.Compare(left, [operator], values):
            changed = ast.Compare(left, [COMPARISONS[type(operator)]()], values)
        case ast.BoolOp(operator, values):
            changed = ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not(), operand):
            changed = operand
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            changed = ast.BinOp(left, OPERATORS[type(operator)](), right)
        case ast.IfExp(test, body, orelse):
            changed = ast.IfExp(test, orelse, body)
        case ast.Call(ast.Name(name), arguments, keywords) if name in CALLS:
            changed = ast.Call(ast.Name(CALLS[name]), arguments, keywords)
        case ast.Constant(bool(value)):
            changed = ast.Constant(not value)
        case ast.Constant(int(value)):
            changed = ast.Constant(value + 1)
        case _:
            pass
    return changed
