"""The type of a request, as code for the generated server: from the header of a model, or from a sample."""

import ast
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlship.init.found import Detection
from mlship.project.metadata import features_of
from mlship.project.onnx_header import Tensor, read_onnx
from mlship.project.syntax import parse_source
from mlship.render import python_string

_LARGEST_SAMPLE = 8 << 20  # bytes
_ANY = "Any"
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f\ud800-\udfff]')  # in no field of msgspec, whatever its JSON name


@dataclass(frozen=True)
class RequestType:
    """The class `Request` of a generated server.

    Attributes:
        fields: its lines; None if the fields are unknown.
        aliases: types with a name, in the order of their use.
        whole: the type of a request whose fields are unknown.
        origin: what the fields are from, for its docstring.
    """

    fields: tuple[str, ...] | None
    aliases: tuple[tuple[str, str], ...] = ()
    whole: str = f"dict[str, {_ANY}]"
    origin: str = ""

    @property
    def typing(self) -> tuple[str, ...]:
        """What it imports from `typing`."""
        text = " ".join((*(text for _, text in self.aliases), *(self.fields or (self.whole,))))
        return tuple(name for name in ("Annotated", _ANY) if name in text)

    @property
    def sizes(self) -> bool:
        """Whether it limits the length of an axis."""
        return any("size(" in text for _, text in self.aliases)


def request_type(found: Detection, sample: str) -> RequestType:
    """The type of a request to the model that the generated server loads."""
    native, nullable = found.native, _nullable(found.root)
    if native and native.loader == "onnx":
        header = read_onnx(found.root / native.path)
        return _of_tensors(header.inputs, nullable) if header else RequestType(None)
    if native and native.row.inputs == ("instances",):
        shape = _shape_of(json.loads(native.sample)["instances"]) if native.sample else (1, None)
        return _of_tensors([Tensor("instances", "double", (None, *shape[1:]))], nullable)
    return _of_sample(found.root / sample, sample, nullable)


def _nullable(repo: Path) -> frozenset[str]:
    """The inputs that may have null, by metadata.json."""
    features = features_of(repo)
    if not isinstance(features, dict):
        return frozenset()
    names = (name for key, one in features.items() if one.missing is not None for name in (key, one.indicator or key))
    return frozenset(name.partition("[")[0] for name in names)


def _of_tensors(tensors: Iterable[Tensor], nullable: AbstractSet[str]) -> RequestType:
    aliases: list[tuple[str, str]] = []
    fields = {
        tensor.name: _tensor(tensor, aliases, number, " | None" if tensor.name in nullable else "")
        for number, tensor in enumerate(tensors, 1)
    }
    lines = _lines(fields)
    return RequestType(lines, () if lines is None else tuple(aliases))


def _tensor(tensor: Tensor, aliases: list[tuple[str, str]], number: int, null: str) -> str:
    """The type of nested lists. Each axis gets a name, so that lines stay short."""
    kind = tensor.element or ""
    element = {"string": "str", "bool": "bool"}.get(kind, "int" if "int" in kind else "float") + null
    if tensor.shape is None:
        return _ANY
    text = element
    for axis, length in reversed([*enumerate(tensor.shape, 1)]):
        name = f"Input{number}Axis{axis}" if len(tensor.shape) > 1 or number > 1 else "Values"
        size = f"size({length}, {length})" if length else "size(1)"
        aliases.append((name, f"Annotated[list[{text}], {size}]"))
        text = name
    return text


def _shape_of(value: object) -> tuple[int | None, ...]:
    return (len(value), *_shape_of(value[0])) if isinstance(value, list) and value else ()


def _of_sample(path: Path, name: str, nullable: AbstractSet[str]) -> RequestType:
    """Every key of a sample is required, with the kind of JSON that it has there."""
    with suppress(OSError, ValueError, RecursionError):
        if path.stat().st_size <= _LARGEST_SAMPLE:
            sample = json.loads(path.read_bytes())
            if isinstance(sample, dict) and sample:
                fields = {key: _or_null(_kind(value), key in nullable) for key, value in sample.items()}
                return RequestType(_lines(fields), origin=f", as in {name}" if re.fullmatch(r"[\w./ -]+", name) else "")
            return RequestType(None, whole=_kind(sample))
    return RequestType(None, whole=_ANY)


def _or_null(kind: str, nullable: bool) -> str:
    """The type with null, for itself or for the elements of a list."""
    if not nullable or _ANY in kind:
        return kind
    return f"{kind[:-1]} | None]" if kind.startswith("list[") else f"{kind} | None"


def _kind(value: object) -> str:
    match value:
        case bool() | str():
            return type(value).__name__
        case int():
            return "int | float"
        case float():
            return "float"
        case list():
            kinds = {_kind(one) for one in value}
            numbers = kinds and kinds <= {"int | float", "float"}
            return f"list[{kinds.pop() if len(kinds) == 1 else 'int | float' if numbers else _ANY}]"
        case dict():
            return f"dict[str, {_ANY}]"
        case _:
            return _ANY


def _lines(fields: Mapping[str, str]) -> tuple[str, ...] | None:
    """A line for each field; None if a name is possible in JSON only."""
    if any(_UNNAMEABLE.search(name) for name in fields):
        return None
    return tuple(_line(name, fields, number) for number, name in enumerate(fields, 1))


def _line(name: str, fields: Mapping[str, str], number: int) -> str:
    if name.isascii() and name.isidentifier() and not name.startswith("_") and not keyword.iskeyword(name):
        return f"{name}: {fields[name]}"
    while f"input_{number}" in fields:
        number += len(fields)
    return f"input_{number}: {fields[name]} = msgspec.field(name={python_string(name)})"


def rejecting(source: str) -> tuple[str, ...]:
    """The exceptions that the code of a loader raises itself, with which it may refuse a request."""
    tree = parse_source(source)
    raised = (node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)) if tree else ()
    calls = (one.func if isinstance(one, ast.Call) else one for one in raised)
    found = {one.id for one in calls if isinstance(one, ast.Name)}
    return tuple(name for name in ("KeyError", "TypeError", "ValueError") if name in found)
