"""Read `mlship.yaml`. Every error names the file, the line and the key, and suggests what was probably meant."""

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias, TypeVar, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlship.errors import UsageError
from mlship.files import read_regular
from mlship.project.config import MUSL_REFUSED, AllowedPickle, Config, names_musl
from mlship.project.values import Section

FILE_NAME = "mlship.yaml"
MIRROR_VARIABLE = "MLSHIP_BASE_MIRROR"
WHEEL_INDEX_VARIABLE = "MLSHIP_WHEEL_INDEX"
OPEN_MARK = "FILL IN"  # in comments of mlship.yaml that a person has to complete
_SIZE_LIMIT = 1_000_000
_DEPTH_LIMIT = 20
_TEXT_KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}
_KEY_LIMIT = 10_000  # aliases can make a small file expand without end

KeyPath: TypeAlias = tuple[str | int, ...]
# What the lock does not depend on; it may be locked before these are known.
_UNFINISHED: dict[KeyPath, object] = {
    ("model", "load"): "unfinished:unfinished",
    ("model", "sample"): "unfinished.json",
    ("serve", "command"): ["unfinished"],
    ("source",): ["."],
}
S = TypeVar("S", bound=Section)


def load_config(repo: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """Read `mlship.yaml` of a repository.

    Args:
        environment: MLSHIP_BASE_MIRROR in it overrides `base.mirror`, MLSHIP_WHEEL_INDEX `gpu.wheel_index`.

    Raises:
        UsageError: the file is missing, unreadable or invalid.
    """
    return _with_environment(parse_config(_read(repo / FILE_NAME)), environment)


def load_unfinished(repo: Path, environment: Mapping[str, str] = os.environ) -> tuple[Config, tuple[str, ...]]:
    """Read `mlship.yaml` for the lock, which needs neither loader, sample, server nor code.

    Returns:
        The configuration with placeholders for the keys that are still missing, and the names of these keys.

    Raises:
        UsageError: the file is missing, unreadable or invalid in another way.
    """
    config, missing = _parse(_read(repo / FILE_NAME), _UNFINISHED)
    return _with_environment(config, environment), missing


def _with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    if mirror := environment.get(MIRROR_VARIABLE):
        base = _overridden(config.base, "mirror", MIRROR_VARIABLE, mirror)
        config = config.model_copy(update={"base": base})
    if config.gpu and (index := environment.get(WHEEL_INDEX_VARIABLE)):
        gpu = _overridden(config.gpu, "wheel_index", WHEEL_INDEX_VARIABLE, index)
        config = config.model_copy(update={"gpu": gpu})
    return config


def parse_config(text: str) -> Config:
    """Parse the text of an `mlship.yaml`.

    Raises:
        UsageError: the text is invalid.
    """
    return _parse(text, {})[0]


def _parse(text: str, placeholders: Mapping[KeyPath, object]) -> tuple[Config, tuple[str, ...]]:
    """The configuration, and which of the placeholders it needed."""
    lines: dict[KeyPath, int] = {}
    document = _document(text, lines)
    try:
        return Config.model_validate(document), ()
    except ValidationError as error:
        missing = _fill(document, placeholders)
        with suppress(ValidationError):
            if missing:
                return Config.model_validate(document), missing
        raise _all_errors(error, lines, text) from error


def _fill(document: object, placeholders: Mapping[KeyPath, object]) -> tuple[str, ...]:
    """Add the placeholders of absent keys to a document; returns these keys."""
    filled = []
    for path, value in placeholders.items():
        section = document
        for key in path[:-1]:
            section = section.setdefault(key, {}) if isinstance(section, dict) else None
        if isinstance(section, dict) and path[-1] not in section:
            section[path[-1]] = value
            filled.append(_dotted(path))
    return tuple(filled)


def _read(path: Path) -> str:
    try:
        return read_regular(path, _SIZE_LIMIT)
    except FileNotFoundError as error:
        raise UsageError(
            f"no `{FILE_NAME}` in `{path.parent.resolve()}`",
            hint="run `mlship init` there, or change to your model repository",
        ) from error
    except UnicodeDecodeError as error:
        raise _refuse("is not UTF-8 text") from error
    except OSError as error:
        raise _refuse(f"cannot be read: {error.strerror}") from error


def _refuse(what: str, hint: str = f"fix `{FILE_NAME}`; `mlship schema` prints every key") -> UsageError:
    return UsageError(f"`{FILE_NAME}` {what}", hint=hint)


def _overridden(section: S, key: str, variable: str, value: str) -> S:
    """A section of mlship.yaml with one key set from the environment."""
    try:
        return type(section).model_validate({**section.model_dump(), key: value})
    except ValidationError as error:
        reason = _message(error.errors()[0])
        raise UsageError(f"{variable}: {reason}", hint="set it to a registry or an address, or unset it") from error


def _document(text: str, lines: dict[KeyPath, int]) -> object:
    """Parse YAML and record the line of each key; duplicate keys are refused."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}:" if mark else ""
        raise _refuse(f"is not YAML:{where} {getattr(error, 'problem', None) or error}") from error
    if root is None:
        raise _refuse("is empty", hint="delete it and run `mlship init` to write a new one")
    for path, node in _walk(root, ()):
        if path in lines:
            raise _refuse(f"line {node.start_mark.line + 1}: duplicate key {_dotted(path)}")
        lines[path] = node.start_mark.line + 1
        if len(lines) > _KEY_LIMIT:
            raise _refuse(f"has more than {_KEY_LIMIT} keys, perhaps through nested aliases")
    try:
        value: object = yaml.SafeLoader("").construct_document(root)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as error:
        raise _refuse(f"is not plain YAML: {getattr(error, 'problem', None) or error}") from error
    return value


def _walk(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, yaml.Node]]:
    if len(path) > _DEPTH_LIMIT:
        raise _refuse(f"line {node.start_mark.line + 1}: nested too deeply")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refuse(f"line {key.start_mark.line + 1}: a key must be plain text")
            if key.tag not in _TEXT_KEYS:
                raise _refuse(f"line {key.start_mark.line + 1}: YAML does not read {key.value!r} as text; quote it")
            yield (*path, key.value), key
            yield from _walk(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value
            yield from _walk(value, (*path, index))


def _all_errors(error: ValidationError, lines: Mapping[KeyPath, int], text: str) -> UsageError:
    """All errors at once, in the order of the file."""
    found = sorted(((_line(e["loc"], lines), _dotted(e["loc"]), e) for e in error.errors()), key=lambda f: f[:2])
    rows = [f"{FILE_NAME}, line {line}: {f'{key}: ' if key else ''}{_message(e)}" for line, key, e in found]
    return UsageError("\n".join(rows), hint=_remedy([e for _, _, e in found], text))


def _line(path: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    """The line of a key, or of its nearest parent in the file (a missing key has no line)."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _message(error: ErrorDetails) -> str:
    """A pydantic error in terms of the file, not of Python."""
    kind, given = error["type"], _kind(error["input"])
    if error["loc"][:2] == ("smoke", "env"):
        given = "this value"  # perhaps a credential, and messages end up in logs
    said = {
        "missing": "is missing",
        "tuple_type": f"must be a list, not {given}",
        "model_type": f"must be a mapping, not {given}",
        "dict_type": f"must be a mapping, not {given}",
        "string_type": f"must be text, not {given}; put it in quotes",
    }.get(kind)
    if kind == "extra_forbidden" and names_musl(error["input"]):
        return MUSL_REFUSED
    if kind == "extra_forbidden":
        return f"unknown key{_guess(error['loc'])}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        return f"must be {error['ctx']['expected']}, not {given}"
    return said or f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {given}"


def _kind(value: object) -> str:
    text = repr(value)
    kinds = {type(None): "empty", dict: "a mapping", list: "a list"}
    return kinds.get(type(value), text if len(text) <= 80 else f"{text[:77]}...")


def _guess(path: KeyPath) -> str:
    near = difflib.get_close_matches(str(path[-1]), _known_keys(path[:-1]), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else f"; valid keys here: {', '.join(_known_keys(path[:-1]))}"


def _known_keys(path: KeyPath) -> list[str]:
    fields = Config.model_fields
    for part in path:
        if isinstance(part, int):
            return list(AllowedPickle.model_fields)
        named = fields[part].annotation
        kinds = (named, *get_args(named))  # `Gpu | None` is one too
        section = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
        if section is not None:
            fields = section.model_fields
    return list(fields)


def _remedy(errors: list[ErrorDetails], text: str) -> str:
    missing = [_dotted(e["loc"]) for e in errors if e["type"] == "missing"]
    if left_open := [str(number) for number, line in enumerate(text.splitlines(), 1) if OPEN_MARK in line]:
        where = f"{'lines' if len(left_open) > 1 else 'line'} {', '.join(left_open)}"
        return (
            f"complete what `mlship init` left open ({OPEN_MARK}, {where}), or run `mlship init` again after its steps"
        )
    if missing:
        return f"add {', '.join(missing)}; `mlship schema` prints the values of every key"
    return "fix these keys; `mlship schema` prints every key and its values"
