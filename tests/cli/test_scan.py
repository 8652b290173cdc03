"""`mlship scan`: findings in files, folders and images, as text and JSON, and its exit codes."""

import gzip
import json
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import mlship.cli.scan
import mlship.engine
from mlship.cli.app import app
from mlship.project.formats import ModelFormat, identify
from mlship.scan import image as scan
from mlship.scan.image import scan_image
from tests.helpers.fakes import FakeEngine
from tests.helpers.hostile_files import CALL, hostile_files
from tests.helpers.layouts import Image, Tree, chunks, layout
from tests.helpers.model_files import good_files, hdf5, zipped
from tests.helpers.repos import onnx_bytes, safetensors, write
from tests.helpers.saved_images import files_tar, saved_image
from tests.helpers.smoke_events import IMAGE as INFO


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["scan", *arguments])


def test_a_folder_of_data_is_clean(tmp_path: Path) -> None:
    write(tmp_path, {name: content for name, (_, content) in good_files().items()})
    result = run(str(tmp_path))
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}: {len(good_files())} files read; 0 run code when loaded, 0 unknown, " in result.stdout


TEXTS = {
    "model.yaml": b"a: !!python/object/apply:os.system [id]\n",
    "tagged.yaml": b"a: !<tag:yaml.org,2002:python/object/apply:os.system> [id]\n",
    "long.json": b'{"a": "' + b"b" * 100_000 + b'", "py/function": "os.system"}',
    "state.json": b'{"py/reduce": [{"py/function": "os.system"}]}',
    "architecture.json": b'{"class_name": "Sequential", "config": {"layers": [{"class_name" : "Lambda"}]}}',
}


def test_a_text_that_names_code_is_unknown_in_folders_and_images(tmp_path: Path) -> None:
    clean = {"a.yaml": b"a: !!python/tuple [1]\n", "b.json": b'{"class_name": "Dense"}', "c.txt": TEXTS["model.yaml"]}
    write(tmp_path, {**TEXTS, **clean})
    report = json.loads(run(str(tmp_path), "--json").stdout)
    assert {file["path"]: file["verdict"] for file in report["files"]} == dict.fromkeys(TEXTS, "unknown")
    saved = saved_image([{f"app/{name}": text for name, text in {**TEXTS, **clean}.items()}], {})
    assert {file.path for file in scan_image(chunks(saved), "a:1").files} == {f"app/{name}" for name in TEXTS}


@pytest.mark.parametrize(
    "name", ["a.pte", "a.pt2", "a.rds", "m.ckpt-1.data-00000-of-00001", "m.ckpt.meta", "a.pdiparams"]
)
def test_a_file_named_like_a_model_is_not_left_out(name: str, tmp_path: Path) -> None:
    write(tmp_path, {name: b"\x07\xff\0" * 9})
    assert f"unknown  {name}: has an unknown format" in run(str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("name", "content", "listed"),
    [
        ("weights", zipped({"a.txt": b"words", "b.gz": gzip.compress(CALL)}), True),
        ("a.whl", zipped({"a.py": b"import os"}), False),
        ("checkpoint", b"\x93NUMPY\x01\0\x10\0garbage", True),
        ("notes", b"words", False),
    ],
)
def test_a_broken_model_without_a_name_is_not_left_out(name: str, content: bytes, listed: bool, tmp_path: Path) -> None:
    write(tmp_path, {name: content})
    assert (f"unknown  {name}: has an unknown format" in run(str(tmp_path)).stdout) is listed


def test_a_long_scan_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.onnx": onnx_bytes(), "b.onnx": onnx_bytes()})
    assert "scanned" not in run(str(tmp_path)).stderr
    monkeypatch.setattr(mlship.cli.scan, "_SILENT_S", -1.0)
    result = run(str(tmp_path), "--json")
    assert result.stderr == f"• {tmp_path}: 0 of 2 files scanned\n• {tmp_path}: 1 of 2 files scanned\n"
    assert json.loads(result.stdout)["read"] == 2


