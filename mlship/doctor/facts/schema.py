"""The JSON schema of a facts file and the tables of its documentation, generated from the dataclasses."""

import re
from collections.abc import Iterator
from functools import cache

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place

Json = dict[str, object]


class _Quiet(GenerateJsonSchema):
    """Suppress warnings about the default "unknown", which has no JSON form."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  as the base class declares it
        "skipped-choice",
        "non-serializable-default",
    }


@cache
def facts_schema() -> Json:
    """The schema, with descriptions from the docstrings of the groups."""
    schema: Json = TypeAdapter(Facts).json_schema(schema_generator=_Quiet)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Facts of mlship doctor"
    schema["required"] = ["schema"]
    groups = _groups(schema)
    for name, group in (("Facts", schema), *groups.items()):
        _describe(group, inherited=Place.__doc__ or "" if name in {"Host", "Container"} else "")
    return schema


def markdown_tables() -> str:
    """Markdown with one table per group."""
    schema = facts_schema()
    lines: list[str] = []
    for name, group in (("Facts", schema), *sorted(_groups(schema).items())):
        if name != "Unreadable":
            lines += [
                "",
                f"### {name}",
                "",
                str(group.get("description", "")),
                "",
                "| key | value | |",
                "| --- | --- | --- |",
            ]
            lines += [_row(key, value) for key, value in _properties(group).items()]
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


def _groups(schema: Json) -> dict[str, Json]:
    found = schema.get("$defs")
    return {str(k): v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _properties(group: Json) -> dict[str, Json]:
    found = group.get("properties")
    return {str(k): v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _describe(group: Json, *, inherited: str) -> None:
    """Move the lines of "Attributes:" to the keys that they describe."""
    head, _, attributes = str(group.get("description", "")).partition("Attributes:")
    group["description"] = " ".join(head.split())
    described = dict((*_attributes(inherited.partition("Attributes:")[2]), *_attributes(attributes)))
    for key, value in _properties(group).items():
        value.pop("title", None)
        if key in described:
            value["description"] = described[key]


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """Parse `name: text` with indented continuation lines; `a, b: text` describes both."""
    for entry in re.split(r"\n(?=\s{0,4}\w[\w, ]*: )", text):
        names, colon, meaning = " ".join(entry.split()).partition(": ")
        if colon:
            yield from ((name.strip(), meaning) for name in names.split(","))
