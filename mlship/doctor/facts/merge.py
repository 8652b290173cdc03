"""Merge the facts of several probes; each probe fills its part and leaves the rest unknown."""

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from mlship.doctor.facts.fact import UNKNOWN
from mlship.doctor.facts.facts import Facts

T = TypeVar("T")


def merge(parts: tuple[Facts, ...]) -> Facts:
    """All known facts. If two parts know the same fact, the earlier one wins; tables are merged."""
    whole = Facts()
    for part in parts:
        whole = merged(whole, part)
    return whole


def merged(one: T, other: T) -> T:
    """Two groups of the same kind, field by field."""
    if not is_dataclass(one) or isinstance(one, type):
        return one
    changes: dict[str, object] = {}
    for field in fields(one):
        left: object = getattr(one, field.name)
        right: object = getattr(other, field.name)
        changes[field.name] = _either(left, right)
    return replace(one, **changes)


def _either(left: object, right: object) -> object:
    if left in (UNKNOWN, right):
        return right
    if isinstance(left, dict) and isinstance(right, dict):
        return {**right, **left, **{key: _either(left[key], right[key]) for key in left.keys() & right.keys()}}
    if is_dataclass(left) and type(left) is type(right):
        return merged(left, right)
    return left
