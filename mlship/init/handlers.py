"""What the function of a route reads of a request: parsed, never run."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Literal, TypeAlias

from mlship.project.syntax import FunctionNode, assigned, constant_text, keyword_value, last_name, parameters

RequestPart: TypeAlias = Literal["form", "files", "query", "json"]
# https://flask.palletsprojects.com/en/stable/api/#flask.Request and https://fastapi.tiangolo.com/reference/parameters/
_FLASK: dict[str, RequestPart] = {"form": "form", "files": "files", "args": "query", "json": "json", "values": "form"}
_FASTAPI: dict[str, RequestPart] = {
    "Form": "form",
    "File": "files",
    "UploadFile": "files",
    "Query": "query",
    "Body": "json",
}
_PARTS = ("form", "files", "query", "json", "model")
# By FastAPI itself, by a function, or from elsewhere in the request.
_GIVEN = {"Request", "Response", "BackgroundTasks", "Depends", "Security", "Header", "Cookie", "Path"}
_NOT_SENT = ("submit", "button", "reset", "file")  # with the values of a form
_LISTS = {"list", "List", "conlist"}
_LIST = re.compile(r"[Ll]ist[\[(]")  # two in a type: a list of lists
_AROUND = {*_LISTS, "Annotated", "Field", "Optional", "None", "Union", ""}  # the type of a field
_DEEPEST = 5  # models in models
_SCALARS = {"str", "int", "float", "bool"}
_COLLECTIONS = {*_LISTS, "dict", "Dict", "set", "Set", "tuple", "Tuple", "Sequence", "Mapping"}


@dataclass(frozen=True)
class Handler:
    """A route's function.

    Attributes:
        name: of the function.
        form, files, query, json: names of the fields that it reads.
        whole: parts that it reads without naming their fields.
        models: classes that describe the JSON body; example: a request, as JSON, if it is the example of one of them.
        calls: names of the functions and methods that it calls, in lower case.
    """

    name: str = ""
    form: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    json: tuple[str, ...] = ()
    whole: frozenset[RequestPart] = frozenset()
    models: tuple[str, ...] = ()
    example: str = ""
    calls: frozenset[str] = field(default=frozenset(), compare=False)

    def reads(self, part: RequestPart) -> bool:
        of = {"form": self.form, "files": self.files, "query": self.query, "json": self.json}
        return bool(of[part]) or part in self.whole

    def completed(self, models: Mapping[str, "RequestModel"], pages: Iterator[str], path: str) -> "Handler":
        """The handler with the fields and the example of its models, and the fields of the HTML form sent to it."""
        known = [models[name] for name in self.models if name in models]
        json = (*self.json, *(field for model in known for field in model.required))
        if "form" not in self.whole or self.form:
            alone = known and len(self.models) == 1 and not (self.form or self.files or self.query or self.json)
            return replace(self, json=json, example=example_of(self.models[0], models) if alone else "")
        found = next((fields for page in pages if (fields := form_fields(page, self.name, path))), ())
        return replace(self, json=json, form=found)


def read_handler(function: FunctionNode, path: str) -> Handler:
    """What a route's function reads: Flask's `request`, or FastAPI's parameters."""
    pairs = (pair for node in ast.walk(function) for pair in assigned(node))
    aliases = {to.id: part for to, value in pairs if isinstance(to, ast.Name) and (part := _part(value, {}))}
    every = [*(_read(node, aliases) for node in ast.walk(function)), *_parameters(function, path)]
    parts = (tuple(dict.fromkeys(name for of, name in every if name and of == part)) for part in _PARTS)
    whole = frozenset(part for part, name in every if part and not name and part != "model")
    form, files, query, json_, models = parts
    called = frozenset(last_name(node.func).lower() for node in ast.walk(function) if isinstance(node, ast.Call))
    return Handler(function.name, form, files, query, json_, whole, models, calls=called)


@dataclass(frozen=True)
class RequestModel:
    """A pydantic model.

    Attributes:
        required: its fields without a default.
        whole: an example of it with all these; None without one. given: the examples of its fields.
        types: names in the types of the other required fields, by field.
    """

    required: tuple[str, ...]
    whole: object = None
    given: Mapping[str, object] = field(default_factory=dict)
    types: Mapping[str, frozenset[str]] = field(default_factory=dict, compare=False)


def request_models(body: list[ast.stmt]) -> dict[str, RequestModel]:
    """The pydantic models, by class."""
    found = {}
    for cls in body:
        if isinstance(cls, ast.ClassDef) and any(last_name(base) == "BaseModel" for base in cls.bases):
            fields = {field_alias(line.value) or line.target.id: line for line in cls.body
                      if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)}  # fmt: skip
            required = tuple(name for name, line in fields.items() if is_required(line.value))
            given = {name: one for name, line in fields.items() for one in [*_examples(line)][:1]}
            rest = ((name, fields[name].annotation) for name in required if name not in given)
            types = {name: _names(one) for name, one in rest if len(_LIST.findall(ast.unparse(one))) < 2}
            every = (one for line in cls.body if line not in fields.values() for one in _examples(line))
            whole = next((one for one in every if isinstance(one, dict) and {*required} <= {*one}), None)
            found[cls.name] = RequestModel(required, whole, given, types)
    return found


