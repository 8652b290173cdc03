"""Typed access to parsed JSON, YAML or TOML of unknown shape: a value of the expected type, or None."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from mlship.doctor.facts.fact import Fact, mapped


def json_of(said: str) -> object:
    """The value that a program printed; None if it is not JSON."""
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


def moment(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_after(booted: Fact[str], seconds: float) -> Fact[str]:
    """The moment this long after another one, such as the boot."""
    return mapped(booted, lambda start: moment(datetime.fromisoformat(start).timestamp() + seconds))


def moment_of(said: str | None) -> str | None:
    """Docker's and Kubernetes' times (nanoseconds, any offset) to the second, UTC; None for year 1, their "never"."""
    if not said or said.startswith("0001-"):
        return None
    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        return None
    return moment(when.timestamp())
