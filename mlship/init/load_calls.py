"""Files that code loads: arguments of calls that read models, with `*` for what is computed. Parsed, never run."""

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from mlship.init.known import init_table
from mlship.project.paths import WORKDIR
from mlship.project.syntax import FunctionNode, argument, assigned, constant_text, keyword_value, last_name, parameters

_PATTERNS, _NAMES = init_table().patterns, init_table().names
_UNKNOWN, _REPO = "?/", "@/"  # begin paths below an unknown folder and below the repository
_IMAGE = f"{WORKDIR}/"  # where images have the repository, mlship's too
_OF_SYSTEM = ("/tmp/", "/dev/", "/proc/", "/etc/", "/usr/", "/sys/")  # noqa: S108  named by code, not opened here
UNNAMED = "?"  # a model of the Hub whose name the code computes, or reads from a setting
_HUB_KEYWORDS = ("model", "repo_id", "pretrained_model_name_or_path", "model_name_or_path")
_CHOICES = 50  # of a loop over a list in the code
_LONGEST = 4096  # characters of a path on Linux

PathConstants: TypeAlias = Mapping[str, str | None]  # with `*` for computed parts
_Several: TypeAlias = Mapping[str, Sequence[ast.expr]]  # values by name


@dataclass(frozen=True)
class LoadedFile:
    """A path or a name on the Hugging Face Hub that a call reads.

    Attributes:
        text: as in the code, without "./"; relative to the working directory, or to an unknown folder. `*` in it
            stands for what the code computes.
        anchored: it is relative to an unknown folder.
        hub: the call may read it from the Hub.
        rooted: it is relative to the repository, wherever the code runs.
    """

    text: str
    line: int
    hub: bool
    anchored: bool
    rooted: bool

    @property
    def is_model(self) -> bool:
        """Whether the name is that of a model file."""
        return bool(_PATTERNS["model_suffix"].search(self.text))

    @property
    def is_data(self) -> bool:
        """Whether the name is that of a file that models may be in, among others."""
        return bool(re.search(r"\.(xml|txt|names|cfg|pbtxt|prototxt|json|ya?ml|csv|gz)$", self.text))

    @property
    def is_hub_name(self) -> bool:
        return self.hub and not self.is_model and bool(_PATTERNS["hub_name"].fullmatch(self.text))


def find_loaded_files(nodes: Sequence[ast.AST], constants: PathConstants) -> tuple[list[LoadedFile], list[LoadedFile]]:
    """The constants that reach calls that load, by line, and models at absolute paths, which an image does not have.

    Placeholders do not count; `constants` are the module's.
    """
    every = sorted(_every_loaded(nodes, constants), key=lambda file: file.line)
    outside = [file for file in every if file.text.startswith("/") and (file.is_model or file.hub)]
    inside = [file for file in every if not file.text.startswith("/")]
    return inside, [file for file in outside if not file.text.startswith(_OF_SYSTEM)]


def _every_loaded(nodes: Sequence[ast.AST], module_wide: PathConstants) -> Iterator[LoadedFile]:
    hidden, bound = _hidden(nodes), defaultdict[str, list[ast.expr]](list)
    for name, value in _bound(nodes):
        bound[name].append(value)
    loops = _loops(nodes, bound)
    for call in nodes:
        name = last_name(call.func) if isinstance(call, ast.Call) else ""
        if not isinstance(call, ast.Call) or not (name in _NAMES["hub"] or _PATTERNS["reads"].search(name)):
            continue
        inner = hidden.get(call, set())
        constants = {**module_wide, **dict.fromkeys(inner)}
        several = {one: values for one, values in bound.items() if one not in inner}
        if name in _NAMES["hub"]:
            yield from _from_hub(call, name, constants)
        elif not _PATTERNS["saves"].search(name) and (name != "open" or _reads(call)):
            used = next((one for one in map(last_name, ast.walk(call)) if one in loops and one not in inner), "")
            turns = [{**constants, used: text} for text in loops.get(used, ())] or [constants]
            every = ((argument, known) for argument in _paths(call, name) for known in turns)
            texts = (text for argument, known in every for text in _choices(argument, known, several))
            files = (_loaded(text, call.lineno) for text in dict.fromkeys(texts) if text)
            yield from (one for one in files if one and _counts(one, name))


def _counts(file: LoadedFile, call: str) -> bool:
    """Whether it may be a model; of a computed name, its end or its folder has to be known."""
    if "*" in file.text:
        return file.is_model or (call != "open" and bool(re.match(r"[^*]+/\*[^.]*$", file.text)) and not file.anchored)
    return "/" in file.text or file.is_model or (call != "open" and file.is_data)


