"""Frozen values as JSON and back, and from mlship's tables. Pydantic validates; its adapters are made on first use."""

import json
import tomllib
from collections.abc import Callable
from functools import cache, partial
from math import isfinite
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from mlship.errors import UsageError
from mlship.redact import redact
from mlship.resources import read_package_file

T = TypeVar("T")
_CONTROL = {code: f"\\u{code:04x}" for code in range(127, 160)}  # valid in JSON, but terminals obey some of them
_adapters: dict[object, TypeAdapter[object]] = {}


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """The adapter of a type; expensive to create, so it is kept."""
    if kind not in _adapters:
        _adapters[kind] = cast("TypeAdapter[object]", TypeAdapter(kind))
    return cast("TypeAdapter[T]", _adapters[kind])


class TableRow(BaseModel):
    """A row of a table of mlship: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def data_table(kind: type[T], name: str) -> T:
    """A file of mlship/data, by its name without the suffix. Callers keep the value."""
    return adapter(kind).validate_python(tomllib.loads(read_package_file(f"data/{name}.toml")))


def table_reader(kind: type[T], name: str) -> Callable[[], T]:
    """A function that reads a file of mlship/data when it is first called."""
    return cache(partial(data_table, kind, name))


def parse_line(line: str | bytes, kind: type[T]) -> T | None:
    """A line of JSON that a program printed; None for any other text."""
    try:
        return adapter(kind).validate_python(json.loads(line))
    except (ValueError, RecursionError):  # pydantic's errors are ValueErrors
        return None


def dump(value: object) -> str:
    """JSON with an indent of two spaces; the same value gives the same bytes."""
    return adapter(type(value)).dump_json(value, indent=2).decode()


def to_json(value: object) -> str:
    """A result for machines, without credentials: sorted keys, two spaces, a final newline; always the same bytes."""
    plain = _redacted(adapter(type(value)).dump_python(value, mode="json"))
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False).translate(_CONTROL) + "\n"


def _redacted(plain: object) -> object:
    """The same with the credentials in its texts hidden; in JSON, hiding could remove the end of an escape."""
    if isinstance(plain, str):
        return redact(plain)
    if isinstance(plain, float):
        return plain if isfinite(plain) else None
    if isinstance(plain, dict):
        return {key: _redacted(value) for key, value in plain.items()}
    return [_redacted(value) for value in plain] if isinstance(plain, list) else plain


def first_error(error: ValidationError) -> str:
    """The first error of a validation, with its key."""
    first = error.errors()[0]
    where, why = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
    return f"{where}: {why}" if where else why


def parse_versioned(text: str | bytes, kind: type[T], schema: int, what: str, hint: str) -> T:
    """Read a value from JSON that records the version of its format as `schema`.

    Args:
        what: what the text is not, if it is invalid: "`a.json` is not a host file".

    Raises:
        UsageError: the JSON is invalid, or has another schema version.
    """
    found = parse_line(text, dict[str, object])
    version = found.get("schema", schema) if found else schema
    if version != schema:
        newer = isinstance(version, int) and version > schema
        raise UsageError(
            f"{what}: unsupported schema {version} (expected {schema})", hint="update mlship" if newer else hint
        )
    try:
        return adapter(kind).validate_json(text)
    except ValidationError as error:
        raise UsageError(f"{what}: {first_error(error)}", hint=hint) from error
