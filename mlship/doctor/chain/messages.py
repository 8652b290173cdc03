"""What a line stands for that a program printed: mlship/data/messages and mlship/data/symptoms.toml. Pure."""

import re
from dataclasses import dataclass, replace
from functools import cache

from mlship.doctor.finding import LAYERS
from mlship.versioned import data_table


@dataclass(frozen=True)
class Message:
    """A row of these tables; mlship/data/symptoms.toml explains the keys."""

    pattern: str
    symptom: str = ""
    say: str = ""


@cache
def rows(kind: str = "messages") -> tuple[tuple[re.Pattern[str], Message], ...]:
    """The rows of a kind, in order, with their patterns, which fit text in any case."""
    names = (*(f"messages/{layer.replace(' ', '-')}" for layer in LAYERS), "symptoms")
    files = (data_table(dict[str, tuple[Message, ...]], name).get(kind, ()) for name in names)
    return tuple((re.compile(f"(?i){row.pattern}"), row) for file in files for row in file)


@cache
def message_of(line: str, kind: str = "messages") -> Message | None:
    """The row that ends last in the line, where programs put the innermost error; of several, the first."""
    if kind == "messages" and message_of(line, "normal"):
        return None
    found = [(match.end(), match, row) for pattern, row in rows(kind) for match in pattern.finditer(line)]
    if not found and kind == "messages":
        return message_of(line, "general")
    _, match, row = max(found, key=lambda one: one[0], default=(0, None, None))
    return replace(row, symptom=row.symptom.format(**match.groupdict())) if row and match else None


def is_error(line: str) -> bool:
    """A line that no row knows reports a failure."""
    for pattern, _ in (*rows("normal"), *rows("harmless")):
        line = pattern.sub("", line)
    return message_of(line, "errors") is not None
