"""A known text, what it means and what mends it. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlship.errors import MlshipError


@dataclass(frozen=True)
class KnownText:
    """A text that is known, what it means, and what mends it; both may name the pattern's groups."""

    pattern: str
    error: type[MlshipError]
    why: str
    hint: str


def explain(text: str, causes: Sequence[KnownText]) -> MlshipError | None:
    """The first cause that fits, as an error; None where none does."""
    for cause in causes:
        if found := re.search(cause.pattern, text, re.MULTILINE):
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return cause.error(cause.why.format(**groups), hint=cause.hint.format(**groups))
    return None


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
