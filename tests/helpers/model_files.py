"""Small whole model files of every format, written as the documents of the formats say."""

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from tests.helpers.repos import onnx_bytes, safetensors

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def text(value: str, length: str = "<Q") -> bytes:
    """A string with its length in front."""
    return struct.pack(length, len(value.encode())) + value.encode()


def npy(array: ArrayLike) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def gguf(metadata: Mapping[str, str] | None = None, tensors: int = 1, version: int = 3) -> bytes:
    """Tensors of 32 floats."""
    entries = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in (metadata or {}).items())
    words = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("é")
    infos = b"".join(text(f"t{n}") + struct.pack("<IQIQ", 1, 32, 0, 128 * n) for n in range(tensors))
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, len(metadata or {}) + 1) + entries + words + infos
    return (head + b"\0" * (-len(head) % 32) + b"\1" * 128 * tensors) if tensors else head


class _Builder:
    """A FlatBuffer, written from the front: offsets lead forwards, and each table follows its own vtable."""

    def __init__(self) -> None:
        self.data = bytearray(8)

    def table(self, fields: Sequence[bytes | None]) -> tuple[int, list[int]]:
        """A table with inline fields; where it is, and where each of the fields is."""
        self.data += b"\0" * (-len(self.data) % 4)
        vtable = len(self.data)
        sizes = [len(field) if field else 0 for field in fields]
        starts = [4 + sum(sizes[:n]) for n in range(len(sizes))]
        self.data += struct.pack("<HH", 4 + 2 * len(fields), 4 + sum(sizes))
        self.data += b"".join(
            struct.pack("<H", start if size else 0) for start, size in zip(starts, sizes, strict=True)
        )
        self.data += b"\0" * (-len(self.data) % 4)
        table = len(self.data)
        self.data += struct.pack("<i", table - vtable) + b"".join(field or b"" for field in fields)
        return table, [table + start for start in starts]

    def vector(self, element: bytes, count: int) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.data += struct.pack("<I", count) + element * count
        return len(self.data) - len(element) * count - 4

    def string(self, value: str) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.data += text(value, "<I") + b"\0"
        return len(self.data) - len(value) - 5

    def point(self, at: int, target: int) -> None:
        self.data[at : at + 4] = struct.pack("<I", target - at)


def tflite() -> bytes:
    """A version, a description and one buffer of 16 bytes."""
    made = _Builder()
    here = b"\0\0\0\0"
    root, places = made.table([struct.pack("<I", 3), None, None, here, here])
    made.point(0, root)
    made.data[4:8] = b"TFL3"
    made.point(places[3], made.string("made by a test"))
    buffers = made.vector(here, 1)
    made.point(places[4], buffers)
    table, (data,) = made.table([here])
    made.point(buffers + 4, table)
    made.point(data, made.vector(b"\1", 16))
    return bytes(made.data)


def catboost() -> bytes:
    """A format version and one entry of information."""
    made = _Builder()
    here = b"\0\0\0\0"
    root, places = made.table([here, None, here])
    made.point(0, root)
    made.point(places[0], made.string("FlabuffersModel_v1"))
    entries = made.vector(here, 1)
    made.point(places[2], entries)
    table, (key, value) = made.table([here, here])
    made.point(entries + 4, table)
    made.point(key, made.string("params"))
    made.point(value, made.string("{}"))
    return b"CBM1" + struct.pack("<I", len(made.data)) + bytes(made.data)


def lightgbm() -> bytes:
    tree = "Tree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=0.5\nleaf_value=0.1 0.2\n\n\n"
    head = f"tree\nversion=v4\nnum_class=1\nmax_feature_idx=3\ntree_sizes={len(tree)}\n\n"
    tail = "end of trees\n\nfeature_importances:\nf0=1\n\nparameters:\n[boosting: gbdt]\n\nend of parameters\n"
    return f"{head}{tree}{tail}\npandas_categorical:null\n".encode()


def xgboost_json() -> bytes:
    learner = {"attributes": {}, "gradient_booster": {"model": {"trees": [{"split_conditions": [0.5, -1e-3, 2]}]}}}
    return json.dumps({"learner": learner, "version": [3, 0, 0]}, separators=(",", ":")).encode()


def xgboost_ubj() -> bytes:
    def key(name: str) -> bytes:
        return b"L" + text(name, ">q")

    conditions = key("split_conditions") + b"[$d#L" + struct.pack(">q2f", 2, 0.5, 1.0)
    learner = key("learner") + b"{" + key("name") + b"S" + key("gbtree") + conditions + b"}"
    return b"{" + learner + key("version") + b"[#L" + struct.pack(">q", 3) + b"i\3i\0i\0" + b"}"


def xgboost_binary() -> bytes:
    """One tree with one node."""
    head = struct.pack("<fI5I", 0.5, 1, 0, 0, 0, 2, 0).ljust(136, b"\0")
    trees = struct.pack("<I", 1).ljust(160, b"\0")
    tree = struct.pack("<6I", 1, 1, 0, 0, 1, 0).ljust(148, b"\0") + b"\0" * 36
    return head + text("binary:logistic") + text("gbtree") + trees + tree + b"\0" * 4


def hdf5(config: str = '{"class_name": "Dense"}') -> bytes:
    """A superblock of version 0, and the configuration somewhere behind it."""
    content = b"\0" * 60 + config.encode()
    block = HDF5_MAGIC + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    return block + struct.pack("<4Q", 0, 2**64 - 1, 56 + len(content), 2**64 - 1) + content


