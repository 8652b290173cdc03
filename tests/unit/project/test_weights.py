"""Model files by content: what is data passes, what is code does not, and a name proves nothing."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from pydantic import ValidationError

from mlship.errors import UsageError
from mlship.project.config import AllowedPickle, Model
from mlship.project.formats import CODE, ModelFormat, identify
from mlship.project.onnx_header import Tensor, read_onnx
from mlship.project.pickles import is_pickle
from mlship.project.structure import boosters
from mlship.project.structure.schemas import structure_table
from mlship.project.weights import check_weights
from tests.helpers.hostile_files import CALL
from tests.helpers.model_files import bundle_index, good_files, hdf5, keras, message, npy, zipped
from tests.helpers.repos import onnx_bytes, onnx_proto, safetensors, write
from tests.helpers.sampling import examples

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


class Attack:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("false",)


NUMBERS = npy(np.zeros((3, 2), np.float32))
OBJECTS = npy(np.array([{"a": 1}], dtype=object))
# The length covers five bytes that the file lacks, and the tensor takes them back.
NEGATIVE = (35).to_bytes(8, "little") + b'{"w":{"data_offsets":[0,-5]}} '
PICKLE = pickle.dumps({"weights": list(range(100))})
TORCH = zipped({"model/data.pkl": PICKLE, "model/data/0": b"\0" * 8})


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (safetensors()[:-1], "unknown"),
        (safetensors() + b"\0", "unknown"),
        (NEGATIVE, "unknown"),
        (onnx_bytes()[:-1], "unknown"),
        (b'{"version": "1.0", "truncation": null}', "text"),
        ("tokenizer für alle".encode(), "text"),
        (("é" * 40000).encode(), "text"),
        (OBJECTS, "numpy-objects"),
        (npy(np.zeros(2, dtype=[("a", "f4"), ("b", "O")])), "numpy-objects"),
        (b"\x93NUMPY\x01\x00\xff\xffdamaged", "unknown"),
        (zipped({"a.npy": NUMBERS, "b.npy": OBJECTS}), "numpy-objects"),
        (TORCH, "torch"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + PICKLE, "torch"),
        (keras('{"class_name": "Lambda"}'), "keras-lambda"),
        (keras('{"class_name": "__lambda__", "config": {"value": "4wEA"}}'), "keras-lambda"),
        (keras('{"class_name": "function", "module": "os", "config": "system"}'), "keras-lambda"),
        (keras(r'{"class_name": "\u004cambda"}'), "keras-lambda"),
        (hdf5('{"class_name": "Lambda"}'), "keras-lambda"),
        (hdf5(r'{"class_name": "\u004cambda"}'), "keras-lambda"),
        (zipped({"a.txt": b"x"}), "unknown"),
        (LFS, "lfs-pointer"),
        (b"", "empty"),
        (bytes(range(256)), "unknown"),
        (b"N.B. this is a text", "text"),
        (b".", "text"),
        (b"cellar door\nand more.", "text"),
        (b"torch==2.8.0\nnumpy\ntransformers>=4\nRequests\n", "text"),
        (b"click\ncachetools\nRx\n", "text"),
        (b"(c) 2024 One\nTwo.\n", "text"),
        (b"onnxruntime\nbottleneck\n.", "text"),
        (b"(0cos\nsystem\n(S'id'\ntR.", "pickle"),
        (b"cos\nsystem\n(S'id'\ntR and garbage", "pickle"),
        (b"(lp0\n" + b"I1\na" * 20000, "pickle"),
    ],
)
def test_a_file_is_known_by_its_content_under_any_name(tmp_path: Path, content: bytes, kind: ModelFormat) -> None:
    for name in ("model.onnx", "README.md", "model.pkl"):
        path = tmp_path / name
        path.write_bytes(content)
        assert identify(path) == kind


@pytest.mark.parametrize("name", good_files())
def test_a_whole_file_of_each_format_is_accepted_and_a_cut_one_is_not(tmp_path: Path, name: str) -> None:
    kind, content = good_files()[name]
    (tmp_path / name).write_bytes(content)
    assert identify(tmp_path / name) == kind
    for damaged in (content[:-1], content + b"cos\nsystem\n(S'id'\ntR.") if kind != "text" else ():
        (tmp_path / name).write_bytes(damaged)
        assert identify(tmp_path / name) in CODE | {"unknown"}


def compressed_by_joblib() -> list[bytes]:
    return [zlib.compress(PICKLE, 3), gzip.compress(PICKLE, mtime=0), bz2.compress(PICKLE), lzma.compress(PICKLE)]


@pytest.mark.parametrize(
    "text",
    [
        "torch==2.8.0\ntorchvision\n",
        "ctranslate2>=4.0,<5\nhuggingface_hub>=0.21\ntokenizers>=0.13,<1\nonnxruntime>=1.14,<2 \nav>=11\n",
        "cog\nscipy==1.2.3\n",
        "itsdangerous==1.1.0\nJinja2==2.10.1\n",
        "(not) a pickle. oh no.\n",
    ],
)
def test_text_is_no_pickle_although_its_letters_are_opcodes(tmp_path: Path, text: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    assert identify(tmp_path / "requirements.txt") == "text"


class Caller:
    def __reduce__(self) -> tuple[object, tuple[()]]:
        return print, ()


@given(
    st.recursive(
        st.builds(Caller) | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    st.integers(min_value=0, max_value=5),
)
def test_what_calls_something_is_always_a_pickle(value: object, protocol: int) -> None:
    data = pickle.dumps((Caller(), value), protocol)
    assert is_pickle(io.BytesIO(data))
    assert is_pickle(io.BytesIO(data + b"trailing bytes"))


@pytest.mark.parametrize("data", [b"(S'ls'\nios\nsystem\n.", b"cos\nsystem\n(S'ls'\ntR.", b"(cos\nsystem\nS'ls'\no."])
def test_hand_written_pickles_are_found(data: bytes) -> None:
    assert is_pickle(io.BytesIO(data))
    assert is_pickle(io.BytesIO(data.rstrip(b".")))


@pytest.mark.parametrize("content", [*(pickle.dumps([1, {"a": 2}], p) for p in range(6)), *compressed_by_joblib()])
def test_pickles_of_every_protocol_and_compression_are_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(content)
    assert identify(path) == "pickle"


REQUIREMENT = st.from_regex(
    r"[A-Za-z][A-Za-z0-9._-]{0,12}(\[[a-z]{1,5}\])?([=<>~!]=[0-9]{1,2}(\.[0-9*]{1,3}){0,3})?", fullmatch=True
)


@given(st.lists(REQUIREMENT | st.just("# a comment") | st.just("-r other.txt"), min_size=1).map("\n".join))
@settings(max_examples=examples(200))
def test_requirements_are_never_taken_for_a_pickle(text: str) -> None:
    assert not is_pickle(io.BytesIO(f"{text}\n".encode()))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
@settings(max_examples=examples(200))
def test_every_pickle_of_a_value_is_recognized_by_its_opcodes(value: object) -> None:
    for protocol in range(6):
        assert is_pickle(io.BytesIO(pickle.dumps([value, Path("/")], protocol)))
        assert is_pickle(io.BytesIO(pickle.dumps([value], protocol)))


@given(st.binary(max_size=300) | st.sampled_from([PICKLE, TORCH, OBJECTS, NUMBERS]).map(lambda b: b[: len(b) // 2]))
@settings(max_examples=examples(200))
def test_no_content_makes_it_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "f"
    path.write_bytes(content)
    identify(path)


@given(st.data())
@settings(max_examples=examples(200))
def test_a_damaged_onnx_file_never_makes_it_raise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(onnx_bytes(external="w.bin"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "m.onnx"
    path.write_bytes(content)
    identify(path)


def test_the_onnx_header_is_what_the_onnx_library_reads(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(onnx_bytes(external="w.bin"))
    header = read_onnx(path)
    assert header is not None
    assert header.inputs == (Tensor("x", "float", (None, 4)),)  # not w: it has a value
    assert header.outputs == (Tensor("y", "float", (None, 2)),)
    assert header.external == {"w.bin": 32}
    assert str(header.inputs[0]) == "x float[N,4]"


def model(*weights: str, allow: tuple[AllowedPickle, ...] = ()) -> Model:
    return Model(load="m:load", sample="s.json", weights=weights, allow_pickle=allow)


def test_a_folder_is_expanded_in_order_and_text_beside_weights_is_fine(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "w/b/m.safetensors": safetensors(),
            "w/a.json": b"{}",
            "w/.hidden": b"\0",
            "m.onnx": onnx_bytes(),
        },
    )
    files = check_weights(tmp_path, model("w", "m.onnx", "w"))
    assert [(f.path, f.kind) for f in files] == [
        ("w/a.json", "text"),
        ("w/b/m.safetensors", "safetensors"),
        ("m.onnx", "onnx"),
    ]
    assert files[1].size == len(safetensors())


def test_the_data_file_of_an_onnx_model_is_known_through_it(tmp_path: Path) -> None:
    weights = bytes(range(128, 160))
    write(tmp_path, {"w/m.onnx": onnx_bytes(external="m.bin"), "w/m.bin": weights})
    assert [f.kind for f in check_weights(tmp_path, model("w"))] == ["onnx-data", "onnx"]
    (tmp_path / "w/m.bin").write_bytes(PICKLE)
    with pytest.raises(UsageError, match="pickle"):
        check_weights(tmp_path, model("w"))


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "fetch"),
        (LFS, "Git LFS", "git lfs pull"),
        (PICKLE, "is a pickle", "mlship convert"),
        (TORCH, "pickled PyTorch file", "mlship convert"),
        (OBJECTS, "Python objects", "allow_pickle=False"),
        (bytes(range(256)), "unknown format.*may be damaged or cut short", "ONNX"),
        (b"<html>404</html>", "named like onnx but contains text", "error page"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    write(tmp_path, {"m.onnx": content})
    with pytest.raises(UsageError, match=message) as caught:
        check_weights(tmp_path, model("m.onnx"))
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_missing_path_a_link_out_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    (repo / "none").mkdir(parents=True)
    write(tmp_path, {"outside.onnx": onnx_bytes()})
    (repo / "w").mkdir()
    (repo / "w/m.onnx").symlink_to("../../outside.onnx")
    with pytest.raises(UsageError, match="does not exist"):
        check_weights(repo, model("absent"))
    with pytest.raises(UsageError, match="out of the repository"):
        check_weights(repo, model("w"))
    with pytest.raises(UsageError, match="no files in"):
        check_weights(repo, model("none"))


@pytest.mark.parametrize("name", ["[1].onnx", "a*.onnx", "$(id).onnx", 'q".onnx', "x\n!**.onnx", "end.onnx "])
def test_names_in_a_folder_that_a_dockerfile_would_take_for_more_than_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"w/{name}": onnx_bytes()})
    with pytest.raises(UsageError, match="unsafe in a Dockerfile"):
        check_weights(tmp_path, model("w"))


def test_a_linked_folder_is_not_left_out_in_silence(tmp_path: Path) -> None:
    write(tmp_path, {"w/a.onnx": onnx_bytes(), "other/b.onnx": onnx_bytes()})
    (tmp_path / "w/other").symlink_to("../other")
    with pytest.raises(UsageError, match="w/other` is a symbolic link to a folder"):
        check_weights(tmp_path, model("w"))


def allow(path: Path, content: bytes) -> AllowedPickle:
    return AllowedPickle(path=path.name, sha256=hashlib.sha256(content).hexdigest(), reason="trained by us in 2024")


@pytest.mark.parametrize("content", [PICKLE, TORCH, OBJECTS, bytes(range(256)), *compressed_by_joblib()])
def test_an_allowed_file_passes_and_another_under_its_name_does_not(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(content)
    allowed = model("m.pkl", allow=(allow(path, content),))
    assert len(check_weights(tmp_path, allowed)) == 1
    path.write_bytes(content + b"\0")
    with pytest.raises(UsageError, match="is not the file that"):
        check_weights(tmp_path, allowed)


ATTACK = pickle.dumps(Attack())


@pytest.mark.parametrize(
    "content",
    [
        ATTACK,
        zlib.compress(ATTACK),
        gzip.compress(ATTACK, mtime=0),
        zipped({"m/data.pkl": ATTACK}),
        npy(np.array([Attack()], dtype=object)),
        zipped({"a.npy": npy(np.array([Attack()], dtype=object))}),
    ],
)
def test_an_allowed_file_that_would_call_the_system_is_refused_all_the_same(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="system"):
        check_weights(tmp_path, model("m.pkl", allow=(allow(path, content),)))
    assert capfd.readouterr().err == ""  # the scanner's own log stays out of the user's way


def test_gigabytes_are_not_read(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 32], "data_offsets": [0, 1 << 34]}}).encode()
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + (1 << 34))  # sparse: 16 GB, too large to hash in a second
    assert check_weights(tmp_path, model("m.safetensors"))[0].kind == "safetensors"


@pytest.mark.parametrize(
    ("external", "listed", "message", "hint"),
    [
        ("m.bin", ("m.onnx",), "tensors in `m.bin`, which does not exist", "download `m.bin`"),
        ("w/m.bin", ("m.onnx",), "tensors in `w/m.bin`, which is not in `model.weights`", "add `w/m.bin`"),
        ("x" * 300, ("m.onnx",), "x{200}…`, which does not exist", "download"),
        ("a/" * 30_000 + "m", ("m.onnx",), "(a/){100}…`, which does not exist", "download"),
        ("../m.bin", ("m.onnx",), "outside of its folder", "beside it"),
        ("/etc/passwd", ("m.onnx",), "outside of its folder, in `/etc/passwd`", "beside it"),
        ("w/../../m.bin", ("m.onnx",), "outside of its folder", "beside it"),
        (
            "short.bin",
            ("m.onnx", "short.bin"),
            "up to byte 32 of `short.bin`, which is shorter",
            "download `short.bin`",
        ),
        ("link.bin", ("m.onnx", "link.bin"), "`link.bin`, which is a symbolic link", "replace the link"),
    ],
)
def test_an_onnx_model_without_its_tensors_is_refused(
    tmp_path: Path, external: str, listed: tuple[str, ...], message: str, hint: str
) -> None:
    write(
        tmp_path,
        {"m.onnx": onnx_bytes(external=external), "w/m.bin": bytes(range(128, 160)), "short.bin": b"\x80" * 31},
    )
    (tmp_path / "link.bin").symlink_to("w/m.bin")
    with pytest.raises(UsageError, match=message) as caught:
        check_weights(tmp_path, model(*listed))
    assert hint in caught.value.hint


def test_tensors_of_a_subfolder_and_of_inner_graphs_are_found(tmp_path: Path) -> None:
    graph = onnx_proto(external="deep.bin").graph
    outer = onnx_proto()
    outer.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=graph, else_branch=graph))
    write(tmp_path, {"w/m.onnx": outer.SerializeToString()})
    with pytest.raises(UsageError, match=r"tensors in `w/deep\.bin`, which does not exist"):
        check_weights(tmp_path, model("w/m.onnx"))
    write(tmp_path, {"other/m.bin": b"\x80" * 32, "v/m.onnx": onnx_bytes(external="../other/m.bin")})
    with pytest.raises(UsageError, match=r"outside of its folder, in `other/m\.bin`"):
        check_weights(tmp_path, model("v", "other"))


def test_the_variables_of_a_saved_model_belong_to_it(tmp_path: Path) -> None:
    variables = {f"m/variables/variables.data-0000{n}-of-00002": bytes(range(128, 160)) for n in range(2)}
    beside = {"m/saved_model.pb": good_files()["saved_model.pb"][1], "m/fingerprint.pb": b"\x08\x01\x10\x02"}
    write(tmp_path, {**variables, **beside, "m/variables/variables.index": bundle_index(32, 32)})
    kinds = [file.kind for file in check_weights(tmp_path, model("m"))]
    assert kinds == ["savedmodel-data", "savedmodel", *["savedmodel-data"] * 3]
    for damaged in (bundle_index(32, 31), bundle_index(32), bundle_index(32, 32)[:-1], b"\0" * 48):
        write(tmp_path, {"m/variables/variables.index": damaged})
        with pytest.raises(UsageError, match="unknown format"):
            check_weights(tmp_path, model("m"))


@pytest.mark.parametrize(("layer", "kind"), [("Dense", "savedmodel-data"), ("Lambda", "keras-lambda")])
def test_layers_that_are_code_are_found_beside_a_saved_model(tmp_path: Path, layer: str, kind: ModelFormat) -> None:
    path = tmp_path / "keras_metadata.pb"
    path.write_bytes(message(1, message(5, b'{"class_name": "%s"}' % layer.encode())))
    assert identify(path) == kind


def hub_cache(repo: Path) -> str:
    """A model in the cache of the Hugging Face Hub: links to blobs."""
    cache = repo / "hub/models--org--digits"
    write(cache, {"blobs/9f86d0": onnx_bytes(), "blobs/0f86d1": "{}", "refs/main": "abc"})
    snapshot = cache / "snapshots/abc"
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/0f86d1")
    (snapshot / "onnx/model.onnx").symlink_to("../../../blobs/9f86d0")
    return "hub/models--org--digits/snapshots/abc"


def test_the_cache_of_the_hub_is_shipped_once(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    write(tmp_path, {"hub/models--org--digits/blobs/without-link": "{}"})
    paths = [file.path for file in check_weights(tmp_path, model("hub"))]
    assert paths == [
        "hub/models--org--digits/blobs/without-link",
        "hub/models--org--digits/refs/main",
        f"{snapshot}/config.json",
        f"{snapshot}/onnx/model.onnx",
    ]


@pytest.mark.parametrize("name", ["modèle.onnx", "模型.onnx", "model (1).onnx", "m'.onnx", "m$.onnx"])
def test_a_name_that_the_build_would_not_find_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, {f"w/{name}": onnx_bytes()})
    with pytest.raises(UsageError, match="ASCII letters"):
        check_weights(tmp_path, model("w"))
    with pytest.raises(ValidationError, match="ASCII letters"):
        model(f"w/{name}")


def test_element_types_have_the_numbers_of_onnx() -> None:
    names = {number: TensorProto.DataType.Name(number).lower() for number in structure_table().elements}
    assert names == structure_table().elements


def test_a_json_model_of_empty_objects_is_refused_before_it_takes_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosters, "_CONTAINERS", 1000)
    monkeypatch.setattr(boosters, "from_json", lambda _: pytest.fail("parsed"))
    (tmp_path / "m.json").write_bytes(b'{"learner":[' + b"{}," * 1000 + b"1]}")
    assert identify(tmp_path / "m.json") != "xgboost"


def test_a_large_json_model_is_checked_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosters, "_JSON", 1 << 12)
    tree = {"split_conditions": [0.123456] * 20, "left": [1] * 20}
    text = json.dumps({"learner": {"trees": [tree] * 120}, "version": [3, 0, 0]}).encode()
    two, inner = b'{"learner": {}}' + text, text.replace(b"[1, 1", b"[1,, 1", 1)
    damaged = (text[:-1], text + CALL, two, inner)
    for content, kind in ((text, "xgboost"), *((each, "unknown") for each in damaged)):
        (tmp_path / "m.json").write_bytes(content)
        assert identify(tmp_path / "m.json") == kind
