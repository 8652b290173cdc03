"""What could not be read, and why: said in every report, since nothing can be concluded from it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from mlship.doctor.facts.fact import Unreadable
from mlship.doctor.facts.facts import Facts


@dataclass(frozen=True)
class Limit:
    """A fact that could not be read; `root` says that root could."""

    fact: str
    why: str
    root: bool


def limits(facts: Facts) -> tuple[Limit, ...]:
    """Every fact that is there and could not be read, by its path."""
    return tuple(_walk(facts, ""))


def _walk(value: object, path: str) -> Iterator[Limit]:
    if isinstance(value, Unreadable):
        yield Limit(path, value.unreadable, value.root)
    elif is_dataclass(value):
        for field in fields(value):
            inside: object = getattr(value, field.name)
            yield from _walk(inside, f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _walk(item, f"{path}.{number}")
