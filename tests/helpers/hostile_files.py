"""Files that run code when they are loaded, or are not what they seem. No tool may take one for data."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from tests.helpers.model_files import good_files, hdf5, keras, message, npy, skops, text, zipped
from tests.helpers.repos import onnx_bytes

CALL = b"cos\nsystem\n(S'id'\ntR."
GIANT = 8 << 30  # bytes of a sparse file


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("id",)


# Streams that call something, by the opcode that does.
CALLS: Mapping[str, bytes] = {
    "reduce": CALL,
    "inst": b"(S'id'\nios\nsystem\n.",
    "inst-without-stop": b"(S'id'\nios\nsystem\n",
    "obj": b"(cos\nsystem\nS'id'\no.",
    "obj-without-stop": b"(cos\nsystem\nS'id'\no",
    "build": b"cos\nsystem\n}b.",
    "newobj": b"\x80\x02cos\nsystem\n)\x81.",
    "newobj-ex": b"\x80\x04cos\nsystem\n)}\x92.",
    "stack-global": b"\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
    "global-only": b"cos\nsystem\n.",
    "global-without-stop": b"cos\nsystem\n",
    "comment-behind": CALL[:-1] + b"\n# a comment\n",
    **{f"protocol-{number}": pickle.dumps(Attack(), number) for number in range(6)},
}
# What makes each format's first bytes, and is to an unpickler an operand that it forgets.
FRONTS: Mapping[str, bytes] = {
    "gguf": b"GGUF\x03\0\0\0\0" + b"0",
    "cbm": b"CBM1" + b"x" * (ord("B") - 2) + b"0",
    "tflite": b"C\x06\0TFL3\0" + b"0",
    "long-text": b"V" + b"0" * 100_000 + b"\n0",
    "long-string": b"S'" + b"a" * 70_000 + b"'\n0",
    "numbers": b"I1\n0" * 30_000,
    "mark": b"(0",
    "json-like": b"}0",
    "onnx-like": b"\x8c\x08\x08\x07\x12\x00\x3a\x00\x42\x000",
}
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "lz4": lambda data: b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(data) | 1 << 31) + data + b"\0" * 4,
    "twice": lambda data: gzip.compress(gzip.compress(data, mtime=0), mtime=0),
    "second-stream": lambda data: gzip.compress(b"words\n", mtime=0) + gzip.compress(data, mtime=0),
}


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Names and contents."""
    for name, content in CALLS.items():
        yield f"call-{name}.onnx", content
    for name, front in FRONTS.items():
        yield f"front-{name}.gguf", front + CALL
        yield f"front-{name}.txt", front + CALL[:-1] + b"\0" * 100
    for name, pack in PACKED.items():
        yield f"packed-{name}.txt", pack(CALL)
        yield f"padded-{name}.json", pack(FRONTS["long-text"] + CALL)
    for name, (kind, content) in good_files().items():
        if kind != "text":
            yield f"then-pickle-{name}", content + CALL
            yield f"cut-{name}", content[:-1]
            yield f"pickle-then-{name}", CALL + content
    yield from _arrays()
    yield from _archives()
    yield from _layers()
    yield from _counts()
    yield from _names()


def _arrays() -> Iterator[tuple[str, bytes]]:
    objects = npy(np.array([{"a": 1}], dtype=object))
    yield "objects.npy", objects
    yield "object-field.npy", npy(np.zeros(2, dtype=[("a", "f4"), ("b", "O")]))
    yield "objects.npz", zipped({"a.npy": npy(np.zeros(3)), "b.npy": objects})
    yield "trailing.npy", npy(np.zeros(3)) + b"\0"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os').system('id'),)}"
    yield "code.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header
    yield "pickle-for-array.npz", zipped({"a.npy": CALL})


