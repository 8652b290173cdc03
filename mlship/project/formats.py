"""Identify model files by their content: names prove nothing, and a pickle runs code under any name."""

import ast
import bz2
import io
import json
import lzma
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, TypeAlias

from mlship.project.onnx_header import read_onnx
from mlship.project.pickles import is_pickle, is_text

ModelFormat: TypeAlias = Literal[
    "safetensors", "onnx", "gguf", "npy", "npz", "xgboost", "lightgbm", "catboost", "tflite", "keras", "hdf5",
    "skops", "fasttext", "savedmodel",
    "sentencepiece", "onnx-data", "text",
    "pickle", "torch", "numpy-objects", "keras-lambda", "lfs-pointer", "empty", "unknown",
]  # fmt: skip
MODELS: frozenset[ModelFormat] = frozenset(
    {
        "safetensors",
        "onnx",
        "gguf",
        "xgboost",
        "lightgbm",
        "catboost",
        "tflite",
        "keras",
        "hdf5",
        "skops",
        "fasttext",
        "savedmodel",
    }
)
CODE: frozenset[ModelFormat] = frozenset({"pickle", "torch", "numpy-objects", "keras-lambda"})

_HEAD = 1 << 16
_HEADER_LIMIT = 100_000_000  # safetensors' own limit
_MEMBERS = 10_000
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
)
_MAGIC: tuple[tuple[bytes, ModelFormat], ...] = (
    (b"GGUF", "gguf"),
    (b"\xba\x16O\x2f\x0c\x00\x00\x00", "fasttext"),  # magic number and version 12, since 2017
    (b"CBM1", "catboost"),
    (b"tree\nversion=v", "lightgbm"),
    (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "xgboost"),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch"),  # before 1.6: a pickled magic number first
    (b"version https://git-lfs.github.com/spec/", "lfs-pointer"),
)
_SENTENCEPIECE = re.compile(rb"\n.\n\x05<unk>\x15", re.DOTALL)
_XGBOOST_JSON = re.compile(rb'\s*\{\s*"(learner|version)"\s*:')
_OBJECTS = re.compile(r"'[|<>=]?O\d*'")
_INFLATED = 1 << 26  # bytes; more of a compressed file is not read


def identify(path: Path) -> ModelFormat:
    """Identify a file by its first bytes, and refuse what an unpickler would run under any format's name.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if not size:
            return "empty"
        kind = _by_magic(path, head) or _by_archive(file, head) or _by_structure(path, head, size)
        if kind in CODE or kind == "lfs-pointer":
            return kind
        file.seek(0)
        return "pickle" if is_pickle(file) else kind


def decompressor(head: bytes) -> Callable[[bytes, int], bytes] | None:
    """The decompressor for a file that begins with `head`: takes data and the maximum number of bytes to return.

    Covers joblib's formats: gzip, zlib, bz2, xz and lzma. None for any other file.
    """
    if head[:2] in (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda"):
        return zlib.decompressobj(wbits=47).decompress  # 32 + 15: gzip or zlib
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor().decompress
    if head.startswith((b"\xfd7zXZ\x00", b"]\x00\x00")):
        return lzma.LZMADecompressor().decompress
    return None


def _by_magic(path: Path, head: bytes) -> ModelFormat | None:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    # Version 1, then a graph: tensorflow/core/protobuf/saved_model.proto of https://github.com/tensorflow/tensorflow
    if head.startswith(b"\x08\x01\x12") and path.name == "saved_model.pb":
        return "savedmodel"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"\x93NUMPY"):
        return "numpy-objects" if _has_objects(head) else "npy"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras-lambda" if _mentions_lambda(path) else "hdf5"
    return "sentencepiece" if _SENTENCEPIECE.match(head) else None


def _by_archive(file: IO[bytes], head: bytes) -> ModelFormat | None:
    """Zip archives, and compressed files by their content."""
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(file)
    decompress = decompressor(head)
    if decompress is None:
        return None
    with suppress(OSError, EOFError, zlib.error, lzma.LZMAError):
        inner = _inflated(file, decompress)
        if is_pickle(io.BytesIO(inner)):
            return "pickle"
        return "text" if 0 < len(inner) < _INFLATED and is_text(inner[:_HEAD]) else "unknown"
    return None  # not compressed after all


def _inflated(file: IO[bytes], decompress: Callable[[bytes, int], bytes]) -> bytes:
    """The content of a compressed file, up to a limit; what can be read of a damaged one."""
    content = bytearray()
    while len(content) < _INFLATED and (data := file.read(_HEAD)):
        try:
            content += decompress(data, _INFLATED)
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            if not content:
                raise
            break
    return bytes(content)


def _by_structure(path: Path, head: bytes, size: int) -> ModelFormat:
    if _is_safetensors(path, size):
        return "safetensors"
    if is_text(head):
        return "xgboost" if _XGBOOST_JSON.match(head) and b'"learner"' in head else "text"
    return "onnx" if read_onnx(path) else "unknown"


def _is_safetensors(path: Path, size: int) -> bool:
    """Eight bytes of length, that many bytes of JSON, then exactly the tensors in the JSON."""
    with path.open("rb") as file, suppress(ValueError, RecursionError, KeyError, TypeError, struct.error):
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(size - 8, _HEADER_LIMIT) or file.read(1) != b"{":
            return False
        header = json.loads(b"{" + file.read(length - 1))
        ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
        return bool(8 + length + max(ends, default=0) == size)
    return False


def _zip_kind(file: IO[bytes]) -> ModelFormat:
    with suppress(*_ZIP_ERRORS), zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names):
            return "torch"
        if {"config.json", "metadata.json"} <= set(names):
            return "keras-lambda" if b'"Lambda"' in _member(archive, "config.json") else "keras"
        if "schema.json" in names and b'"protocol"' in _member(archive, "schema.json"):
            return "skops"
        if names and len(names) <= _MEMBERS and all(name.endswith(".npy") for name in names):
            return "numpy-objects" if any(_has_objects(head) for head in _heads(archive)) else "npz"
    return "unknown"


def _heads(archive: zipfile.ZipFile) -> Iterator[bytes]:
    for name in archive.namelist():
        with archive.open(name) as member:
            yield member.read(_HEAD)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        return member.read(_HEADER_LIMIT)


def numpy_data(head: bytes) -> tuple[str, int]:
    """The element type of an .npy file, as text, and the offset of its data.

    Raises:
        ValueError: the header is damaged.
    """
    wide = head[6:7] >= b"\x02"
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    try:
        header = ast.literal_eval(head[start : start + length].decode("latin-1"))
        return repr(header["descr"]), start + length
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("the .npy header is damaged") from error


def _has_objects(head: bytes) -> bool:
    """Whether an array holds Python objects, which are pickled; an unreadable header counts as such."""
    try:
        return bool(_OBJECTS.search(numpy_data(head)[0]))
    except ValueError:
        return True


def _mentions_lambda(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(b'"Lambda"') >= 0