def example_of(name: str, models: Mapping[str, RequestModel]) -> str:
    """A request as JSON that the examples of a model and of those in its fields make up; empty without one."""
    with suppress(TypeError, ValueError, RecursionError):
        return json.dumps(example, allow_nan=False) if (example := _example(name, models)) else ""
    return ""


def _example(name: str, models: Mapping[str, RequestModel], depth: int = 0) -> object:
    model = models[name]
    made = dict(model.given)
    for inner, names in model.types.items() if depth < _DEEPEST else ():
        classes = names & models.keys()
        if len(classes) == 1 and names - classes <= _AROUND and (one := _example(min(classes), models, depth + 1)):
            made[inner] = [one] if names & _LISTS else one
    return model.whole or (made if {*model.required} <= {*made} else None)


def _examples(node: ast.AST) -> Iterator[object]:
    """The literals under `example`, and the first ones of `examples`, in keywords and dictionaries.

    https://fastapi.tiangolo.com/tutorial/schema-extra-example/
    """
    for one in ast.walk(node):
        pairs = [(one.arg, one.value)] if isinstance(one, ast.keyword) else []
        pairs += zip(map(constant_text, one.keys), one.values, strict=True) if isinstance(one, ast.Dict) else []
        for name, value in pairs:
            with suppress(ValueError, TypeError, LookupError, SyntaxError, RecursionError, MemoryError):
                if name in ("example", "examples"):
                    yield ast.literal_eval(value) if name == "example" else ast.literal_eval(value)[0]


def field_alias(default: ast.expr | None) -> str | None:
    """The name of a field in JSON, `Field(..., alias="education-num")`, or of its variable, `Field(env="MODEL")`."""
    if not isinstance(default, ast.Call):
        return None
    texts = (constant_text(keyword_value(default, name)) for name in ("validation_alias", "alias", "env"))
    return next(filter(None, texts), None)


def is_required(default: ast.expr | None) -> bool:
    """Whether a field has no default: `x: int`, `x: int = ...`, `x: int = Field(..., gt=0)` or `Field(gt=0)`."""
    if isinstance(default, ast.Call) and last_name(default.func) in ("Field", "Query", "Input"):
        named = keyword_value(default, "default", "default_factory")
        return named is None and (not default.args or is_required(default.args[0]))
    return default is None or (isinstance(default, ast.Constant) and default.value is ...)


def _part(node: ast.expr, aliases: Mapping[str, RequestPart]) -> RequestPart | None:
    match node:
        case ast.Attribute(value=ast.Name(id="request"), attr=attr) if attr in _FLASK:
            return _FLASK[attr]
        case ast.Call(func=ast.Attribute(value=ast.Name(id="request"), attr="get_json" | "get_data")):
            return "json"
        case ast.Name(id=name):
            return aliases.get(name)
        case ast.Await(value=ast.Call(func=ast.Attribute(value=ast.Name(id="request"), attr="json" | "form" as attr))):
            return _FLASK[attr]
        case _:
            return None


def _read(node: ast.AST, aliases: Mapping[str, RequestPart]) -> tuple[RequestPart | None, str]:
    """The part that an expression reads, and the field; no field for the whole part."""
    match node:
        case ast.Subscript(value=owner, slice=key):
            return _part(owner, aliases), constant_text(key) or ""
        case ast.Call(func=ast.Attribute(value=owner, attr="get" | "getlist"), args=[key, *_]):
            return _part(owner, aliases), constant_text(key) or ""
        case ast.Call(func=ast.Attribute(value=owner, attr="get" | "getlist" | "values" | "items" | "to_dict")):
            return _part(owner, aliases), ""
        case ast.Call(func=ast.Attribute(attr="get_json" | "get_data")) as call:
            return _part(call, aliases), ""
        case _:
            return None, ""


def _parameters(function: FunctionNode, path: str) -> Iterator[tuple[RequestPart | Literal["model"], str]]:
    for one, default in parameters(function):
        names = _names(one.annotation) if one.annotation else frozenset()
        called = last_name(default.func) if isinstance(default, ast.Call) else None
        marked = next((name for name in names if name in _FASTAPI), "") if called is None else called
        optional = marked == "Query" and default is not None and not is_required(default)
        if f"{{{one.arg}}}" in path or one.arg == "self" or names & _GIVEN or optional:
            continue
        if marked in _FASTAPI:
            yield _FASTAPI[marked], one.arg
        elif names & _COLLECTIONS and default is None:
            yield "json", ""  # FastAPI takes it for the body
        elif names & _SCALARS and default is None:
            yield "query", one.arg
        elif isinstance(one.annotation, ast.Name) and one.annotation.id[:1].isupper() and default is None:
            yield "model", one.annotation.id


def _names(annotation: ast.expr) -> frozenset[str]:
    return frozenset(map(last_name, ast.walk(annotation)))


def form_fields(html: str, function: str, path: str) -> tuple[str, ...]:
    """Names of the inputs of the form that a page sends to a route; empty without such a form."""
    page = _Forms()
    page.feed(html)
    for action, fields in page.forms:
        if action.strip() in (path, "") or f"'{function}'" in action or f'"{function}"' in action:
            return tuple(dict.fromkeys(fields))
    return ()


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append((values.get("action", ""), []))
        sent = tag in ("input", "select", "textarea") and values.get("type") not in _NOT_SENT
        if sent and self.forms and values.get("name"):
            self.forms[-1][1].append(values["name"])
