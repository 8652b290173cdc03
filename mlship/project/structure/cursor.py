"""Read a file from front to back, each step inside its bounds. Files are memory-mapped: only visited pages load."""

import mmap
import struct
from typing import TypeAlias

Buffer: TypeAlias = mmap.mmap | bytes
# What a parser raises for a file that is not whole or not of its format.
BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, struct.error)


class MappedFile(mmap.mmap):
    """A mapped file that `zipfile` takes for an open one: mmap itself has this method since Python 3.13."""

    def seekable(self) -> bool:
        return True


def require(condition: bool, problem: str) -> None:
    """Raise ValueError with the problem if the condition is false."""
    if not condition:
        raise ValueError(problem)


class Cursor:
    """A position in a buffer; every method raises ValueError or struct.error beyond the end."""

    def __init__(self, data: Buffer, at: int = 0, order: str = "<") -> None:
        self.data = data
        self.at = at
        self.order = order

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def skip(self, count: int) -> None:
        require(0 <= count <= self.left, "it ends too early")
        self.at += count

    def take(self, count: int) -> bytes:
        self.skip(count)
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int:
        """One integer, by its `struct` code."""
        (value,) = struct.unpack_from(self.order + code, self.data, self.at)
        self.at += struct.calcsize(code)
        return int(value)

    def text(self, length: str = "Q") -> str:
        """A string with its length in front."""
        return self.take(self.number(length)).decode()

    def finish(self) -> None:
        require(not self.left, "bytes follow its end")
