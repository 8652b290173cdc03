"""JSON paths: the singular queries of RFC 9535, which name one value at most. Pure."""

import re
from collections.abc import Iterator

from pydantic import JsonValue

_STEP = re.compile(r"""\.([^\W\d][\w-]*)|\[(-?\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")


def parse_path(text: str) -> tuple[str | int, ...]:
    """The steps of a path such as `$.boxes[0]['label name']`.

    Raises:
        ValueError: it is not such a path.
    """
    steps = tuple(_steps(text)) if text.startswith("$") else None
    if steps is None or None in steps:
        raise ValueError(f"{text!r} is not a JSON path such as $.boxes[0].label or $['two words']")
    return tuple(step for step in steps if step is not None)


def _steps(text: str) -> Iterator[str | int | None]:
    """Names and indices; None for what is neither."""
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            yield None
            return
        name, index, single, double = found.groups()
        quoted = next((part for part in (single, double) if part is not None), None)
        if quoted is not None:
            yield re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        else:
            yield int(index) if index else name
        at = found.end()


def values_at(value: JsonValue, path: str) -> tuple[JsonValue, ...]:
    """The value at a path in a tuple of one; an empty tuple if there is none."""
    for step in parse_path(path):
        if isinstance(value, dict) and isinstance(step, str):
            inner = [value[step]] if step in value else []
        elif isinstance(value, list) and isinstance(step, int):
            inner = [value[step]] if -len(value) <= step < len(value) else []
        else:
            inner = []
        if not inner:
            return ()
        value = inner[0]
    return (value,)
