"""setup.py and setup.cfg. setup.py is parsed, never run: only literals, names of literals and lines of files count."""

import ast
import configparser
from collections import Counter
from collections.abc import Iterator, Mapping
from posixpath import normpath

from mlship.init.declared.requirement_files import logical_lines
from mlship.init.declared.result import Declared, Entry, entries_of, few_notes, not_understood
from mlship.init.tree import Tree
from mlship.project.syntax import CANNOT_PARSE, assigned, last_name, parse_source
from mlship.requirement_line import parse_requirement

_KEYWORDS = ("python_requires", "install_requires", "extras_require")


class _UnknownError(Exception):
    """An expression whose value is known only when it runs."""


def read_setup_py(tree: Tree, path: str) -> Declared | None:
    """Read the arguments of `setup()`; None if the file does not call it."""
    module = parse_source(tree.text(path) or "")
    if module is None:
        return Declared(path, notes=(f"{path}: {CANNOT_PARSE}",))
    calls = [node for node in ast.walk(module) if isinstance(node, ast.Call) and last_name(node.func) == "setup"]
    if not calls:
        return None
    values = _Values(tree, path, module)
    arguments = {keyword.arg: keyword.value for keyword in calls[-1].keywords if keyword.arg}
    python, install, extras = (_value(values, arguments, name, path) for name in _KEYWORDS)
    install = install.splitlines() if isinstance(install, str) else install
    if any(keyword.arg is None for keyword in calls[-1].keywords) and "install_requires" not in arguments:
        values.notes.append(f"{path}: not understood: arguments of `setup()` that are computed")
    return Declared(
        path,
        (*entries_of(install), *_extras(extras)),
        python=python if isinstance(python, str) else None,
        notes=few_notes([*values.notes, *not_understood(install, path)]),
    )