def _choices(node: ast.expr, constants: PathConstants, several: _Several) -> list[str | None]:
    """The path, or each of several that a condition or assignments choose from."""
    match node:
        case ast.IfExp(body=one, orelse=other) | ast.BoolOp(values=[one, other]):
            return [*_choices(one, constants, several), *_choices(other, constants, several)]
        case ast.Attribute(value=ast.Name(id="self"), attr=name) if len(several.get(name, ())) > 1:
            return [path_pattern(value, constants) for value in several[name]]
        case _:
            return [path_pattern(node, constants)]


def _loaded(text: str, line: int, *, hub: bool = False) -> LoadedFile | None:
    text = re.sub(r"^(\*/)+(?!$)", _UNKNOWN, text)
    anchored = text.startswith(_UNKNOWN)
    rooted = text.startswith((_REPO, _IMAGE))
    path = text.removeprefix(_UNKNOWN).removeprefix(_REPO).removeprefix(_IMAGE)
    file = LoadedFile(posixpath.normpath(path), line, hub and not (anchored or rooted), anchored, rooted)
    return None if _PATTERNS["placeholder"].search(path) else file


def _paths(call: ast.Call, name: str) -> list[ast.expr]:
    """Arguments that may be paths; the path itself for `path.open("rb")` and `path.read_bytes()`."""
    if name.endswith("glob"):
        return [call]
    if name.startswith(("open", "read_")) and isinstance(call.func, ast.Attribute) and not call.args[1:]:
        return [call.func.value, *call.args[:1]]
    if name == "load_learner" and call.args[1:]:  # of fastai 1: a folder and a name
        return [*[call] * (not isinstance(getattr(call.args[1], "value", ""), bool)), call.args[0]]
    return [*call.args[:2], *(keyword.value for keyword in call.keywords)]


def _from_hub(call: ast.Call, name: str, constants: PathConstants) -> Iterator[LoadedFile]:
    """The name or folder; `pipeline` has it after the task, which looks like a name."""
    given = [keyword.value for keyword in call.keywords if keyword.arg in _HUB_KEYWORDS]
    places = call.args[1:2] if name == "pipeline" else call.args[:1]
    texts = [constant_path(argument, constants) for argument in (*given, *places)]
    task = argument(call, 0, "task") if name == "pipeline" and not texts else None
    if _PATTERNS["task"].fullmatch(constant_text(task) or ""):
        yield LoadedFile(UNNAMED, call.lineno, hub=True, anchored=True, rooted=False)
    if texts and not any(texts) and keyword_value(call, "local_files_only") is None:
        yield LoadedFile(UNNAMED, call.lineno, hub=True, anchored=name in _NAMES["downloads"], rooted=False)
    for text in texts:
        hub = bool(text) and ("/" in (text or "") or bool(_PATTERNS["hub_class"].search(_owner(call.func))))
        if text and (found := _loaded(text, call.lineno, hub=hub and not text.startswith((".", _REPO)))):
            yield found


def _owner(function: ast.expr) -> str:
    """The class of a constructor or class method."""
    method = isinstance(function, ast.Attribute) and function.attr == "from_pretrained"
    return last_name(function.value if method and isinstance(function, ast.Attribute) else function)


def constant_path(node: ast.expr, constants: PathConstants) -> str | None:
    """A path that consists of constants, below _UNKNOWN if its folder is unknown; None if any other part is unknown."""
    text = path_pattern(node, constants)
    return None if text and "*" in text else text


def path_pattern(node: ast.expr, constants: PathConstants) -> str | None:
    """The same with `*` for each unknown part; None if nothing is known, or if it is too long for a path."""
    with suppress(RecursionError):
        text = _pattern(node, constants)
        return text if len(text or "") <= _LONGEST else None
    return None


