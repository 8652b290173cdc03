"""Records of a shadow, as the generated server writes them."""

import json
from collections.abc import Iterator, Mapping

GOOD: Mapping[str, object] = {
    "run": "a",
    "url": "http://candidate:8080",
    "primary_version": "1",
    "primary_bytes": 100_000_000,
    "candidate_version": "2",
    "candidate_bytes": 150_000_000.0,
    "outcome": "agree",
    "difference": 0.001,
    "primary_ms": 2.0,
    "candidate_ms": 2.2,
}


def shadow_line(number: int = 0, **changes: object) -> str:
    """A record, one a minute; a value of None removes the field."""
    score = number % 100 / 100
    usual = {
        "time": 1.8e9 + 60 * number,
        "offered": number + 1,
        "dropped": 0,
        "primary": {"y[0]": score},
        "candidate": {"y[0]": score},
    }
    record = {**GOOD, **usual, **changes}
    return json.dumps({name: value for name, value in record.items() if value is not None})


def shadow_lines(count: int, **changes: object) -> Iterator[bytes]:
    return (f"{shadow_line(number, **changes)}\n".encode() for number in range(count))
