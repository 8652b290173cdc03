"""One fact: a value, or one of three reasons why there is none.

In JSON: the plain value; `null` for absent (the probe looked and found nothing); `{"unreadable": "permission denied"}`
for present but not readable; no key for unknown (no probe looked).
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Annotated, ClassVar, TypeAlias, TypeVar, dataclass_transform

from pydantic import ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic import Field as Limit
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticOmit, core_schema

T = TypeVar("T")
U = TypeVar("U")
Number: TypeAlias = Annotated[int, Limit(ge=0)]  # of a code, a count, a size: none is negative
DriverVersion: TypeAlias = Annotated[str, Limit(pattern="[0-9]")]


@dataclass_transform(frozen_default=True)
class FactGroup:
    """A frozen dataclass of facts; data/facts.toml describes it. A key that is not in the schema is probably a typo."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    __dataclass_fields__: ClassVar[dict[str, Field[object]]]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True)(cls)


class Unknown:
    """Not examined. Use the single instance UNKNOWN; it has no JSON form."""

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


class Unreadable(FactGroup):
    unreadable: str
    root: bool = False


# None means absent. Unreadable comes first, so that pydantic prefers it to a table.
Fact: TypeAlias = Unreadable | Unknown | T | None


def known(fact: Fact[T]) -> T | None:
    """The value; None if it is absent, unreadable or unknown."""
    return None if isinstance(fact, Unreadable | Unknown) else fact


def mapped(fact: Fact[T], make: Callable[[T], Fact[U]]) -> Fact[U]:
    """What the value means; the reason if there is no value."""
    return fact if fact is None or isinstance(fact, Unreadable | Unknown) else make(fact)


def is_absent(fact: Fact[T]) -> bool:
    """The probe looked and found nothing."""
    return fact is None


def is_known(fact: Fact[T]) -> bool:
    """There is a value, or it is certain that there is none."""
    return not isinstance(fact, Unreadable | Unknown)


def each(fact: Fact[tuple[T, ...]]) -> tuple[T, ...]:
    """The items of a list; empty if the list is absent, unreadable or unknown."""
    return known(fact) or ()


def entry(fact: Fact[dict[str, T]], key: str) -> Fact[T]:
    """An entry of a table that was read completely, such as the environment: a missing entry is absent."""
    table = known(fact)
    if isinstance(fact, Unreadable | Unknown):
        return fact
    return None if table is None else table.get(key)


def looked_up(fact: Fact[Mapping[str, Fact[T]]], key: str) -> Fact[T]:
    """An entry of a table of selected entries, such as device nodes: a missing entry is unknown."""
    table = known(fact)
    if isinstance(fact, Unreadable | Unknown):
        return fact
    return None if table is None else table.get(key, UNKNOWN)
