"""GGUF: all metadata, all tensors, and where the file ends.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
from dataclasses import dataclass, field
from typing import Literal

from mlship.project.structure.cursor import Buffer, Cursor, require
from mlship.project.structure.schemas import structure_table

_TEXT, _ARRAY = 8, 9
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MOST = 2_000_000  # strings and entries
_DIMENSIONS = 4


@dataclass
class _Gguf:
    cursor: Cursor
    narrow: bool
    templates: list[str] = field(default_factory=list)
    alignment: int = 32
    entries: int = 0

    def count(self) -> int:
        self.entries += (found := self.cursor.number("I" if self.narrow else "Q"))
        require(self.entries <= _MOST or not found, "too many entries")
        return found

    def size(self) -> int:
        return self.cursor.number("I" if self.narrow else "Q")

    def metadata(self) -> None:
        key, kind = self.cursor.take(self.size()).decode(), self.cursor.number("I")
        before = self.cursor.at
        texts = self.value(kind)
        if key == "general.alignment":
            self.alignment = int.from_bytes(self.cursor.data[before : self.cursor.at], self._order)
            require(self.alignment > 0 and not self.alignment % 8, "not an alignment")
        if key.startswith("tokenizer.chat_template"):
            self.templates += texts

    @property
    def _order(self) -> Literal["little", "big"]:
        return "big" if self.cursor.order == ">" else "little"

    def value(self, kind: int) -> list[str]:
        """Skip a value; the text if it is one."""
        if kind == _TEXT:
            return [self.cursor.take(self.size()).decode("utf-8", "replace")]
        if kind != _ARRAY:
            self.cursor.skip(_WIDTHS[kind])
            return []
        inner, count = self.cursor.number("I"), self.size()
        if inner in _WIDTHS:
            self.cursor.skip(_WIDTHS[inner] * count)
            return []
        self.entries += count
        require(self.entries <= _MOST and inner == _TEXT, "nested or too many")
        for _ in range(count):
            self.cursor.skip(self.size())
        return []

    def tensor(self) -> tuple[int, int | None]:
        """Offset and size of a tensor; the size is None for a type that is not known."""
        self.cursor.take(self.size()).decode()
        count = self.cursor.number("I")
        require(count <= _DIMENSIONS, "too many dimensions")
        elements = math.prod(self.size() for _ in range(count))
        kind, offset = self.cursor.number("I"), self.cursor.number("Q")
        require(not offset % self.alignment, "not aligned")
        if kind not in structure_table().blocks:
            require(kind < 64, "not a type")
            return offset, None
        block, width = structure_table().blocks[kind]
        require(not elements % block, "not whole blocks")
        return offset, elements // block * width


def gguf(data: Buffer) -> list[str]:
    """The chat templates in a whole file."""
    require(data[:4] == b"GGUF", "no GGUF")
    order = ">" if data[4:6] == b"\x00\x00" else "<"
    cursor = Cursor(data, 4, order)
    version = cursor.number("I")
    require(version in (1, 2, 3), "unknown version")
    file = _Gguf(cursor, version == 1)
    tensors, entries = file.count(), file.count()
    for _ in range(entries):
        file.metadata()
    spans = sorted(((o, -1 if s is None else s) for o, s in (file.tensor() for _ in range(tensors))))
    _check_end(file, spans)
    return file.templates


def _check_end(file: _Gguf, spans: list[tuple[int, int]]) -> None:
    """Tensors follow each other without gaps but the padding, and end the file."""
    last, size_of_file = file.cursor.at, len(file.cursor.data)
    start = end = _padded(last, file.alignment)
    limits = [start + offset for offset, _ in spans[1:]] + [size_of_file]
    for (offset, size), limit in zip(spans, limits, strict=False):
        require(start + offset == end, "a gap between tensors, or two in one place")
        last = limit if size < 0 else start + offset + size
        end = limit if size < 0 else _padded(last, file.alignment)
    require(size_of_file in (last, _padded(last, file.alignment)), "the tensors are not the rest of the file")
    require(not file.cursor.data[last:].strip(b"\x00"), "the padding is not empty")


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
