"""A model's output as nested lists, dicts, numbers and text: its numbers, shapes, and distance to another. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import JsonValue

Shape = tuple[int, ...]
_ERRORS = ("error", "errors", "exception", "traceback")
_CODES = ("code", "status", "status_code")  # numbers that no model computes


@dataclass(frozen=True)
class Array:
    """A part of the output with a shape of its own.

    Attributes:
        path: where it is, such as `scores` or `[0].label`; empty for the output as a whole.
        shape: None if rows differ in length.
    """

    path: str
    shape: Shape | None


@dataclass(frozen=True)
class Deviation:
    """How far an output is from the recorded one.

    Attributes:
        numbers: how many were compared; `off` of them lie outside the tolerance.
        difference: absolute, of the worst number, at `path`.
        mismatch: where the structures differ, and how; empty if they do not.
    """

    numbers: int
    off: int
    difference: float
    path: str
    mismatch: str = ""

    @property
    def equal(self) -> bool:
        return not self.mismatch and self.off == 0


def reports_failure(value: JsonValue) -> bool:
    """Whether an answer has no number but codes of status, and says by a field that something failed."""
    fields = {key.lower(): found for key, found in value.items()} if isinstance(value, dict) else {}
    if any(path.lower().rpartition(".")[2] not in _CODES for path, _ in numbers(value)):
        return False
    return fields.get("status") == "error" or fields.get("success") is False or any(map(fields.get, _ERRORS))


def numbers(value: JsonValue, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number with its path. Booleans do not count; an integer too large for a float is infinite."""
    match value:
        case bool() | None | str():
            return
        case int() | float():
            yield path, _float(value)
        case list():
            for index, item in enumerate(value):
                yield from numbers(item, f"{path}[{index}]")
        case dict():
            for key, item in value.items():
                yield from numbers(item, _key(path, key))


def not_finite(value: JsonValue) -> list[tuple[str, float]]:
    """The numbers that are NaN or infinite."""
    return [(path, number) for path, number in numbers(value) if not math.isfinite(number)]


def arrays(value: JsonValue, path: str = "") -> Iterator[Array]:
    """The arrays of an output: the output itself, or each that its dicts hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from arrays(item, _key(path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from arrays(item, f"{path}[{index}]")
    else:
        yield Array(path, shape(value))


def shape(value: JsonValue) -> Shape | None:
    """Shape of nested lists; () for a single number or text; None if rows differ."""
    if not isinstance(value, list):
        return None if isinstance(value, dict) else ()
    inner = {shape(item) for item in value}
    if not inner:
        return (0,)
    (first, *others) = inner
    return None if others or first is None else (len(value), *first)


def fits(found: Shape | None, declared: tuple[int | None, ...]) -> bool:
    """Whether a shape is the declared one; None stands for any size."""
    return (
        found is not None
        and len(found) == len(declared)
        and all(want in (None, size) for size, want in zip(found, declared, strict=True))
    )


def deviation_from(value: JsonValue, golden: JsonValue, rtol: float, atol: float) -> Deviation:
    """Compare with a recorded output: |value - golden| <= atol + rtol * |golden| for each number, all else equal."""
    mismatch = _mismatch(value, golden, "")
    if mismatch:
        return Deviation(0, 0, math.inf, "", mismatch)
    pairs = [(path, a, b) for (path, a), (_, b) in zip(numbers(value), numbers(golden), strict=True)]
    distances = [(_distance(a, b), atol + rtol * abs(b), path) for path, a, b in pairs]
    outside = [(far, path) for far, tolerance, path in distances if far == math.inf or far > tolerance]
    difference, path = max(outside or [(far, path) for far, _, path in distances], default=(0.0, ""))
    return Deviation(len(pairs), len(outside), difference, path)


def _distance(a: float, b: float) -> float:
    """Infinite if only one is NaN or infinite, or both are but differ; never NaN."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) if math.isfinite(a) and math.isfinite(b) else math.inf


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _mismatch(value: JsonValue, golden: JsonValue, path: str) -> str:
    """The first place where the two differ in anything but a number."""
    at = path or "the output"
    if isinstance(value, dict) and isinstance(golden, dict):
        if value.keys() != golden.keys():
            return f"{at} has the keys {_names(value)}, recorded were {_names(golden)}"
        parts = [(_key(path, key), value[key], golden[key]) for key in golden]
    elif isinstance(value, list) and isinstance(golden, list):
        if len(value) != len(golden):
            return f"{at} has {len(value)} entries, recorded were {len(golden)}"
        parts = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(value, golden, strict=True))]
    elif _is_number(value) and _is_number(golden):
        return ""
    else:
        same = type(value) is type(golden) and value == golden
        return "" if same else f"{at} is {short(value)}, recorded was {short(golden)}"
    return next((found for where, a, b in parts if (found := _mismatch(a, b, where))), "")


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _key(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _names(value: dict[str, JsonValue]) -> str:
    return short(", ".join(sorted(value)) or "(none)")


def short(value: object) -> str:
    """A value in at most 60 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
