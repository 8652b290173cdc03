"""What code expects of its machine, and an image may lack: files that it can write beside itself, and variables.

In the image, only /tmp is writable. Parsed, never run.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlship.init.handlers import field_alias, is_required
from mlship.init.known import init_table
from mlship.init.load_calls import PathConstants, constant_path
from mlship.init.scripts import is_script_guard
from mlship.project.syntax import constant_text, dotted, keyword_value, last_name

_WRITERS = init_table().writers
_MODE = re.compile(r"[bt+]*[wax][bt+]*([:|]\w*)?")
_TRAINS = ("train", "fit", "save", "export", "build", "main", "download", "convert")
_FOLDERS = ("UPLOAD_FOLDER", "UPLOADED_PHOTOS_DEST", "SQLALCHEMY_DATABASE_URI")
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class WrittenFile:
    """A path below the repository that code writes to, as it is in the code."""

    text: str
    line: int


def find_written_files(nodes: Sequence[ast.AST], constants: PathConstants) -> tuple[WrittenFile, ...]:
    """The constant paths that calls write to, except in functions that train or save models."""
    trains = (one for one in nodes if isinstance(one, ast.FunctionDef) and one.name.startswith(_TRAINS))
    skipped = {id(inner) for one in trains for inner in ast.walk(one)}
    found = ((path, line) for path, line in _paths(nodes) if id(path) not in skipped)
    lines: dict[str, int] = {}
    for path, line in sorted(found, key=lambda pair: pair[1]):
        if text := _relative(constant_path(path, constants)):
            lines.setdefault(text, line)
    return tuple(WrittenFile(text, line) for text, line in lines.items())


def _paths(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.expr, int]]:
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="sqlite3"), attr="connect"), args=[path, *_]):
                yield path, node.lineno
            case ast.Constant(value=str(text)) if text.startswith(_SQLITE):
                yield node, node.lineno
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant(value=key)) | ast.Name(id=key)], value=value) if (
                key in _FOLDERS
            ):
                yield value, node.lineno
            case ast.Call(func=func) if (place := _WRITERS.get(last_name(func))) and (
                last_name(func) != "open" or any(map(_is_mode, (*node.args[:2], keyword_value(node, "mode"))))
            ):
                position, keyword = place
                owner = [func.value] if isinstance(func, ast.Attribute) else []  # such as `Path("x")`
                given = [*owner, *node.args[position : position + 1], keyword_value(node, keyword)]
                yield from ((path, node.lineno) for path in given if path and not _is_mode(path))
            case _:
                pass


def _is_mode(node: ast.expr | None) -> bool:
    return bool(_MODE.fullmatch(constant_text(node) or ""))


def _relative(path: str | None) -> str | None:
    """The path, if it is below the repository."""
    text = (path or "").removeprefix(_SQLITE).removeprefix("@/").removeprefix("./")
    outside = text.startswith(("/", "~", "..", "?/", ":", "$")) or "://" in text
    return None if outside or text in ("", ".") else text


def read_variables(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Environment variables that code reads without a default, and neither sets nor can do without."""
    tried = {id(inner) for node in nodes for part in _tried(node) for inner in ast.walk(part)}
    unneeded = tried | {id(one) for node in nodes for one in _tested(node)}
    of_os = (node.names for node in nodes if isinstance(node, ast.ImportFrom) and node.module == "os")
    bare = {alias.name for names in of_os for alias in names}  # else `environ` is the request in WSGI
    environ = {"os.environ", *(bare & {"environ"})}
    asks = {"os.getenv", *(bare & {"getenv"}), *(f"{one}.{call}" for one in environ for call in ("get", "setdefault"))}
    found, settled = set[str](), set[str]()
    for node in nodes:
        match node:
            case ast.Subscript(value=owner, slice=ast.Constant(value=str(name)), ctx=how) if dotted(owner) in environ:
                (found if isinstance(how, ast.Load) and id(node) not in tried else settled).add(name)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *rest]) if dotted(func) in asks:
                (settled if rest or node.keywords or id(node) in unneeded else found).add(name)
            case ast.Compare(left=ast.Constant(value=str(name)), comparators=[owner]) if dotted(owner) in environ:
                settled.add(name)
            case ast.ClassDef(bases=bases) if "BaseSettings" in map(last_name, bases):
                found |= set(_settings(node))
            case _:
                pass
    return frozenset(found - settled)


def _settings(cls: ast.ClassDef) -> Iterator[str]:
    """The variables of required fields: https://docs.pydantic.dev/latest/concepts/pydantic_settings/."""
    prefix = re.search(r"env_prefix\W{1,3}'(\w+)'", ast.unparse(cls))
    for line in cls.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and is_required(line.value):
            name = line.target.id
            if name[0] != "_" and "ClassVar" not in ast.unparse(line.annotation):
                yield field_alias(line.value) or f"{prefix[1] if prefix else ''}{name}".upper()


def _tried(node: ast.AST) -> Sequence[ast.AST]:
    """What may fail, or does not run in a server."""
    return node.body if isinstance(node, ast.Try) or (isinstance(node, ast.If) and is_script_guard(node)) else []


def _tested(node: ast.AST) -> Sequence[ast.AST]:
    """Where None is as good as any value."""
    match node:
        case ast.Compare(left=left, comparators=others):
            return [left, *others]
        case ast.If(test=ast.BoolOp(values=parts)) | ast.IfExp(test=ast.BoolOp(values=parts)):
            return parts
        case ast.If(test=ast.NamedExpr(value=one) | one) | ast.IfExp(test=one) | ast.UnaryOp(op=ast.Not(), operand=one):
            return [one]
        case _:
            return node.values[:-1] if isinstance(node, ast.BoolOp) else []
