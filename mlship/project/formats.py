"""Identify model files by their content: names prove nothing, and a pickle runs code under any name.

A file has a format only if its whole structure parses, from the first byte to the last, and no unpickler would run it.
"""

import bz2
import codecs
import io
import lzma
import mmap
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mlship.project.pickles import hides_pickle, is_pickle, is_text
from mlship.project.structure import arrays, boosters, flatbuffers, gguf, keras, messages
from mlship.project.structure.cursor import BROKEN, Buffer, MappedFile, require
from mlship.project.structure.protobuf import walk
from mlship.project.structure.zips import check_texts, zip_kind

_Model: TypeAlias = Literal[
    "safetensors", "onnx", "gguf", "xgboost", "lightgbm", "catboost", "tflite", "keras", "hdf5", "skops", "fasttext",
    "savedmodel",
]  # fmt: skip
ModelFormat: TypeAlias = Literal[
    _Model, "npy", "npz", "sentencepiece", "onnx-data", "savedmodel-data", "text",
    "pickle", "torch", "numpy-objects", "keras-lambda", "lfs-pointer", "empty", "unknown",
]  # fmt: skip
MODELS: frozenset[ModelFormat] = frozenset(get_args(_Model))
CODE: frozenset[ModelFormat] = frozenset({"pickle", "torch", "numpy-objects", "keras-lambda"})

