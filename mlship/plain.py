"""Typed access to parsed JSON, YAML or TOML of unknown shape: a value of the expected type, or None."""

import json
from collections.abc import Iterator


def json_of(said: str | bytes) -> object:
    """The value in a text, such as the output of a program; None if it is not JSON."""
    try:
        found: object = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return found


def at(tree: object, *keys: str) -> object:
    """The value at the keys; None if the path does not exist."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def text(tree: object, *keys: str) -> str | None:
    """A non-empty string."""
    found = at(tree, *keys)
    return found if isinstance(found, str) and found else None


def flag(tree: object, *keys: str) -> bool | None:
    found = at(tree, *keys)
    return found if isinstance(found, bool) else None


def number_at(tree: object, *keys: str) -> int | None:
    found = at(tree, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def texts(tree: object, *keys: str) -> tuple[str, ...] | None:
    found = at(tree, *keys)
    return tuple(item for item in found if isinstance(item, str)) if isinstance(found, list) else None


def table(tree: object, *keys: str) -> dict[str, object]:
    found = at(tree, *keys)
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def items(tree: object, *keys: str) -> Iterator[object]:
    """The items of a list of any type."""
    found = at(tree, *keys)
    yield from found if isinstance(found, list) else ()
