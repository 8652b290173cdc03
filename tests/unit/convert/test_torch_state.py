"""State dicts that torch wrote become safetensors with the same values; a pickle that wants more is refused."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import MlshipError, UsageError
from mlship.project.formats import identify
from tests.helpers.command import mlship_in_process
from tests.helpers.conversions import convert_here

FIXTURES = Path(__file__).parents[2] / "fixtures/torch"
NUMPY = {
    "F64": "f8",
    "F32": "f4",
    "F16": "f2",
    "I64": "i8",
    "I32": "i4",
    "I16": "i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}


def read(path: Path) -> dict[str, dict[str, object]]:
    """What the library of the format reads."""
    found = {}
    for name, row in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        data, dtype = bytes(row["data"]), str(row["dtype"])
        if dtype == "BF16":
            array = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            array = np.frombuffer(data, NUMPY[dtype])
        found[name] = {"shape": list(row["shape"]), "values": array.astype(np.float32).tolist()}
    return found


@pytest.mark.parametrize(("name", "key"), [("state.pt", None), ("checkpoint.pt", "model")])
def test_the_values_are_those_that_torch_sees(tmp_path: Path, name: str, key: str | None) -> None:
    target = tmp_path / "model.safetensors"
    before = (FIXTURES / name).read_bytes()
    done = convert_here(FIXTURES / name, target, key)
    expected = json.loads((FIXTURES / "state.json").read_text())
    assert (done.tensors, done.files) == (len(expected), (str(target),))
    assert read(target) == expected
    assert (identify(target), (FIXTURES / name).read_bytes()) == ("safetensors", before)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "key", "message", "hint"),
    [
        ("checkpoint.pt", None, "has more than tensors: 'epoch', 'model', 'optimizer'", "--key model"),
        ("checkpoint.pt", "epoch", "the key `epoch` of .* is no dictionary of tensors", "state_dict"),
        ("checkpoint.pt", "other", "the key `other` of .* is no dictionary of tensors", "state_dict"),
        ("module.pt", None, "would use torch.nn.modules.container.Sequential", "do not load"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, name: str, key: str | None, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        convert_here(FIXTURES / name, tmp_path / "model.safetensors", key)
    assert hint in caught.value.hint
    assert not list(tmp_path.iterdir())


class _Runs:
    def __init__(self, call: object, *arguments: object) -> None:
        self._call = (call, arguments)

    def __reduce__(self) -> object:  # type: ignore[override]
        return self._call


def _hostile(pickled: bytes, folder: Path) -> Path:
    path = folder / "hostile.pt"
    with zipfile.ZipFile(FIXTURES / "state.pt") as source, zipfile.ZipFile(path, "w") as made:
        for member in source.infolist():
            made.writestr(member, pickled if member.filename.endswith("data.pkl") else source.read(member))
    return path


@pytest.mark.parametrize(
    "pickled",
    [
        pickle.dumps({"w": _Runs(Path.touch, Path("ran"))}),
        pickle.dumps({"w": _Runs(eval, "open('ran', 'w')")}),
        b"cos\nsystem\n(S'touch ran'\ntR.",
        b"cmlship.convert.torch_state\npickle\n.",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_parameter.__globals__\x93.",
    ],
)
def test_no_code_of_a_pickle_runs(tmp_path: Path, pickled: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = _hostile(pickled, tmp_path)
    with pytest.raises(UsageError, match="would use"):
        convert_here(path, tmp_path / "model.safetensors")
    assert [one.name for one in tmp_path.iterdir()] == ["hostile.pt"]


def _text(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


@pytest.mark.parametrize(("call", "dtype"), [("v2", b""), ("v3", b"ctorch\nuint16\n")])
@pytest.mark.parametrize(("metadata", "converts"), [(b"", True), (b"}", True), (b"}" + _text("neg") + b"\x88s", False)])
def test_a_tensor_that_is_stored_negated_is_refused(
    tmp_path: Path, call: str, dtype: bytes, metadata: bytes, converts: bool
) -> None:
    """As of `x.conj().imag`: torch writes the bytes of `x`, and a bit that negates them."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu") + b"K\x01tQ"
    tensor = b"(" + storage + b"K\x00K\x01\x85K\x01\x85\x89}" + dtype + metadata + b"tR"
    pickled = b"\x80\x02}" + _text("w") + f"ctorch._utils\n_rebuild_tensor_{call}\n".encode() + tensor + b"s."
    path, target = _hostile(pickled, tmp_path), tmp_path / "model.safetensors"
    if converts:
        assert convert_here(path, target).tensors == 1
        return
    with pytest.raises(UsageError, match="stored negated or conjugated"):
        convert_here(path, target)
    assert not target.exists()


@pytest.mark.parametrize(
    "pickled",
    [b"", b".", b"N.", b"}.", b"(d", b"\x80\x04r\xff\xff\xff\x7f.", b"Pstorage\n.", b"(" * 1000, b"\x8d" + b"\xff" * 8],
)
def test_damaged_pickles(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(UsageError):
        convert_here(_hostile(pickled, tmp_path), tmp_path / "model.safetensors")


@given(st.data())
def test_a_damaged_file_is_refused_or_converted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Never a traceback, and never a file that has other tensors than its source."""
    whole = (FIXTURES / "state.pt").read_bytes()
    folder = tmp_path_factory.mktemp("damaged")
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    (folder / "a.pt").write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    try:
        convert_here(folder / "a.pt", folder / "a.safetensors")
    except MlshipError:
        assert not (folder / "a.safetensors").exists()


def test_a_flipped_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    """The archive has a checksum of each storage."""
    whole = bytearray((FIXTURES / "state.pt").read_bytes())
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        name = next(info for info in archive.infolist() if info.filename.endswith("/data/0"))
    whole[name.header_offset + 30 + len(name.filename) + 100] ^= 1
    (tmp_path / "a.pt").write_bytes(whole)
    with pytest.raises(UsageError, match=r"is damaged|is neither"):
        convert_here(tmp_path / "a.pt", tmp_path / "a.safetensors")


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "model.safetensors"
    target.write_text("mine")
    done = mlship_in_process("convert", str(FIXTURES / "state.pt"), str(target), cwd=tmp_path)
    assert (done.code, f"error: `{target}` already exists" in done.stderr) == (2, True)
    assert target.read_text() == "mine"
