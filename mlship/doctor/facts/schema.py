"""The JSON schema of a facts file, from the dataclasses and data/facts.toml."""

from functools import cache

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from mlship.doctor.facts.facts import Facts
from mlship.versioned import data_table

Json = dict[str, object]


class _Quiet(GenerateJsonSchema):
    """Suppress warnings about the default "unknown", which has no JSON form."""

    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012  as the base class declares it
        "skipped-choice",
        "non-serializable-default",
    }


@cache
def facts_schema() -> Json:
    """The schema, with descriptions."""
    schema: Json = TypeAdapter(Facts).json_schema(schema_generator=_Quiet)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Facts of mlship doctor"
    schema["required"] = ["schema"]
    groups = _tables(schema, "$defs")
    texts = data_table(dict[str, dict[str, str]], "facts")
    for name, group in (("Facts", schema), *groups.items()):
        inherited = texts["Place"] if name in {"Host", "Container"} else {}
        _describe(group, {**inherited, **texts.get(name, {})})
    return schema


def _tables(schema: Json, key: str) -> dict[str, Json]:
    """The tables under a key, by name: "$defs" has the groups, "properties" the facts of one."""
    found = schema.get(key)
    return {str(k): v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}


def _describe(group: Json, texts: dict[str, str]) -> None:
    group["description"] = texts["about"]
    for key, value in _tables(group, "properties").items():
        value.pop("title", None)
        if key in texts:
            value["description"] = texts[key]