def test_what_is_not_read_is_named_and_not_clean(tmp_path: Path) -> None:
    write(tmp_path, {"in/model.onnx": onnx_bytes(), "out/model.pkl": b"x"})
    (tmp_path / "in/same.onnx").symlink_to("model.onnx")
    assert run(str(tmp_path / "in")).exit_code == 0
    (tmp_path / "in/loop").symlink_to("loop")
    assert run(str(tmp_path / "in")).exit_code == 0
    (tmp_path / "in/far").symlink_to(tmp_path / "out")
    (tmp_path / "in/far.pkl").symlink_to("../out/model.pkl")
    os.mkfifo(tmp_path / "in/pipe")
    result = run(str(tmp_path / "in"))
    assert result.exit_code == 1
    for name in ("far: a link", "far.pkl: a link", "pipe: not a regular file"):
        assert name in result.stdout
    device = run(str(tmp_path / "in/pipe"))
    assert (device.exit_code, "is neither a file nor a folder" in device.stderr) == (2, True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar", files_tar({"a.pkl": pickle.dumps({})})),
        ("a.zst", b"\x28\xb5\x2f\xfd" + bytes(100)),
        ("chat.jinja", b"{{ cycler.__init__.__globals__ }}"),
    ],
)
def test_a_model_that_names_a_file_as_its_tensors_does_not_make_it_data(
    tmp_path: Path, name: str, content: bytes
) -> None:
    write(tmp_path, {name: content.ljust(32), "m.onnx": onnx_bytes(external=name)})
    found = {one["path"]: one["verdict"] for one in json.loads(run(str(tmp_path), "--json").stdout)["files"]}
    assert found == {name: "code" if name == "chat.jinja" else "unknown", "m.onnx": "data"}


def test_models_that_name_each_other_stay_models(tmp_path: Path) -> None:
    write(tmp_path, {"a.onnx": onnx_bytes(external="b.onnx"), "b.onnx": onnx_bytes(external="a.onnx")})
    assert {one["kind"] for one in json.loads(run(str(tmp_path), "--json").stdout)["files"]} == {"onnx"}


def test_a_file_of_the_kernel_without_a_size_is_not_read() -> None:
    assert run("/proc/self/status").stdout.startswith("unknown  status: is empty")


def test_each_finding_is_named_with_what_it_uses(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.onnx": onnx_bytes(external="gone.bin"),
            "b/model.pkl": pickle.dumps({"w": np.zeros(3)}),
            "b/attack": CALL,
            "chat_template.jinja": "{{ x.__class__ }}",
            "raw.bin": bytes(range(256)),
            "words.pt": b"words\n",
            "code.py": b"import os\n",
        },
    )
    result = run(str(tmp_path))
    assert result.exit_code == 1
    template = "a chat template that reaches out of its sandbox"
    numpy = "numpy._core.multiarray._reconstruct, numpy.dtype, numpy.ndarray"
    assert result.stdout.splitlines() == [
        "code     b/attack: is a pickle, which runs code when loaded; uses os.system, which no known framework needs",
        f"code     b/model.pkl: is a pickle, which runs code when loaded; uses {numpy}",
        f"code     chat_template.jinja: has {template}; uses chat_template.__class__, which no known framework needs",
        "unknown  a.onnx: `a.onnx` has tensors in `gone.bin`, which does not exist",
        "unknown  raw.bin: has an unknown format, so it may run code when loaded",
        "unknown  words.pt: is text under the name of a model",
        f"{tmp_path}: 7 files read; 3 run code when loaded, 3 unknown, 0 data",
    ]


@pytest.mark.slow
def test_no_hostile_file_is_clean(tmp_path: Path) -> None:
    for name, content in hostile_files():
        path = tmp_path / name
        path.write_bytes(content)
        assert run(str(path)).exit_code == 1, name
        path.unlink()


