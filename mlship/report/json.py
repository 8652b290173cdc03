"""Results as JSON: sorted keys, two spaces, the same bytes for the same value."""

import json

from pydantic import TypeAdapter

_CONTROL = {code: f"\\u{code:04x}" for code in range(127, 160)}  # JSON lets them stand; a terminal obeys some


def to_json(value: object) -> str:
    """The JSON text of a result, which is a dataclass or holds some; ends with a newline."""
    plain: object = TypeAdapter(type(value)).dump_python(value, mode="json")
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False).translate(_CONTROL) + "\n"
