"""FlatBuffers, verified by a schema: TensorFlow Lite and CatBoost.

https://flatbuffers.dev/internals/. Every table, vector and string that the schema names lies inside the file.
"""

import struct
from collections.abc import Mapping

from mlship.project.structure.cursor import Buffer, Cursor, require
from mlship.project.structure.schemas import structure_table

_MOST = 500_000  # tables and strings


class _Verifier:
    def __init__(self, data: Buffer, start: int, size: int, schema: Mapping[str, tuple[str, ...]]) -> None:
        self.data = data
        self.start, self.stop = start, start + size
        self.schema = schema
        self.end = start
        self.seen: set[tuple[int, str]] = set()

    def number(self, code: str, at: int) -> int:
        require(self.start <= at and at + struct.calcsize(code) <= self.stop, "an offset leads out of the file")
        return int(struct.unpack_from(f"<{code}", self.data, at)[0])

    def extent(self, at: int, size: int) -> None:
        require(self.start <= at and at + size <= self.stop, "a part leads out of the file")
        self.end = max(self.end, at + size)

    def follow(self, at: int, kind: str) -> None:
        """What an offset points to. Each place is read once, so shared tables cost nothing."""
        target = at + self.number("I", at)
        if (target, kind) in self.seen:
            return
        self.seen.add((target, kind))
        require(len(self.seen) < _MOST, "too many parts")
        if kind == "text":
            length = self.number("I", target)
            self.extent(target, length + 5)
            require(self.data[target + 4 + length] == 0, "a string without its end")
        elif kind.startswith("["):
            self.vector(target, kind[1:-1])
        else:
            self.table(target, self.schema[kind])

    def vector(self, at: int, element: str) -> None:
        count = self.number("I", at)
        width = int(element) if element.isdigit() else 4
        self.extent(at, 4 + width * count)
        if not element.isdigit():
            for index in range(count):
                self.follow(at + 4 + 4 * index, element)

    def table(self, at: int, fields: tuple[str, ...]) -> None:
        places = at - self.number("i", at)
        size, inline = self.number("H", places), self.number("H", places + 2)
        require(size >= 4 and not size % 2 and inline >= 4, "not a table")
        self.extent(places, size)
        self.extent(at, inline)
        for index, place in enumerate(struct.unpack(f"<{size // 2 - 2}H", self.data[places + 4 : places + size])):
            kind = fields[index] if index < len(fields) else "1"
            require(not place or place + (int(kind) if kind.isdigit() else 4) <= inline, "a field outside of its table")
            if place and not kind.isdigit():
                self.follow(at + place, kind)


def tflite(data: Buffer) -> int:
    """Where the model ends; what follows is labels in a zip archive, padding, or options of operators."""
    require(data[4:8] == b"TFL3", "no TensorFlow Lite")
    verifier = _Verifier(data, 0, len(data), structure_table().flatbuffers["tflite"])
    verifier.follow(0, "root")
    return verifier.end


def catboost(data: Buffer) -> tuple[int, bool]:
    """Where the trees end, and whether the model names parts that follow."""
    cursor = Cursor(data)
    require(cursor.take(4) == b"CBM1", "no CatBoost")
    size = cursor.number("I")
    start = cursor.at
    cursor.skip(size)
    verifier = _Verifier(data, start, size, structure_table().flatbuffers["catboost"])
    verifier.follow(start, "root")
    return cursor.at, any(kind == "[text]" for _, kind in verifier.seen)
