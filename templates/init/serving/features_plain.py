"""The values that fields may have, from `features` of `metadata.json`. Null is refused, or replaced as it says there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import Counter

from serving.errors import InvalidRequest
from serving.feature_limits import Limits, Schema, describe, parsed
from serving.settings import Settings, read

METADATA = Path(__file__).resolve().parents[1] / "metadata.json"
_LABELS = ("model_version", "feature", "problem")
_COUNTED = Counter("serving_feature_problems", "Null values, and requests with values out of range.", _LABELS)


class Features:
    """The limits of the fields of a request: `age`, or `rows[2]` for a column of its lists."""

    def __init__(self) -> None:
        self._features = msgspec.convert(json.loads(METADATA.read_bytes())["features"], dict[str, Limits])
        for name, limits in self._features.items():
            (field, column), (flag, flag_column) = parsed(name), parsed(limits.indicator or name)
            if (column is None) != (flag_column is None) or (column is not None and field != flag):
                raise ValueError(f"{METADATA.name}: the indicator of `{name}` must be a field, or a column beside it")

    def admit(self, payload: Any) -> Any:
        """The payload with nulls replaced. Raises InvalidRequest for values out of range, and for other nulls."""
        fields = payload if isinstance(payload, dict) else {"": payload}
        for name, limits in self._features.items():
            field, column = parsed(name)
            fields.setdefault(field, None)
            for place, key, path in _places(fields, field, column, f"$.{field}" if field else "$"):
                value = place[key]
                if value is None and limits.missing is not None:
                    place[key] = float(limits.missing)
                    _count(name, "null")
                elif value is None:
                    raise _refusal(name, "null refused", "expected a number, got null", path)
                elif not _fits(value, limits):
                    bounds = ((">=", limits.low), ("<=", limits.high))
                    texts = [f"{sign} {bound:g}" for sign, bound in bounds if bound is not None]
                    raise _refusal(name, "out of range", f"expected a number {' and '.join(texts)}".rstrip(), path)
                if limits.indicator:
                    flag = parsed(limits.indicator)
                    _set_flag(place, flag[0] if column is None else flag[1], value is None, path)
        return payload

    def describe(self, schema: Schema) -> None:
        """Add the limits to the schema of a request."""
        describe(schema, {parsed(name): limits for name, limits in self._features.items()})


def _places(holder: Any, key: Any, column: int | None, path: str) -> Iterator[tuple[Any, Any, str]]:
    """Where the values of a field or column are: a container, a key, and the path."""
    value = holder[key]
    if isinstance(value, list) and (column is None or (value and isinstance(value[0], list))):
        for number in range(len(value)):
            yield from _places(value, number, column, f"{path}[{number}]")
    elif column is None:
        yield holder, key, path
    elif isinstance(value, list) and column < len(value):
        yield value, column, f"{path}[{column}]"
    else:
        raise InvalidRequest(f"expected a list with at least {column + 1} values", path)


def _fits(value: object, limits: Limits) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (limits.low is None or value >= limits.low) and (limits.high is None or value <= limits.high)


def _set_flag(place: Any, key: Any, null: bool, path: str) -> None:
    """Set the indicator of a value, which the request may say itself."""
    if isinstance(place, dict) is not isinstance(key, str) or (isinstance(place, list) and key >= len(place)):
        raise InvalidRequest("expected one number with an indicator beside it", path)
    said = place.get(key) if isinstance(place, dict) else place[key]
    if null and said not in (None, 1):
        raise InvalidRequest("is null, but its indicator is not 1", path)
    place[key] = int(null) if said is None else said


def _refusal(name: str, problem: str, message: str, path: str) -> InvalidRequest:
    _count(name, problem)
    return InvalidRequest(message, path)


def _count(name: str, problem: str) -> None:
    _COUNTED.labels(read(Settings).model_version, name, problem).inc()
