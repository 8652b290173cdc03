"""JSON paths: the singular queries of RFC 9535, which name one value at most. Pure."""

import re
from collections import deque
from collections.abc import Iterator

from pydantic import JsonValue

_STEP = re.compile(r"""\.([^\W\d][\w-]*)|\[(-?\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")


def parse_path(text: str) -> tuple[str | int, ...]:
    """The steps of a path such as `$.boxes[0]['label name']`.

    Raises:
        ValueError: it is not such a path.
    """
    steps, at = list[str | int](), 1
    while text.startswith("$") and (found := _STEP.match(text, at)):
        name, index, *quoted = found.groups()
        inner = next((part for part in quoted if part is not None), None)
        steps.append(int(index) if index else name or re.sub(r"\\(.)", r"\1", inner or "", flags=re.DOTALL))
        at = found.end()
    if not text.startswith("$") or at < len(text):
        raise ValueError(f"{text!r} is not a JSON path such as $.boxes[0].label or $['two words']")
    return tuple(steps)


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


def json_objects(value: object) -> Iterator[dict[str, object]]:
    """Every object in a JSON value, the outer ones first."""
    waiting = deque([value])
    while waiting:
        node = waiting.popleft()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
