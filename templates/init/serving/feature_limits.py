"""`features` of `metadata.json`: limits of values, and their place in the OpenAPI document."""

from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

import msgspec

Name = tuple[str, int | None]  # an input, and a column of its innermost lists
Schema = dict[str, Any]
_NULL: Schema = {"type": "null"}
Limited = Mapping[int | None, "Limits"]
Columns = Set[int | None]
_SAID: Schema = {"enum": [1, None]}


def parsed(name: str) -> Name:
    """The name of an input, such as `rows[2]`."""
    name, _, column = name.removesuffix("]").partition("[")
    return name, int(column) if column else None


class Limits(msgspec.Struct, forbid_unknown_fields=True, rename={"low": "min", "high": "max"}):
    """Limits of a feature, which are included, and what the model gets for null."""

    low: float | None = None
    high: float | None = None
    missing: float | Literal["nan"] | None = None
    indicator: str | None = None


def describe(schema: Schema, every: Mapping[Name, Limits]) -> None:
    """Add limits to the schema of a request."""
    fields: dict[str, Schema] = schema.get("properties", {})
    flags = {one: parsed(limits.indicator) for one, limits in every.items() if limits.indicator}
    for name in fields:
        places = {column for field, column in (*every, *flags.values()) if field == name}
        own = {column: every.get((name, column), Limits()) for column in places}
        said = {column for field, column in flags.values() if field == name}
        pairs = ((one, flag) for (field, one), (beside, flag) in flags.items() if field == beside == name)
        rules = [(one, flag) for one, flag in pairs if one is not None and flag is not None]
        if own:
            fields[name] = _narrow(fields[name], own, said, rules)
    for (field, column), (flag, _) in flags.items():
        if column is None and {field, flag} <= fields.keys() and _number(fields[field]):
            rule = {"if": {"properties": {field: _NULL}}, "then": {"properties": {flag: _SAID}}}
            schema.setdefault("allOf", []).append(rule)


def _narrow(schema: Schema, own: Limited, said: Columns, rules: Sequence[tuple[int, int]]) -> Schema:
    """The schema of a field with the limits of its numbers (None), and those of columns of its innermost lists."""
    if schema.get("type") != "array":
        return _value(schema, own[None], null="0 or 1" if None in said else None) if None in own else schema
    columns = [column for column in own if column is not None]
    items: Schema = schema.get("items", {})
    if items.get("type") == "array":
        least = max(min(1, len(columns)), schema.get("minItems", 0))
        return {**schema, "minItems": least, "items": _narrow(items, own, said, rules)}
    if None in own:
        schema = {**schema, "items": _narrow(items, {None: own[None]}, said, ())}
    if not columns:
        return schema
    first: list[Schema] = [{}] * (max(columns) + 1)
    for column in columns:
        first[column] = _value(items, own[column], null="0 or 1" if column in said else None)
    conditions = [{"if": _at(column, _NULL), "then": _at(flag, _SAID)} for column, flag in rules]
    least = max(len(first), schema.get("minItems", 0))
    return {**schema, "minItems": least, "allOf": [{"prefixItems": first}, *conditions]}


def _value(schema: Schema, limits: Limits, *, null: object) -> Schema:
    """The schema of a number; `null` is what an indicator gets for null."""
    kind = "integer" if schema.get("type") == "integer" else "number"
    null = null if limits.missing is None else limits.missing
    edges = {name: edge for name, edge in (("minimum", limits.low), ("maximum", limits.high)) if edge is not None}
    if null is None:
        return {"type": kind, **edges}
    return {"type": [kind, "null"], **edges, "description": f"null becomes {null}"}


def _number(schema: Schema) -> bool:
    return schema.get("type") != "array"


def _at(column: int, schema: Schema) -> Schema:
    return {"prefixItems": [{}] * column + [schema]}
