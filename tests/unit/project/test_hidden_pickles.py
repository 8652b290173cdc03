"""No file that an unpickler would run is taken for data, whatever format it also is."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import pickletools
import struct
import sys
import zlib
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.project.config import Model
from mlship.project.formats import CODE, identify
from mlship.project.weights import check_weights
from tests.helpers.model_files import good_files
from tests.helpers.sampling import examples

CALL = b"cos\nsystem\n(S'id'\ntR."
NAMES = st.sampled_from(["model.gguf", "model.cbm", "model.tflite", "model.txt", "labels.json", "weights.bin"])
# Each is a format's first bytes, and to an unpickler operands that it reads and forgets.
FRONTS = [
    b"GGUF\x03\x00\x00\x00\x00" + b"0",
    b"CBM1" + b"x" * (ord("B") - 2) + b"0",
    b"X\x00\x00\x00\x000" + b"",
    b"C\x06\x00TFL3\x000",
    b"V" + b"0" * 100_000 + b"\n0",
    b"S'" + b"a" * 70_000 + b"'\n0",
    b"I1\n0" * 30_000,
    b"(0",
]
PACKED: list[Callable[[bytes], bytes]] = [
    bytes,
    zlib.compress,
    lambda data: gzip.compress(data, mtime=0),
    bz2.compress,
    lzma.compress,
]


def could_exist(module: str, name: str) -> bool:
    """Whether an import can succeed: files of words begin like one, with names that nothing has."""
    return all(part.isidentifier() for part in (*module.replace("-", "_").split("."), *name.split(".")))


def is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


class Called(Exception):  # noqa: N818  a recording, not an error
    pass


def called(*_arguments: object) -> None:
    raise Called


class Recorder(pickle.Unpickler):
    """Notes that an import was asked for, and imports nothing."""

    def find_class(self, module: str, name: str) -> object:
        if not could_exist(module, name):
            raise AttributeError(name)
        if not is_standard(module):  # a list of words may begin like an import, but calls nothing
            return called
        raise Called(f"{module}.{name}")

    def persistent_load(self, _id: object) -> object:
        return None


def runs(content: bytes) -> bool:
    """Whether an unpickler asks for a class or function."""
    try:
        Recorder(io.BytesIO(content)).load()
    except Called:
        return True
    except Exception:  # noqa: BLE001  whatever an unpickler raises for a broken stream
        return False
    return False


@pytest.mark.slow
@pytest.mark.parametrize("front", range(len(FRONTS)))
@pytest.mark.parametrize("pack", range(len(PACKED)))
def test_a_pickle_behind_another_formats_first_bytes(front: int, pack: int, tmp_path: Path) -> None:
    content = FRONTS[front] + CALL
    assert runs(content), "a test that hides nothing"
    for ending in (content, content[:-1], content + b"\x00" * 100):
        path = tmp_path / "model.gguf"
        path.write_bytes(PACKED[pack](ending))
        assert identify(path) in CODE


def test_a_pickle_in_the_metadata_of_safetensors(tmp_path: Path) -> None:
    """The length of the header is an operand, which ends in the header's first string."""
    skipped = 40
    size = skipped << 8 | ord("T")
    header = json.dumps({"__metadata__": {"a": "x" * 200}}).encode()
    body = bytearray(header.ljust(size))
    start = skipped - 3
    body[start : start + len(CALL) + 1] = b"0" + CALL
    content = struct.pack("<Q", size) + bytes(body)
    assert runs(content)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert identify(tmp_path / "model.safetensors") in CODE


OPERATIONS = st.sampled_from(
    [
     b"cos\nsystem\n", b"\x8c\x02os\x8c\x06system\x93", b"(S'id'\nios\nsystem\n", b"(", b"t", b"R", b"o", b"0", b"1",
     b"N", b"I1\n", b"K\x01", b"S'a'\n", b"V\xc3\xa9\n", b"X\x01\x00\x00\x00a", b"]", b"}", b"a", b"s", b"q\x00",
     b"\x94", b"\x85", b"\x80\x04", b"GGUF\x03\x00\x00\x00\x00", b".", b"\n", b"#", b" "]
)  # fmt: skip


@pytest.mark.parametrize("line", ["osé\nsystem", "os\nsystém", "модуль\nимя"])
def test_names_may_have_letters_of_any_language(line: str, tmp_path: Path) -> None:
    content = b"c" + line.encode() + b"\n(S'id'\ntR."
    assert runs(content)
    (tmp_path / "labels.txt").write_bytes(content)
    assert identify(tmp_path / "labels.txt") in CODE


def test_words_of_any_language_are_text(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cité\nété\nRéunion\nœuf\n", encoding="utf-8")
    assert identify(tmp_path / "labels.txt") == "text"


@given(parts=st.lists(OPERATIONS, min_size=1, max_size=12), name=NAMES, pack=st.sampled_from(PACKED))
@settings(max_examples=examples(300))
def test_what_an_unpickler_would_run_is_never_data(
    parts: list[bytes], name: str, pack: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = b"".join(parts)
    path = tmp_path_factory.mktemp("hidden") / name
    path.write_bytes(pack(content))
    if runs(content):
        assert identify(path) in CODE


@pytest.mark.parametrize("name", ["model.pkl", "model.JOBLIB", "pytorch_model.bin", "best.pt", "last.ckpt"])
def test_words_under_the_name_of_a_pickle_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cat\ndog\n")
    assert identify(tmp_path / name) == "text"
    with pytest.raises(UsageError, match="is named like a pickle but contains text"):
        check_weights(tmp_path, Model.model_construct(weights=(name,), allow_pickle=()))


FAMILIES = [content for kind, content in good_files().values() if kind != "text"]


def reaches_import(content: bytes) -> bool:
    """Whether the opcodes from the first byte on name a module, each with enough operands before it.

    Without operands, the first byte of several real formats would be a call, which no unpickler executes.
    """
    depths = [0]  # items above each mark
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name in ("GLOBAL", "INST") and (opcode.name == "GLOBAL" or len(depths) > 1):
                module, _, name = str(argument).partition(" ")
                return could_exist(module, name) and is_standard(module)
            if opcode.name == "STOP":
                return False
            if pickletools.markobject in opcode.stack_before:
                depths.pop()
            fixed = takewhile(lambda operand: operand is not pickletools.markobject, opcode.stack_before)
            depths[-1] -= len(list(fixed))
            if depths[-1] < 0:
                return False
            if opcode.name == "MARK":
                depths.append(0)
            else:
                depths[-1] += len(opcode.stack_after)
    except Exception:  # noqa: BLE001  whatever it raises for a broken stream
        return False
    return False


@given(data=st.data())
@settings(max_examples=examples(500))
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_no_mutation_of_a_model_file_is_data_to_one_reader_and_code_to_an_unpickler(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Bytes of every format are changed, and pickles are put in front, behind and inside."""
    content = bytearray(data.draw(st.sampled_from(FAMILIES)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, min(len(content), 300)))
        piece = data.draw(OPERATIONS | st.sampled_from([CALL, *FRONTS[:4]]) | st.binary(max_size=3))
        content[at : at + data.draw(st.sampled_from([0, len(piece)]))] = piece
    path = tmp_path_factory.mktemp("mutated") / data.draw(NAMES)
    path.write_bytes(data.draw(st.sampled_from(PACKED))(bytes(content)))
    if runs(bytes(content)) or reaches_import(bytes(content)):
        assert identify(path) in CODE | {"unknown"}
