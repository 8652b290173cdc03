"""What `python app.py` starts: the block under `if __name__ == "__main__"`. Parsed, never run."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlship.project.serving_table import serving_table
from mlship.project.syntax import FunctionNode, assigned, dotted, keyword_value, last_name

_LOGGING = {"basicConfig", "dictConfig", "fileConfig", "setLevel", "addHandler"}
_QUIET = {"int", "str", "get", "getenv", "print", "info", "debug", "getLogger", *_LOGGING}
_NEVER = {"ArgumentParser", "parse_args", "parse_known_args", "argv", *_LOGGING}  # nothing for a server to do
_ACTS = {"Global", "from_pretrained", "pipeline", "InferenceSession", "create_all"}


@dataclass(frozen=True)
class ScriptStart:
    """The call that starts a server.

    Attributes:
        runner: the name before `.run`: a server object, or uvicorn.
        calls: calls of the module's own functions, without arguments, whose effect the server needs, as (name, line).
        simple: the block holds nothing else that matters.
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
    own = [one for one in body if isinstance(one, ast.FunctionDef)]
    uses = {one.name: {last_name(node) or type(node).__name__ for node in ast.walk(one)} for one in own}
    never = _NEVER.union(last_name(target) for one in block for target, _ in assigned(one)).difference(apps)
    needed = {one: name for one in rest if (name := _needed(one, uses, {*_ACTS, *apps}, never))}
    others = [one for one in rest if not (one in needed or _is_quiet(one))]
    runner = dotted(found.func).removesuffix(".run")
    on_import = found.lineno if any(one.value is found for one in always) else None
    calls = tuple((name, one.lineno) for one, name in needed.items())
    return ScriptStart(runner, _port(found, runner, [*body, *block]), calls, not others, on_import)


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


def _needed(statement: ast.stmt, uses: Mapping[str, set[str]], acts: set[str], never: set[str]) -> str:
    """The function that it calls without arguments, if that sets what a server uses; empty for others."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    name = dotted(call.func) if isinstance(call, ast.Call) and not (call.args or call.keywords) else ""
    used = {name}.union(*(uses.get(one, ()) for one in (name, *uses.get(name, ()))))
    needed = not used.isdisjoint(acts) or any(one.lstrip("_").startswith("load") for one in used)
    return name if name in uses and needed and used.isdisjoint(never) else ""


def _is_quiet(statement: ast.stmt) -> bool:
    """Whether a server that imports the file can do without the statement."""
    called = [last_name(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    simple = isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign | ast.Expr | ast.Pass)
    return simple and all(name in _QUIET or "logg" in name for name in called)


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