def read_setup_cfg(tree: Tree, path: str) -> Declared | None:
    """Read [options]; None if it has no requirements and no Python version."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(tree.text(path) or "")
        install = parser.get("options", "install_requires", fallback="")
        python = parser.get("options", "python_requires", fallback=None)
        extras = dict(parser.items("options.extras_require")) if parser.has_section("options.extras_require") else {}
    except (configparser.Error, ValueError, AttributeError, KeyError) as error:
        return Declared(path, notes=(f"{path}: not valid: {' '.join(str(error).split())[:120]}",))
    lines = _lines(install)
    entries = (*entries_of(lines), *_extras({name: _lines(text) for name, text in extras.items()}))
    if not entries and python is None and not lines:
        return None
    return Declared(path, entries, python=python, notes=few_notes(not_understood(lines, path)))


def _lines(text: str) -> list[str]:
    return [line for _, line in logical_lines(text or "")]


def _extras(extras: object) -> Iterator[Entry]:
    for group, values in extras.items() if isinstance(extras, dict) else ():
        yield from entries_of(values.splitlines() if isinstance(values, str) else values, str(group))


def _value(values: "_Values", arguments: Mapping[str, ast.expr], name: str, path: str) -> object:
    """The value of an argument; None without one, and if it is computed, with a note."""
    try:
        return values.of(arguments[name]) if name in arguments else None
    except (_UnknownError, RecursionError):
        values.notes.append(f"{path}, line {arguments[name].lineno}: not understood: `{name}` is computed")
        return None


class _Values:
    """Values of expressions without running them."""

    def __init__(self, tree: Tree, path: str, module: ast.Module) -> None:
        self._tree, self._path, self._folder = tree, path, path.rpartition("/")[0]
        self._names: dict[str, ast.expr] = {}
        self._longer: set[str] = set()
        self.notes: list[str] = []
        self._functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
        changes = Counter(name for node in ast.walk(module) for name in self._changed(node))
        self._names = {name: value for name, value in self._names.items() if changes[name] == 1}

    def _changed(self, node: ast.AST) -> Iterator[str]:
        """Names that get another value here. Remembers their values, and names of lists that become longer."""
        match node:
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add()):
                self._longer.add(name)
            case ast.AugAssign(target=target) | ast.For(target=target) | ast.comprehension(target=target):
                yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "extend")):
                self._longer.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="remove" | "insert" | "pop" | "clear")):
                yield from (name, name)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                yield from self._bound(target, value)
            case _:
                yield from (name for target, value in assigned(node) for name in self._bound(target, value))

    def _bound(self, target: ast.expr, value: ast.expr) -> Iterator[str]:
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name))

    def of(self, node: ast.expr) -> object:
        """The value of an expression.

        Raises:
            _UnknownError: it is known only when it runs.
        """
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self._names:
                if name in self._longer:
                    self.notes.append(f"{self._path}: not understood: additions to `{name}`")
                return self.of(self._names[name])
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [item for element in elements for item in self._items(element)]
            case ast.Dict(keys=keys, values=values) if all(keys):
                return {str(self.of(key)): self._or_none(value) for key, value in zip(keys, values, strict=True) if key}
            case ast.Call():
                return self._call(node)
            case _:
                return self._combined(node)

    def _combined(self, node: ast.expr) -> object:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                one, other = self.of(left), self.of(right)
                if isinstance(one, list) and isinstance(other, list):
                    return [*one, *other]
                if isinstance(one, str) and isinstance(other, str):
                    return one + other
                raise _UnknownError
            case ast.Subscript(value=value, slice=key):
                found, name = self.of(value), self.of(key)
                if isinstance(found, dict) and name in found:
                    return found[name]
                raise _UnknownError
            case ast.ListComp(elt=element, generators=[ast.comprehension(target=ast.Name(id=one), iter=items)]):
                return self._lines_of(element, one, items)
            case _:
                raise _UnknownError

    def _items(self, element: ast.expr) -> list[object]:
        value = self.of(element.value) if isinstance(element, ast.Starred) else [self.of(element)]
        if isinstance(value, list):
            return value
        raise _UnknownError

    def _or_none(self, node: ast.expr) -> object:
        """One unknown extra does not hide the others."""
        try:
            return self.of(node)
        except _UnknownError:
            return None

    def _lines_of(self, element: ast.expr, one: str, items: ast.expr) -> object:
        """`[line.strip() for line in open(...)]`: a loop that keeps each line, with or without a filter of comments."""
        used = {node.id for node in ast.walk(element) if isinstance(node, ast.Name)}
        value = self.of(items)
        texts = value.splitlines() if isinstance(value, str) else value if isinstance(value, list) else [value]
        same = isinstance(element, ast.Name) or (isinstance(element, ast.Call) and last_name(element.func) in _SAME)
        if used - {one, "str"} or not (same and all(isinstance(text, str) for text in texts)):
            raise _UnknownError
        return _requirement_lines("\n".join(map(str, texts)))

    def _call(self, node: ast.Call) -> object:
        """Calls that read a requirements file, or change only white space."""
        name = last_name(node.func)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if name in ("open", "read_text", "Path", "joinpath", "join") and (file := self._named_in(node)):
            return _requirement_lines(file)
        if name in ("list", "str") and len(node.args) == 1:
            return self.of(node.args[0])
        if owner is not None and name in _SAME:
            return self.of(owner)
        if isinstance(node.func, ast.Name) and (function := self._functions.get(name)):
            return self._function(node, function)
        raise _UnknownError

    def _function(self, call: ast.Call, function: ast.FunctionDef) -> object:
        """A helper such as `read("requirements.txt")`, if its code opens a file and the text names one that exists."""
        calls = {last_name(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
        named = self._named_in(call) or (self._named_in(function) if not call.args and not call.keywords else None)
        if {"open", "read_text"} & calls and named is not None:
            return _requirement_lines(named)
        raise _UnknownError

    def _named_in(self, node: ast.AST) -> str | None:
        """The text of the only requirements file that the code names."""
        texts = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
        files = sorted(text for text in texts if text.endswith((".txt", ".in")) and "\n" not in text)
        if len(files) != 1:
            return None
        return self._tree.text(normpath(f"{self._folder or '.'}/{files[0]}"))


_SAME = {"read", "readlines", "splitlines", "split", "strip", "rstrip", "lstrip", "decode", "open", "read_text"}


def _requirement_lines(text: str) -> list[str]:
    """The requirements in a file; options and addresses are left to the file itself."""
    lines = [line for _, line in logical_lines(text) if not line.startswith("-")]
    return [line for line in lines if parse_requirement(line)] or lines