def _pattern(node: ast.expr, constants: PathConstants) -> str | None:
    match node:
        case ast.Constant() | ast.Name() | ast.Attribute(value=ast.Name(id="self" | "cls")):
            return constants.get(last_name(node), constant_text(node))
        case ast.BinOp(op=ast.Add()) | ast.JoinedStr():
            pieces = [node.left, node.right] if isinstance(node, ast.BinOp) else node.values
            first, *rest = [path_pattern(part, constants) for part in pieces] or [""]
            below = "".join("*" if text is None else text for text in rest)
            start = first if first is not None else _UNKNOWN[0] if below.startswith("/") else "*"
            return f"{start}{below}" if first is not None or any(rest) else None
        case ast.BinOp(left=template, op=ast.Mod()) | ast.Call(func=ast.Attribute(value=template, attr="format")):
            given = node.args if isinstance(node, ast.Call) else getattr(node.right, "elts", [node.right])
            values = iter([path_pattern(one, constants) or "*" for one in given])
            return (text := path_pattern(template, constants)) and _PATTERNS["field"].sub(
                lambda _: next(values, "*"), text
            )
        case ast.Attribute(value=inner, attr="parent") | ast.Call(func=ast.Attribute(attr="dirname"), args=[inner]):
            child = path_pattern(inner, constants)
            return posixpath.dirname(child) if child else None
        case ast.Subscript(value=ast.Attribute(value=inner, attr="parents"), slice=ast.Constant(value=int() as up)):
            child = path_pattern(inner, constants)
            return posixpath.normpath(posixpath.join(child, *[".."] * (up + 1))) if child else None
        case _:
            parts = [path_pattern(part, constants) for part in _parts(node)]
            return parts[0] if len(parts) == 1 else _joined(parts)


def _parts(node: ast.expr) -> list[ast.expr]:
    """The parts of a path that are joined, or the one path that a call opens or converts."""
    match node:
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return [left, right]
        case ast.Call(func=function, args=[_, *_] as parts) if last_name(function) in _NAMES["joins"]:
            return parts
        case ast.FormattedValue(value=inner):
            return [inner]
        case ast.Call(func=ast.Attribute(value=folder, attr="joinpath" | "glob" | "rglob" as how), args=parts) if (
            last_name(folder) != "glob"
        ):
            return [folder, *[ast.Constant("**")] * (how == "rglob"), *parts]
        case ast.Call(func=of, args=[one, *_]) | ast.Call(func=ast.Attribute(value=one) as of) if (
            last_name(of) in _NAMES["same"]
        ):
            return [one]
        case _:
            return []


def _joined(parts: Sequence[str | None]) -> str | None:
    """Parts of a path; the first may be an unknown folder."""
    first, *rest = parts or (None, None)
    known = ["*" if part is None else part for part in rest]
    return posixpath.join(_UNKNOWN if first is None else first, *known) if first is not None or any(rest) else None


def path_constants(nodes: Sequence[ast.AST], module: str) -> PathConstants:
    """Constant texts by name; None for a name with several."""
    found: dict[str, str | None] = {"__file__": f"{_REPO}{module}"}
    for name, value in sorted(_bound(nodes), key=lambda pair: pair[1].lineno):
        text = path_pattern(value, found)
        found[name] = text if found.get(name, text) == text else None
    return found


def _hidden(nodes: Sequence[ast.AST]) -> Mapping[ast.AST, set[str]]:
    """Parameters without a default, by the calls in their functions: they hide constants of the same name."""
    found: dict[ast.AST, set[str]] = {}
    for function in nodes:
        if isinstance(function, FunctionNode):
            names = {one.arg for one, default in parameters(function) if default is None}
            for call in ast.walk(function):
                found.setdefault(call, set()).update(names)
    return found


def _bound(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, ast.expr]]:
    for node in nodes:
        if isinstance(node, ast.arguments):
            yield from ((one.arg, default) for one, default in parameters(node) if default is not None)
        yield from ((name, value) for target, value in assigned(node) if (name := last_name(target)))


def _loops(nodes: Sequence[ast.AST], bound: Mapping[str, Sequence[ast.expr]]) -> Mapping[str, Sequence[str]]:
    """The texts of names that a loop over a list in the code sets, and nothing else."""
    found = defaultdict[str, set[ast.expr]](set)
    for node in nodes:
        if isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            found[last_name(node.target)].update(bound.get(last_name(node.iter), [node.iter]))
    lists = ((name, values) for name, values in found.items() if len(values) == 1 and name and name not in bound)
    texts = ((name, [*map(constant_text, getattr(one, "elts", ()))]) for name, (one,) in lists)
    return {name: [*filter(None, known)] for name, known in texts if all(known) and 0 < len(known) <= _CHOICES}


def _reads(call: ast.Call) -> bool:
    """Whether `open` gets no mode that writes."""
    modes = [*call.args[0 if isinstance(call.func, ast.Attribute) else 1 :][:1], keyword_value(call, "mode")]
    return not any({*"wax+"} & {*(constant_text(mode) or "")} for mode in modes)
