"""Known messages of engines, installers, frameworks and drivers: the cause and the fix of each.

The rows are in `mlship/data/known_texts.toml`; its header describes them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship import errors
from mlship.versioned import TableRow, table_reader

_LINE, _TEXT = 2_000, 1_000_000  # characters; messages are shorter
TextContext: TypeAlias = Literal[
    "build", "registry", "push", "registry-api", "engine", "start", "gpu-method", "gpu", "lock", "lock-warning",
    "smoke", "smoke-gpu", "kubernetes", "kubernetes-pod", "s3", "dockerfile",
]  # fmt: skip
ErrorName: TypeAlias = Literal[
    "CheckFailed", "UsageError", "EngineError", "BuildError", "TransientError", "MlshipError"
]


class KnownText(TableRow):
    """One row of the table.

    Attributes:
        contexts: where the text is looked for.
        pattern: a regular expression; `^` and `$` match at line ends.
        why: the cause; may name the pattern's groups and values that the caller has, such as {image}.
        hint: the fix, in the same form.
        hints: fixes that differ in one of the contexts.
        source: where the examples come from.
        examples: texts that the pattern matches, and no earlier row of the same context does.
    """

    id: str
    contexts: tuple[TextContext, ...]
    pattern: str
    error: ErrorName | None = None
    why: str = ""
    hint: str = ""
    hints: Mapping[TextContext, str] = {}
    source: str
    examples: tuple[str, ...]


class TextTable(TableRow):
    """The whole file. Texts name the phrases that several rows share as {name}."""

    phrases: Mapping[str, str]
    text: tuple[KnownText, ...]


text_table = table_reader(TextTable, "known_texts")


@dataclass(frozen=True)
class TextMatch:
    """A row, and what its pattern found."""

    row: KnownText
    context: TextContext
    groups: Mapping[str, str]

    def why(self, **values: str) -> str:
        """The cause; `values` are those that the row names beside its groups."""
        return self._filled(self.row.why, values)

    def hint(self, **values: str) -> str:
        """The fix, in this context."""
        return self._filled(self.row.hints.get(self.context, self.row.hint), values)

    def _filled(self, text: str, values: Mapping[str, str]) -> str:
        for name, words in text_table().phrases.items():  # some name values, too
            text = text.replace(f"{{{name}}}", words)
        return text.format(**{**self.groups, **values})

    def as_error(self, **values: str) -> errors.MlshipError:
        """Cause and fix as the row's class of error."""
        kind: type[errors.MlshipError] = getattr(errors, self.row.error or "MlshipError")
        return kind(self.why(**values), hint=self.hint(**values), cause=self.row.id)


def first_match(text: str, context: TextContext) -> TextMatch | None:
    """The first row of the context that matches `text`; None if there is none."""
    text = bounded(text)
    for row in text_table().text:
        if context in row.contexts and (found := re.search(row.pattern, text, re.MULTILINE)):
            groups = {name: value or "" for name, value in found.groupdict().items()}
            return TextMatch(row, context, groups)
    return None


def bounded(text: str) -> str:
    """The last part, without the middle of long lines: some patterns look at a line from each of its characters."""
    half = _LINE // 2
    lines = text[-_TEXT:].split("\n")
    return "\n".join(line if len(line) <= _LINE else f"{line[:half]} {line[-half:]}" for line in lines)


def phrase(name: str) -> str:
    """A phrase that several rows share."""
    return text_table().phrases[name]