_HEAD = 1 << 16
_BROKEN = (*BROKEN, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
_LFS = re.compile(rb"version https://git-lfs\.github\.com/spec/[\n -~]{0,1024}")
_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # before 1.6: a pickled magic number first
_XGBOOST_JSON = re.compile(rb'\s*\{\s*"(learner"\s*:\s*\{|version"\s*:\s*\[)')
_XGBOOST_UBJ = (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", b"{L\x00\x00\x00\x00\x00\x00\x00\x07version")
_XGBOOST_OBJECTIVE = re.compile(rb"(binf)?.{136}[\x01-\x40]\x00{7}[a-z]+:", re.DOTALL)
_INFLATED = 8 << 20  # bytes; a compressed text is smaller
_PIECE = re.compile(rb"\n[\x05-\x7f]\n(.)", re.DOTALL)
_TAIL = 1 << 12  # bytes of a TensorFlow Lite model that its schema does not reach
_LONGEST_TEXT = 1 << 30


def identify(path: Path) -> ModelFormat:
    """Identify a file by its whole structure, and refuse what an unpickler would run under any format's name.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size == 0:  # also those of /proc, which cannot be mapped and may block
        return "empty"
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if head.startswith(_TORCH):
            return "torch"
        with MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            kind = _structure(data, head, path.name)
        file.seek(0)
        return "pickle" if kind not in CODE and is_pickle(file) else kind


def decompressor(head: bytes) -> Callable[[bytes, int], bytes] | None:
    """The decompressor for a file that begins with `head`: takes data and the maximum number of bytes to return.

    Covers joblib's formats: gzip, zlib, bz2, xz and lzma. None for any other file.
    """
    packed = _packed(head)
    return packed.decompress if packed else None


def _packed(head: bytes) -> "zlib._Decompress | bz2.BZ2Decompressor | lzma.LZMADecompressor | None":
    if head[:2] in (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda"):
        return zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor()
    if head.startswith((b"\xfd7zXZ\x00", b"]\x00\x00")):
        return lzma.LZMADecompressor()
    return None


def _structure(data: Buffer, head: bytes, name: str) -> ModelFormat:
    """The first format whose first bytes fit; "unknown" if the rest of the file does not."""
    for is_candidate, parse in _FORMATS:
        if is_candidate(head, name):
            try:
                return parse(data)
            except _BROKEN:
                return "unknown"
    if _packed(head) and (kind := _compressed(data)):
        return kind
    return "text" if _is_whole_text(data) else "unknown"


def _is_whole_text(data: Buffer) -> bool:
    """Whether a file is text to its end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for at in range(0, min(len(data), _LONGEST_TEXT), _HEAD):
            part = data[at : at + _HEAD]
            decoder.decode(part)
            if b"\x00" in part:
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return len(data) <= _LONGEST_TEXT


def _compressed(data: Buffer) -> ModelFormat | None:
    """A compressed text, or a pickle; None if the file is not compressed after all."""
    content, whole = _inflated(data)
    if not content:
        return None
    if is_pickle(io.BytesIO(content)):
        return "pickle"
    return "text" if whole and len(content) <= _INFLATED and _is_whole_text(content) else "unknown"


def _inflated(data: Buffer) -> tuple[bytes, bool]:
    """The content, up to a limit, and whether the file ends with it."""
    content, ended = bytearray(), False
    packed = _packed(data[:8])
    for at in range(0, len(data), _HEAD):
        if packed is None or ended or len(content) > _INFLATED:
            return bytes(content), False
        try:
            content += packed.decompress(data[at : at + _HEAD], _INFLATED + 1 - len(content))
        except _BROKEN:
            break
        ended = packed.eof
    return bytes(content), ended and packed is not None and not packed.unused_data


def _tflite(data: Buffer) -> ModelFormat:
    """A model, then nothing or an archive with labels: https://www.tensorflow.org/lite/models/convert/metadata."""
    end = flatbuffers.tflite(data)
    archive = data.find(b"PK\x03\x04", end, end + _TAIL)
    tail = data[end : archive if archive >= 0 else len(data)] if len(data) - end <= _TAIL or archive >= 0 else None
    require(tail is not None and not hides_pickle(tail), "bytes follow its end")
    if archive >= 0:
        check_texts(data[archive:])
    return "tflite"


def _npy(data: Buffer) -> ModelFormat:
    try:
        return "npy" if arrays.numpy_is_whole(data[:_HEAD], len(data)) else "numpy-objects"
    except ValueError:
        return "unknown"


def _catboost(data: Buffer) -> ModelFormat:
    """Trees, then the statistics of categories and texts if the model names such parts."""
    end, has_parts = flatbuffers.catboost(data)
    require(end == len(data) or has_parts, "bytes follow its end")
    require(not hides_pickle(data[end : end + _TAIL]) and not hides_pickle(data[max(end, len(data) - _TAIL) :]), "code")
    return "catboost"


def _is(kind: ModelFormat, check: Callable[[Buffer], object]) -> Callable[[Buffer], ModelFormat]:
    def parse(data: Buffer) -> ModelFormat:
        check(data)
        return kind

    return parse


def _is_piece(head: bytes) -> bool:
    """A message with a text and a number, as vocabularies of SentencePiece begin."""
    return bool(_PIECE.match(head)) and head[4 + head[3] : 5 + head[3]] == b"\x15"


def _starts(*magic: bytes) -> Callable[[bytes, str], bool]:
    return lambda head, _: head.startswith(magic)


# The first row whose first bytes fit decides; then the whole file must.
_FORMATS: tuple[tuple[Callable[[bytes, str], bool], Callable[[Buffer], ModelFormat]], ...] = (
    (lambda head, _: bool(_LFS.fullmatch(head)), lambda _: "lfs-pointer"),
    (_starts(b"PK\x03\x04"), zip_kind),
    (_starts(b"GGUF"), _is("gguf", gguf.gguf)),
    (_starts(b"CBM1"), _catboost),
    (lambda head, _: head[4:8] == b"TFL3", _tflite),
    (_starts(b"\x93NUMPY"), _npy),
    (_starts(b"\x89HDF\r\n\x1a\n"), lambda data: "keras-lambda" if keras.hdf5(data) else "hdf5"),
    (_starts(arrays.FASTTEXT), _is("fasttext", arrays.fasttext)),
    (_starts(b"tree\nversion=v"), _is("lightgbm", boosters.lightgbm)),
    (_starts(*_XGBOOST_UBJ), _is("xgboost", boosters.xgboost_ubj)),
    (lambda head, _: bool(_XGBOOST_JSON.match(head)), _is("xgboost", boosters.xgboost_json)),
    (
        lambda head, name: head.startswith(b"\x08\x01\x12") and name == "saved_model.pb",
        _is("savedmodel", messages.savedmodel),
    ),
    (lambda _, name: name == "fingerprint.pb", _is("savedmodel-data", lambda data: walk(data, "fingerprint"))),
    (
        lambda _, name: name == "keras_metadata.pb",
        lambda data: "keras-lambda" if messages.keras_metadata(data) else "savedmodel-data",
    ),
    (lambda head, _: head[8:9] == b"{" and not is_text(head[:8]), _is("safetensors", arrays.safetensors)),
    (lambda head, _: bool(_XGBOOST_OBJECTIVE.match(head)), _is("xgboost", boosters.xgboost_binary)),
    (lambda head, _: _is_piece(head), _is("sentencepiece", messages.sentencepiece)),
    (lambda head, _: head[:1] == b"\x08", _is("onnx", messages.walk_onnx)),
)
