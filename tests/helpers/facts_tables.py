"""The tables of docs/doctor-facts.md, from the schema of facts files."""

from collections.abc import Iterator

from mlship.doctor.facts.schema import Json, facts_schema


def markdown_tables() -> str:
    """Markdown with one table per group."""
    schema = facts_schema()
    lines: list[str] = []
    for name, group in (("Facts", schema), *sorted(_tables(schema, "$defs").items())):
        if name != "Unreadable":
            lines += ["", f"### {name}", "", str(group.get("description", ""))]
            lines += ["", "| key | value | |", "| --- | --- | --- |"]
            lines += [_row(key, value) for key, value in _tables(group, "properties").items()]
    return "\n".join(lines).strip() + "\n"


def _row(key: str, value: Json) -> str:
    text = str(value.get("description", "")).replace("|", "\\|")
    return f"| `{key}` | {' or '.join(_types(value))} | {text} |"


def _types(value: Json) -> Iterator[str]:
    """Possible types of the value, without null and unreadable, which are nearly always possible."""
    options = value.get("anyOf")
    for option in options if isinstance(options, list) else [value]:
        kind = _type(option) if isinstance(option, dict) else ""
        if kind and kind not in {"Unreadable", "null"}:
            yield kind


def _type(option: Json) -> str:
    if "$ref" in option:
        return str(option["$ref"]).rpartition("/")[2]
    if "enum" in option:
        choices = option["enum"]
        return ", ".join(f"`{choice}`" for choice in choices) if isinstance(choices, list) else ""
    if "const" in option:
        return f"`{option['const']}`"
    inner = option.get("items") or option.get("additionalProperties")
    if isinstance(inner, dict):
        return f"{'list' if option.get('type') == 'array' else 'table'} of {' or '.join(_types(inner))}"
    return str(option.get("type", ""))


def _tables(schema: Json, key: str) -> dict[str, Json]:
    """The tables under a key, by name: "$defs" has the groups, "properties" the facts of one."""
    found = schema.get(key)
    return {str(k): v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