def _archives() -> Iterator[tuple[str, bytes]]:
    yield "torch.bin", zipped({"model/data.pkl": CALL, "model/data/0": b"\0" * 8})
    yield "torch.onnx", zipped({"model/data.pkl": CALL})
    yield "member.npz", zipped({"a.npy": npy(np.zeros(3)), "b.pkl": CALL})
    yield "nested.npz", zipped({"a.npy": zipped({"data.pkl": CALL})})
    yield "leading.npz", CALL + zipped({"a.npy": npy(np.zeros(3))})
    yield "zero-leading.npz", b"PK\x03\x04" + b"\0" * 60 + zipped({"a.npy": npy(np.zeros(3))})
    yield "member.keras", keras(extra={"assets.pkl": CALL})
    yield "asset.keras", keras(extra={"assets/vocabulary.txt": pickle.dumps(Attack())})
    yield "two-names.npz", _patched(zipped({"a.npy": npy(np.zeros(3))}), b"a.npy", b"b.npy")
    yield (
        "encrypted.npz",
        _patched(zipped({"a.npy": npy(np.zeros(3))}), b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"),
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", npy(np.zeros(3)))
        archive.start_dir += 40  # a gap in front of the directory
        archive.writestr("b.npy", npy(np.zeros(3)))
    yield "gap.npz", buffer.getvalue()
    yield "objects.skops", _with(skops(), "1.npy", npy(np.array([Attack()], dtype=object)))
    yield "types.skops", skops("os.system")
    yield "method.skops", skops("operator.attrgetter")
    yield "bomb.npz", zipped({"a.npy": npy(np.zeros(10)) + b"\0" * (64 << 20)}, zipfile.ZIP_DEFLATED)


def _with(archive: bytes, name: str, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return zipped({**{member: opened.read(member) for member in opened.namelist()}, name: content})


def _patched(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


def _layers() -> Iterator[tuple[str, bytes]]:
    for name, config in {
        "lambda": '{"class_name": "Lambda"}',
        "inner": '{"class_name": "Sequential", "config": {"layers": [{"class_name": "__lambda__"}]}}',
        "escaped": r'{"class_name": "\u004cambda"}',
        "module": '{"class_name": "function", "module": "os", "config": "system"}',
    }.items():
        yield f"{name}.keras", keras(config)
        yield f"{name}.h5", hdf5(config)
    yield "broken.keras", keras("{")


def _counts() -> Iterator[tuple[str, bytes]]:
    """Sizes that would take all memory or time."""
    most = (1 << 63) - 1
    yield "tensors.gguf", b"GGUF" + struct.pack("<IQQ", 3, most, 0)
    yield "entries.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, most)
    yield "array.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<IIQ", 9, 8, most)
    yield "deep.gguf", b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("a") + struct.pack("<I", 9) * 5000
    yield "header.safetensors", struct.pack("<Q", most) + b"{}"
    yield "deep.safetensors", struct.pack("<Q", 1 << 20) + b'{"a":' + b"[" * (1 << 20)
    yield "gap.safetensors", _safetensors([0, 4], [8, 12], 12)
    yield "overlap.safetensors", _safetensors([0, 4], [0, 4], 4)
    yield "shape.safetensors", _safetensors([0, 4], [4, 9], 9)
    yield "cycle.tflite", struct.pack("<I", 8) + b"TFL3" + struct.pack("<iHHi", -4, 12, 8, 4) * 100
    yield "zeros.tflite", b"\x1c\0\0\0TFL3" + b"\0" * 64
    yield "zeros.cbm", b"CBM1" + b"\0" * 64
    yield "zeros.gguf", b"GGUF" + b"\0" * 64
    yield "zeros.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 200
    deep = b""
    for _ in range(30):
        deep = message(7, deep) if len(deep) < 100 else deep
    yield "deep.onnx", b"\x08\x08" + deep + message(8, b"\x10\x12")
    yield "many.onnx", b"\x08\x08" + b"\x12\x00" * 2_000_000
    yield "unknown-field.onnx", onnx_bytes() + b"\xfa\x01\x00"
    yield "deep.json", b'{"learner":{' + b'"a":[{' * 100_000
    yield "deep.ubj", b"{L" + text("learner", ">q") + b"{i\x01a[" * 50_000
    yield (
        "sizes.txt",
        b"tree\nversion=v4\nnum_class=1\nmax_feature_idx=1\ntree_sizes=9 9\n\nTree=0\nTree=1\nend of trees\n",
    )
    yield "words.ftz", b"\xba\x16O\x2f\x0c\0\0\0" + b"\0" * 56 + struct.pack("<iiiqq", 2**31 - 1, 2**31 - 1, 0, 0, 0)
    yield "bomb.txt.gz", gzip.compress(b"\0" * (64 << 20), mtime=0)
    yield "bomb.txt.bz2", bz2.compress(b"a" * (64 << 20))


def _safetensors(first: list[int], second: list[int], size: int) -> bytes:
    tensors = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": span} for name, span in (("a", first), ("b", second))
    }
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * size


def _names() -> Iterator[tuple[str, bytes]]:
    """Words and numbers under the names of pickles."""
    for name in (
        "words.pkl",
        "words.joblib",
        "words.pt",
        "words.pth",
        "words.bin",
        "words.ckpt",
        "words.sav",
        "words.dill",
    ):
        yield name, b"cat\ndog\n"
    yield "words.pkl.gz", gzip.compress(b"cat\ndog\n", mtime=0)
    yield "json.pkl", b'{"a": 1}'
    yield "numbers.bin", bytes(range(256))
    yield "page.safetensors", b"<html>404</html>"


def write_giants(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Sparse files, with whether each is good."""
    size = struct.pack("<Q", 100)
    header = json.dumps({"w": {"dtype": "F32", "shape": [GIANT // 4], "data_offsets": [0, GIANT]}}).encode().ljust(100)
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("t") + struct.pack("<IQIQ", 1, GIANT // 4, 0, 0)
    gguf += b"\0" * (-len(gguf) % 32)
    heads = {
        "good.safetensors": (size + header, len(size + header) + GIANT, True),
        "good.gguf": (gguf, len(gguf) + GIANT, True),
        "cut.safetensors": (size + header, len(size + header) + GIANT - 1, False),
        "zeros.bin": (b"", GIANT, False),
        "zeros.onnx": (b"\x08\x08", GIANT, False),
        "pickle.onnx": (b"V" + b"a" * 100, GIANT, False),
        "lines.gguf": (b"GGUF\x03\0\0\0\0" + b"0V", GIANT, False),
        "zeros.h5": (b"\x89HDF\r\n\x1a\n\x03\x08\x08\0" + struct.pack("<QQQ", 0, 0, GIANT), GIANT, False),
        "zeros.npz": (b"PK\x03\x04", GIANT, False),
        "zeros.txt": (b"tree\nversion=v4\n", GIANT, False),
    }
    for name, (head, length, good) in heads.items():
        path = folder / f"giant-{name}"
        with path.open("wb") as file:
            file.write(head)
            file.truncate(length)
        yield path, good
