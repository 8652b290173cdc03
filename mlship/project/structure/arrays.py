"""Formats that are a header and arrays: safetensors, NumPy and fastText. The sizes in the header make up the file."""

import ast
import json
import math
import re
from collections.abc import Iterable

from mlship.project.structure.cursor import Buffer, Cursor, require
from mlship.project.structure.schemas import structure_table

_HEADER_LIMIT = 16 << 20  # bytes; the largest models have headers below 2 MB
_LONG = re.compile(r"\b(\d+)L\b")  # how Python 2 wrote some numbers
_ELEMENT = re.compile(r"[<>|=]?([?bBhHiIlLqQefdgFDGSaUVOMmc]|[biufcmMVSU])(\d*)(\[\w+\])?")
FASTTEXT = b"\xba\x16O\x2f\x0c\x00\x00\x00"
_WORDS = re.compile(rb"(?:[^\x00]{1,4096}+\x00.{8}[\x00\x01]){1000}+", re.DOTALL)
_WORD = re.compile(rb"[^\x00]{1,4096}+\x00.{8}[\x00\x01]", re.DOTALL)


def safetensors(data: Buffer) -> None:
    """https://github.com/huggingface/safetensors#format: tensors without gaps, to the last byte."""
    cursor = Cursor(data)
    length = cursor.number("Q")
    require(length <= _HEADER_LIMIT and data[8:9] == b"{", "no header")
    header = json.loads(cursor.take(length), object_pairs_hook=_unique)
    metadata = header.pop("__metadata__", {})
    require(all(isinstance(text, str) for text in metadata.values()), "metadata is text")
    spans = sorted(_span(tensor) for tensor in header.values())
    end = 0
    for start, stop in spans:
        require(start == end, "a gap between tensors, or two in one place")
        end = stop
    require(end == cursor.left, "the tensors are not the rest of the file")


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    items = list(pairs)
    require(len(items) == len({name for name, _ in items}), "a name appears twice")
    return dict(items)


def _span(tensor: dict[str, list[int]]) -> tuple[int, int]:
    start, stop = tensor["data_offsets"]
    shape, dtype = tensor["shape"], str(tensor["dtype"])
    require(set(tensor) == {"dtype", "shape", "data_offsets"}, "unknown key")
    require(all(type(n) is int and n >= 0 for n in (start, stop, *shape)), "not a size")
    require(8 * (stop - start) == structure_table().bits[dtype] * math.prod(shape), "the shape does not fit the size")
    return start, stop


def numpy_header(head: bytes) -> tuple[object, tuple[int, ...], int]:
    """Element type, shape and start of the data of an .npy file.

    https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Raises:
        ValueError: the header is damaged.
    """
    require(head[6:8] in (b"\x01\x00", b"\x02\x00", b"\x03\x00"), "unknown version")
    start = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:start], "little")
    require(start + length <= len(head), "the header is damaged")
    try:
        text = _LONG.sub(r"\1", head[start : start + length].decode("latin-1")).strip()
        header = ast.literal_eval(text)
        descr, shape = header["descr"], header["shape"]
    except (SyntaxError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("the header is damaged") from error
    require(set(header) == {"descr", "fortran_order", "shape"}, "the header has other keys")
    require(isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape), "no shape")
    return descr, shape, start + length


def numpy_is_whole(head: bytes, size: int) -> bool:
    """Whether an .npy file with this head has the size that its header says; False if it holds Python objects."""
    descr, shape, start = numpy_header(head)
    width = element_width(descr)
    require(width is None or start + width * math.prod(shape) == size, "its size is not that of its header")
    return width is not None


def element_width(descr: object) -> int | None:
    """Bytes of an element; None for Python objects, which are pickled."""
    if isinstance(descr, tuple) and len(descr) == 2 and not isinstance(descr[0], tuple):
        inner = element_width(descr[0])
        shape = descr[1] if isinstance(descr[1], tuple) else (descr[1],)
        return None if inner is None else inner * math.prod(shape)
    if isinstance(descr, list):
        widths = [element_width(field[1] if len(field) == 2 else (field[1], field[2])) for field in descr]
        return None if None in widths else sum(width for width in widths if width is not None)
    match = _ELEMENT.fullmatch(str(descr)) if isinstance(descr, str) else None
    if match is None or match[1] == "O":
        return None
    one = {"?": 1, "c": 1, "U": 4}.get(match[1], 1)
    return one * int(match[2] or 1)


def fasttext(data: Buffer) -> None:
    """https://github.com/facebookresearch/fastText/blob/main/src/fasttext.cc, `FastText::loadModel`."""
    cursor = Cursor(data)
    require(cursor.take(8) == FASTTEXT, "no fastText")
    cursor.skip(56)  # args.cc
    words = _dictionary(cursor)
    for _ in range(2):
        quantized = cursor.number("B")
        require(quantized in (0, 1), "not a flag")
        (_quantized if quantized else _matrix)(cursor)
    cursor.finish()
    require(words > 0, "no words")


def _dictionary(cursor: Cursor) -> int:
    size, known, labels = (cursor.number("i") for _ in range(3))
    require(size == known + labels and 0 <= size <= cursor.left // 11, "the counts do not fit")
    cursor.skip(8)
    pruned = cursor.number("q")
    require(pruned >= -1, "not a count")
    for pattern, count in ((_WORDS, size // 1000), (_WORD, size % 1000)):
        for _ in range(count):
            match = pattern.match(cursor.data, cursor.at)
            if match is None:
                raise ValueError("a damaged word")
            cursor.at = match.end()
    cursor.skip(8 * max(pruned, 0))
    return size


def _matrix(cursor: Cursor) -> None:
    rows, columns = cursor.number("q"), cursor.number("q")
    require(rows >= 0 and columns >= 0, "not a size")
    cursor.skip(4 * rows * columns)


def _quantized(cursor: Cursor) -> None:
    norm, rows, _ = cursor.number("B"), cursor.number("q"), cursor.number("q")
    cursor.skip(cursor.number("i"))
    _centroids(cursor)
    if norm:
        cursor.skip(rows)
        _centroids(cursor)


def _centroids(cursor: Cursor) -> None:
    cursor.skip(12 + 4 * 256 * cursor.number("i"))