def keras(config: str = '{"class_name": "Dense"}', extra: Mapping[str, bytes] | None = None) -> bytes:
    members = {"metadata.json": b"{}", "config.json": config.encode(), "model.weights.h5": hdf5("")}
    return zipped({**members, **(extra or {})})


def skops(*types: str) -> bytes:
    """An estimator of scikit-learn with attributes of the given types."""

    def node(name: str, **more: object) -> dict[str, object]:
        module, _, kind = name.rpartition(".")
        return {"__class__": kind, "__module__": module, "__loader__": "ObjectNode", **more}

    content = {str(n): node(name) for n, name in enumerate(types)}
    array = node("numpy.ndarray", type="numpy", file="1.npy")
    schema = node("sklearn.linear_model._logistic.LogisticRegression", content={**content, "a": array}, protocol=2)
    return zipped({"1.npy": npy(np.zeros(3)), "schema.json": json.dumps(schema).encode()}, zipfile.ZIP_DEFLATED)


def fasttext() -> bytes:
    words = b"hello\0" + struct.pack("<qB", 3, 0) + b"__label__a\0" + struct.pack("<qB", 1, 1)
    dictionary = struct.pack("<iiiqq", 2, 1, 1, 4, -1) + words
    matrix = struct.pack("<Bqq", 0, 2, 2) + b"\0" * 16
    return b"\xba\x16O\x2f\x0c\0\0\0" + b"\0" * 56 + dictionary + matrix + matrix


def message(number: int, content: bytes) -> bytes:
    """A field of protobuf with a length below 128."""
    return bytes([number << 3 | 2, len(content)]) + content


def sentencepiece(pieces: Iterable[str] = ("<unk>", "<s>", "a")) -> bytes:
    each = (message(1, message(1, piece.encode()) + b"\x15" + struct.pack("<f", 0) + b"\x18\x02") for piece in pieces)
    return b"".join(each) + message(2, b"\x08\x01")


def savedmodel() -> bytes:
    return b"\x08\x01" + message(2, message(1, b"") + message(2, b""))


def bundle_index(*sizes: int) -> bytes:
    """The index of variables, one in each data file."""

    def block(entries: Mapping[bytes, bytes]) -> bytes:
        rows = b"".join(bytes([0, len(key), len(value)]) + key + value for key, value in entries.items())
        return rows + struct.pack("<II", 0, 1) + b"\0" * 5

    entries = {b"v%d" % n: bytes([24, n, 40, size]) for n, size in enumerate(sizes)}
    data = block({b"": b"\x08\x01", **entries})
    index = block({b"w": bytes([0, len(data) - 5])})
    handles = bytes([0, 0, len(data), len(index) - 5])
    return data + index + handles.ljust(40, b"\0") + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"


@cache
def good_files() -> Mapping[str, tuple[str, bytes]]:
    """Whole files, as kind and content by name."""
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    record = np.zeros(2, dtype=[("a", "<f4", (2,)), ("b", "<U3")])
    return {
        "model.safetensors": ("safetensors", safetensors()),
        "model.onnx": ("onnx", onnx_bytes()),
        "model.gguf": ("gguf", gguf({"tokenizer.chat_template": "{{ messages[0].content }}"})),
        "several.gguf": ("gguf", gguf(tensors=3)),
        "vocabulary.gguf": ("gguf", gguf(tensors=0)),
        "older.gguf": ("gguf", gguf(version=2)),
        "model.tflite": ("tflite", tflite()),
        "labels.tflite": ("tflite", tflite() + zipped({"labels.txt": b"cat\ndog\n"})),
        "model.cbm": ("catboost", catboost()),
        "model.txt": ("lightgbm", lightgbm()),
        "model.json": ("xgboost", xgboost_json()),
        "model.ubj": ("xgboost", xgboost_ubj()),
        "model.deprecated": ("xgboost", xgboost_binary()),
        "named.deprecated": ("xgboost", b"binf" + xgboost_binary()),
        "numbers.npy": ("npy", npy(numbers)),
        "scalar.npy": ("npy", npy(np.float64(3))),
        "texts.npy": ("npy", npy(np.array(["a", "bcd"]))),
        "records.npy": ("npy", npy(record)),
        "dates.npy": ("npy", npy(np.array(["2026-01-01"], dtype="M8[D]"))),
        "python2.npy": ("npy", npy(np.zeros(2)).replace(b"(2,), }  ", b"(2L,), } ")),
        "numbers.npz": ("npz", zipped({"a.npy": npy(numbers), "b.npy": npy(record)})),
        "packed.npz": ("npz", zipped({"a.npy": npy(numbers)}, zipfile.ZIP_DEFLATED)),
        "model.keras": ("keras", keras()),
        "assets.keras": ("keras", keras(extra={"assets/vocabulary.txt": b"a\nb\n"})),
        "model.h5": ("hdf5", hdf5()),
        "model.skops": ("skops", skops()),
        "model.ftz": ("fasttext", fasttext()),
        "spiece.model": ("sentencepiece", sentencepiece()),
        "padded.model": ("sentencepiece", sentencepiece(("<pad>", "</s>", "<unk>"))),
        "saved_model.pb": ("savedmodel", savedmodel()),
        "tokenizer.json": ("text", b'{"version": "1.0", "model": {"vocab": {"learner": 1}}}'),
        "labels.txt": ("text", b"cat\ndog\n"),
        "vocab.txt": ("text", "[PAD]\n[UNK]\n##für\n".encode()),
        "merges.txt": ("text", b"#version: 0.2\n\xc4\xa0 t\nh e\n"),
        "requirements.txt": ("text", b"click\ncachetools\nRx\n"),
        "bpe.txt.gz": ("text", gzip.compress(b"h e\nl l\n", mtime=0)),
    }
