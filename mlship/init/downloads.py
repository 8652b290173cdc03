"""Calls that download a model when the server starts, which an image that is tested without a network cannot do."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from mlship.init.serving_libraries import absolute_uses
from mlship.project.syntax import assigned, constant_text, keyword_value
from mlship.versioned import TableRow, data_table

_FILE = re.compile(r"\.(pt|pth|onnx|h5|keras|bin|safetensors|tar|zip)$")


class DownloadRow(TableRow):
    """One row of data/downloads.toml, whose header explains the keys."""

    calls: tuple[str, ...]
    title: str
    unless: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    begins: tuple[str, ...] = ()
    source: str

    def names(self, absolute: str) -> bool:
        """Whether it is one of the calls."""
        return any(fnmatchcase(absolute, call) for call in self.calls)


@dataclass(frozen=True)
class Download:
    """A call that downloads; `what` is its first text, such as a name or an address."""

    title: str
    line: int
    what: str = ""


@cache
def download_rows() -> tuple[DownloadRow, ...]:
    """All rows, in the order of the file."""
    return data_table(dict[str, tuple[DownloadRow, ...]], "downloads")["download"]


def find_downloads(nodes: Sequence[ast.AST]) -> Iterator[Download]:
    """The calls of a module, by line; a local folder instead of an address downloads nothing."""
    found: dict[int, Download] = {}
    values = {target.id: value for node in nodes for target, value in assigned(node) if isinstance(target, ast.Name)}
    for absolute, node, _ in absolute_uses(nodes):
        row = next((one for one in download_rows() if one.names(absolute)), None)
        if row and isinstance(node, ast.Call) and _downloads(node, row, text := _first_text(node, row, values)):
            found[node.lineno] = Download(row.title, node.lineno, text)
    yield from (found[line] for line in sorted(found))


def _downloads(call: ast.Call, row: DownloadRow, text: str) -> bool:
    given = {one.arg: one.value for one in call.keywords}
    off = {name for name, value in given.items() if isinstance(value, ast.Constant) and not value.value}
    local = text.startswith((".", "/")) or ("://" not in text and bool(_FILE.search(text)))
    from_folder = constant_text(given.get("source")) == "local"  # torch.hub.load
    if local or from_folder or not off.isdisjoint(row.unless) or (row.begins and not text.startswith(row.begins)):
        return False
    return not row.without or bool((given.keys() - off) & set(row.without))


def _first_text(call: ast.Call, row: DownloadRow, values: Mapping[str, ast.expr]) -> str:
    """The first argument, or the variable there: its text, or a part with which an address of the row begins."""
    given = next(iter(call.args), keyword_value(call, "model_uri"))
    first = values.get(given.id, given) if isinstance(given, ast.Name) else given
    parts = [text for node in ast.walk(first) if (text := constant_text(node))] if first else []
    return next((text for text in parts if row.begins and text.startswith(row.begins)), constant_text(first) or "")[:80]
