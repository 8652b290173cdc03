"""The JSON schema of a facts file, and the tables of its page, both from the dataclasses and their docstrings."""

import re
from collections.abc import Iterator

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place

Json = dict[str, object]


class _Quiet(GenerateJsonSchema):
    """The default of nearly everything is "unknown", which has no form in JSON: not worth a warning."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  as the base class declares it
        "skipped-choice",
        "non-serializable-default",
    }


def json_schema() -> Json:
    """The schema, each key described by its line in the docstring of its group."""
    schema: Json = TypeAdapter(Facts).json_schema(schema_generator=_Quiet)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Facts of mlship doctor"
    schema["required"] = ["schema"]
    groups = _groups(schema)
    for name, group in (("Facts", schema), *groups.items()):
        _describe(group, inherited=Place.__doc__ or "" if name in {"Host", "Container"} else "")
    return schema


def tables() -> str:
    """Markdown: one table a group, in the order in which a reader meets them."""
    schema = json_schema()
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
    """What the value can be; null and unreadable are left out, since nearly every one can be that."""
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
    """Move the lines of "Attributes:" to the keys that they describe; a place's keys are described there."""
    head, _, attributes = str(group.get("description", "")).partition("Attributes:")
    group["description"] = " ".join(head.split())
    described = dict((*_attributes(inherited.partition("Attributes:")[2]), *_attributes(attributes)))
    for key, value in _properties(group).items():
        value.pop("title", None)
        if key in described:
            value["description"] = described[key]


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """`name: text`, the text going on over further indented lines; `a, b: text` describes both."""
    for entry in re.split(r"\n(?=\s{0,4}\w[\w, ]*: )", text):
        names, colon, meaning = " ".join(entry.split()).partition(": ")
        if colon:
            yield from ((name.strip(), meaning) for name in names.split(","))
