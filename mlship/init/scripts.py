"""What `python app.py` starts: the block under `if __name__ == "__main__"`. Parsed, never run."""

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mlship.project.serving_table import serving_table
from mlship.project.syntax import FunctionNode, assigned, dotted, keyword_value, last_name

_QUIET = {"int", "str", "get", "getenv", "print", "info", "debug", "basicConfig"}


@dataclass(frozen=True)
class ScriptStart:
    """The call that starts a server.

    Attributes:
        runner: the name before `.run`: a server object, or uvicorn.
        calls: other calls of the module's own functions, as (name, line).
        simple: the block holds nothing else, and these calls have no arguments.
        on_import: the line, if it is outside of the block.
    """

    runner: str
    port: int | None
    calls: tuple[tuple[str, int], ...]
    simple: bool
    on_import: int | None = None


def script_start(body: Sequence[ast.stmt], apps: Collection[str]) -> ScriptStart | None:
    """The server that the file starts when it runs as a script; None without one. `apps` are names of its objects."""
    block = [inner for one in body if isinstance(one, ast.If) and is_script_guard(one) for inner in one.body]
    always = [one for one in body if isinstance(one, ast.Expr)]
    owners = {f"{one}.run" for one in (*apps, "uvicorn")}
    found = next((call for one in (*block, *always) for call in _runs(one, owners)), None)
    if found is None:
        return _from_functions(body, block, owners)
    rest = [one for one in block if not any(call is found for call in ast.walk(one))]
    own = {statement.name for statement in body if isinstance(statement, ast.FunctionDef)}
    every = (node for one in rest for node in ast.walk(one) if isinstance(node, ast.Call))
    calls = [(dotted(call.func), call.lineno) for call in every if dotted(call.func) in own]
    others = [one for one in rest if not (_is_own_call(one, own) or _is_quiet(one))]
    runner = dotted(found.func).removesuffix(".run")
    on_import = found.lineno if any(one.value is found for one in always) else None
    return ScriptStart(runner, _port(found, runner, [*body, *block]), tuple(calls), not others, on_import)


def _from_functions(body: Sequence[ast.stmt], block: Sequence[ast.stmt], owners: set[str]) -> ScriptStart | None:
    """The only server that the functions of the file start, if the block calls one of them: `main()`."""
    functions = [one for one in body if isinstance(one, FunctionNode | ast.ClassDef)]
    names = {one.name for one in functions}
    called = {last_name(node.func) for one in block for node in ast.walk(one) if isinstance(node, ast.Call)}
    calls = [call for one in functions for call in _runs(one, owners)] if names & called else []
    if len(calls) != 1:
        return None
    runner = dotted(calls[0].func).removesuffix(".run")
    inner = [node for one in functions for node in ast.walk(one) if isinstance(node, ast.stmt)]
    return ScriptStart(runner, _port(calls[0], runner, [*body, *inner]), (), simple=False)


def is_script_guard(statement: ast.If) -> bool:
    """Whether it is `if __name__ == "__main__":`."""
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))


def _runs(statement: ast.stmt, owners: Collection[str]) -> Iterator[ast.Call]:
    yield from (one for one in ast.walk(statement) if isinstance(one, ast.Call) and dotted(one.func) in owners)


def _is_own_call(statement: ast.stmt, own: set[str]) -> bool:
    """Whether it calls a function of the module without arguments."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and dotted(call.func) in own and not (call.args or call.keywords)


def _is_quiet(statement: ast.stmt) -> bool:
    """Whether a server that imports the file can do without the statement."""
    calls = (node.func for node in ast.walk(statement) if isinstance(node, ast.Call))
    simple = isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr | ast.Pass)
    return simple and all(last_name(call) in _QUIET for call in calls)


def _port(call: ast.Call, runner: str, body: Sequence[ast.stmt]) -> int | None:
    """The port; for `int(os.environ.get("PORT", 8000))` its default."""
    given = keyword_value(call, "port")
    if given is None:
        return serving_table().server["uvicorn" if runner == "uvicorn" else "flask"].port
    if isinstance(given, ast.Name):
        bound = [value for one in body for target, value in assigned(one) if last_name(target) == given.id]
        given = bound[-1] if bound else given
    texts = [str(node.value) for node in ast.walk(given) if isinstance(node, ast.Constant)]
    return next((int(text) for text in texts if text.isdecimal() and int(text) < 65536), None)
