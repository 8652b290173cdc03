"""TOML, YAML and JSON files of a repository as plain values; what is malformed is an error with the reason."""

import json
import re
import tomllib
from contextlib import suppress
from itertools import accumulate

import yaml

from mlship import plain
from mlship.init.tree import Tree

_LIMIT = 10_000_000  # lock files of large projects have several megabytes
_YAML_LIMIT, _DEEPEST = 500_000, 100
_YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError, AttributeError)


class MalformedError(Exception):
    """Why a file of a known name cannot be read, on one line."""


def read_document(tree: Tree, path: str) -> dict[str, object]:
    """The top level of a TOML, YAML or JSON file.

    Raises:
        MalformedError: the file is too large, not valid, or not a table at its top level.
    """
    text = tree.text(path, _LIMIT)
    if text is None:
        raise MalformedError("cannot be read, or is larger than 10 MB")
    document = _parsed(path, text)
    if not isinstance(document, dict):
        raise MalformedError("expected a table at the top level")
    return {str(key): value for key, value in document.items()}


def document_if_any(tree: Tree, path: str) -> dict[str, object]:
    """The same; empty without the file, or if it is malformed."""
    with suppress(MalformedError):
        return read_document(tree, path)
    return {}


def project_names(document: object) -> list[str]:
    """The name of the project in pyproject.toml, which may be there twice."""
    tables = (table_in(document, "project"), table_in(document, "tool", "poetry"))
    return [name for table in tables if (name := text_in(table, "name"))]


def _parsed(path: str, text: str) -> object:
    try:
        if path.endswith((".toml", "uv.lock", "poetry.lock", "pdm.lock", "Pipfile")):
            return tomllib.loads(text)
        if path.endswith("Pipfile.lock"):
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.endswith("Pipfile.lock") else "TOML"
        raise MalformedError(f"not valid {kind}: {_reason(error)}") from error
    if _depth(text) > _DEEPEST or len(text) > _YAML_LIMIT:
        raise MalformedError("nested too deeply, or larger than 500 kB")
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise MalformedError(f"not valid YAML: {line}{error.problem}") from error
    except _YAML_ERRORS as error:
        raise MalformedError(f"not valid YAML: {_reason(error)}") from error


def _depth(text: str) -> int:
    """The deepest nesting of brackets; the parser takes quadratic time for it."""
    depths = accumulate(1 if found[0] in "[{" else -1 for found in re.finditer(r"[][{}]", text))
    return max(depths, default=0)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


table_in = plain.table  # under some keys; empty if there is none


def list_in(value: object, key: str) -> list[object]:
    """The list under a key; empty if there is none."""
    return list(plain.items(value, key))


def text_in(value: object, key: str) -> str | None:
    """The text under a key; YAML reads an unquoted `3.11` as a number."""
    found = plain.at(value, key)
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else None