def test_json_has_the_names(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(CALL)
    result = run(str(tmp_path / "m.pkl"), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["files"][0] | {"size": 0} == {
        "path": "m.pkl",
        "kind": "pickle",
        "verdict": "code",
        "size": 0,
        "uses": ["os.system"],
        "foreign": ["os.system"],
        "problem": None,
        "layer": None,
    }


TREES: list[Tree] = [
    {"app": None, "app/weights/m.safetensors": safetensors(), "usr/bin/sh": b"\x7fELF", "app/link": "weights"},
    {"usr/lib/python3/dist-packages/x.pth": b"import x"},
    {"opt/attack.pkl": CALL, "opt/tokenizer_config.json": json.dumps({"chat_template": "{{ x.__init__ }}"}).encode()},
    {"opt/.wh.attack.pkl": b"", "opt/saved_model.pb": good_files()["saved_model.pb"][1]},
]


@pytest.mark.parametrize("how", ["gzip", "zstd", "plain"])
def test_an_image_is_read_from_its_layers(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a file that a later layer removes, which is in the image nevertheless."""
    engine = FakeEngine(images={"app:1": INFO}, saved={"app:1": Image(TREES, how=how).saved()})
    monkeypatch.setattr(mlship.engine, "connect", lambda: engine)
    result = run("app:1")
    assert result.exit_code == 1
    assert re.sub(r"\s+", " ", result.stdout).strip() == (
        "code opt/attack.pkl: is a pickle, which runs code when loaded; uses os.system, which no known framework needs "
        "code opt/tokenizer_config.json: has a chat template that reaches out of its sandbox; uses "
        "chat_template.__init__, which no known framework needs "
        "data app/weights/m.safetensors: safetensors "
        "data opt/saved_model.pb: a TensorFlow SavedModel "
        "app:1: 7 files read; 2 run code when loaded, 0 unknown, 2 data"
    )


def test_packed_files_of_an_image_are_unknown_whatever_their_names() -> None:
    tar = files_tar({"model.pkl": CALL})
    image = Image([{"opt/a": tar, "opt/b": gzip.compress(tar), "opt/c": b"\x28\xb5\x2f\xfd" + bytes(range(200))}])
    found = scan_image(chunks(image.saved()), "app:1").files
    assert [(file.path, file.verdict) for file in found] == [(f"opt/{name}", "unknown") for name in "abc"]


def test_an_image_of_data_is_clean_and_a_layer_that_cannot_be_read_is_not() -> None:
    clean = Image([{"m.onnx": onnx_bytes(), "x.py": b"import os"}])
    assert scan_image(chunks(clean.saved()), "app:1").is_clean
    blobs, manifest = clean.blobs()
    blobs["blobs/sha256/" + "a" * 64] = b"\x04\x22\x4d\x18" + b"?" * 1000
    found = scan_image(chunks(layout(blobs, {"manifests": [{"digest": manifest}]})), "app:1")
    assert found.unread == ("layer aaaaaaaaaaaa: unknown compression",)
    assert not found.is_clean


@pytest.mark.parametrize(("free", "verdict"), [(1 << 40, "data"), (1 << 23, "unknown")])
def test_of_a_large_file_what_was_not_read_is_unknown(monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=free))
    monkeypatch.setattr(scan, "_COPIED", 1 << 21)
    monkeypatch.setattr(scan, "_ENDS", 1 << 20)
    large = hdf5("x" * (5 << 20))
    tensors = safetensors((0.0,) * (1 << 20))
    image = Image([{"m.h5": large, "m.safetensors": tensors}])
    kinds = {file.path: (file.kind, file.verdict) for file in scan_image(chunks(image.saved()), "app:1").files}
    assert kinds == {"m.h5": ("hdf5", verdict), "m.safetensors": ("safetensors", "data")}


@pytest.mark.parametrize("path", ["./gone", "gone.pt", "models/gone.safetensors", "model.tar.gz"])
def test_a_path_that_does_not_exist_is_no_image(path: str) -> None:
    result = run(path)
    assert result.exit_code == 2
    assert f"no file or folder `{path}`" in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.tar", files_tar({"model.pkl": b"x"})),
        ("model.tar.gz", gzip.compress(files_tar({"model.pkl": b"x"}))),
        ("model.pkl.zst", b"\x28\xb5\x2f\xfd" + bytes(range(200))),
        ("weights", b"Rar!\x1a\x07\x01\x00" + bytes(range(200))),
        ("weights", b"LZIP\x01" + bytes(range(200))),
    ],
)
def test_what_is_packed_is_to_be_unpacked(tmp_path: Path, name: str, content: bytes) -> None:
    write(tmp_path, {name: content})
    result = run(str(tmp_path / name))
    assert (result.exit_code, f"unknown  {name}: is packed: unpack it" in result.stdout) == (1, True), result.stdout


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a.onnx": onnx_bytes(), "b.pkl": CALL})

    def denied(path: Path) -> ModelFormat:
        if path.name == "a.onnx":
            raise PermissionError(13, "Permission denied", str(path))
        return identify(path)

    monkeypatch.setattr("mlship.scan.files.identify", denied)
    result = run(str(tmp_path))
    assert result.exit_code == 1
    assert "unknown  a.onnx: Permission denied\n" in result.stdout
    assert "code     b.pkl: is a pickle" in result.stdout
    assert run(str(tmp_path / "a.onnx")).exit_code == 2
