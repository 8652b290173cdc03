"""One fact: its value, or one of three ways of not having one.

In JSON: the plain value; `null` where somebody looked and it is not there; `{"unreadable": "permission denied"}` where
it is there and could not be read; and a key left out where nobody looked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticOmit, core_schema

T = TypeVar("T")


class FactGroup:
    """A group of facts; a key that the schema does not have is an error, since it is most likely a slip."""

    __pydantic_config__ = ConfigDict(extra="forbid")


class Unknown:
    """Nobody looked. There is one of it, UNKNOWN; it has no form in JSON."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unknown)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "UNKNOWN"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        raise PydanticOmit


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Unreadable(FactGroup):
    """It could not be read.

    Attributes:
        unreadable: why, such as "permission denied" or "no answer within 2 s".
        root: root could read it.
    """

    unreadable: str
    root: bool = False


# None is "absent": somebody looked, and it is not there. Unreadable stands first: pydantic then prefers it to a table.
Fact: TypeAlias = Unreadable | Unknown | T | None


def known(fact: Fact[T]) -> T | None:
    """The value; None where it is absent, unreadable or unknown."""
    return None if isinstance(fact, Unreadable | Unknown) else fact


def is_absent(fact: Fact[T]) -> bool:
    """Somebody looked, and it is not there."""
    return fact is None


def is_known(fact: Fact[T]) -> bool:
    """Somebody looked and could read: there is a value, or it is certain that there is none."""
    return not isinstance(fact, Unreadable | Unknown)


def each(fact: Fact[tuple[T, ...]]) -> tuple[T, ...]:
    """The items of a list; none where the list is absent, unreadable or unknown."""
    return known(fact) or ()


def entry(fact: Fact[dict[str, T]], key: str) -> Fact[T]:
    """One entry of a table that was read whole, such as the environment: what is not in it is absent."""
    table = known(fact)
    if isinstance(fact, Unreadable | Unknown):
        return fact
    return None if table is None else table.get(key)


def looked_up(fact: Fact[Mapping[str, Fact[T]]], key: str) -> Fact[T]:
    """One entry of a table that names what was looked for, such as device nodes: what is not in it is unknown."""
    table = known(fact)
    if isinstance(fact, Unreadable | Unknown):
        return fact
    return None if table is None else table.get(key, UNKNOWN)
