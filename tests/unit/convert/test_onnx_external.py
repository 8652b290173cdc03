"""ONNX models whose tensors were moved into a second file: the same model, and the same answers."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlship.convert.onnx_external import compare_external
from mlship.errors import CheckFailed, UsageError
from mlship.project.training import read_training
from mlship.project.weights import external_files
from tests.helpers.command import mlship_in_process
from tests.helpers.conversions import convert_here


def model(path: Path, *, width: int = 64) -> Path:
    """Two layers; the first one's weights are raw bytes, the second one's are numbers of the message."""
    numbers = np.random.default_rng(0)
    first = numpy_helper.from_array(numbers.normal(size=(width, width)).astype(np.float32), "first")
    second = helper.make_tensor("second", TensorProto.FLOAT, [width, 3], numbers.normal(size=width * 3).tolist())
    bias = numpy_helper.from_array(np.ones(3, np.float32), "bias")
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["h"]),
        helper.make_node("MatMul", ["h", "second"], ["o"]),
        helper.make_node("Add", ["o", "bias"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph(nodes, "g", [x], [y], [first, second, bias])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, {"author": "team"})
    onnx.save(made, path)
    return path


def answer(path: Path) -> bytes:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    return bytes(np.asarray(session.run(None, {"x": x})[0]).tobytes())


def test_the_model_and_its_answers_are_the_same(tmp_path: Path) -> None:
    source, target = model(tmp_path / "model.onnx"), tmp_path / "out/model.onnx"
    target.parent.mkdir()
    before = source.read_bytes()
    done = convert_here(source, target)
    assert (done.tensors, done.files) == (1, (str(target), f"{target}.data"))
    onnx.checker.check_model(str(target), full_check=True)
    assert answer(target) == answer(source)
    assert source.read_bytes() == before
    assert external_files(target.parent, "model.onnx") == {"model.onnx.data": 64 * 64 * 4}
    loaded, original = onnx.load(target), onnx.load(source)
    assert [numpy_helper.to_array(one).tobytes() for one in loaded.graph.initializer] == [
        numpy_helper.to_array(one).tobytes() for one in original.graph.initializer
    ]
    assert loaded.metadata_props == original.metadata_props
    assert target.stat().st_size < 3000


def test_a_difference_is_found(tmp_path: Path) -> None:
    source, target = model(tmp_path / "model.onnx"), tmp_path / "mapped.onnx"
    convert_here(source, target)
    data = tmp_path / "mapped.onnx.data"
    for path in (target, data):
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 50)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(CheckFailed, match="differs after the conversion"):
                compare_external(source, target, data)
        path.write_bytes(whole)
    compare_external(source, target, data)


def test_nothing_to_move(tmp_path: Path) -> None:
    source = model(tmp_path / "model.onnx", width=2)
    with pytest.raises(UsageError, match="has no tensor of 1024 bytes or more"):
        convert_here(source, tmp_path / "mapped.onnx")
    big = model(tmp_path / "big.onnx")
    convert_here(big, tmp_path / "mapped.onnx")
    with pytest.raises(UsageError, match="has tensors in other files already"):
        convert_here(tmp_path / "mapped.onnx", tmp_path / "again.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "big.onnx",
        "mapped.onnx",
        "mapped.onnx.data",
        "model.onnx",
    ]


def test_the_new_files_get_a_record(tmp_path: Path) -> None:
    source = model(tmp_path / "model.onnx")
    digest = sha256(source.read_bytes()).hexdigest()
    described = {"model.onnx": {"sha256": digest, "size": source.stat().st_size}}
    record = {
        "schema": 1,
        "created": "2026-11-29T02:44:09+00:00",
        "packages": {},
        "files": described,
        "metrics": {"a": 1},
    }
    (tmp_path / "metadata.json").write_text(json.dumps(record))
    (tmp_path / "out").mkdir()
    done = mlship_in_process("convert", "model.onnx", "out/model.onnx", "--record", "metadata.json", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout == (
        "wrote out/model.onnx, out/model.onnx.data: 1 tensor compared, the same bit for bit\nwrote out/metadata.json\n"
    )
    made = read_training(tmp_path / "out/metadata.json", "metadata.json")
    assert set(made.files) == {"model.onnx", "model.onnx.data"}
    written = json.loads((tmp_path / "out/metadata.json").read_text())
    assert (written["metrics"], written["converted"]["sha256"]) == ({"a": 1}, digest)
    model(source, width=32)
    again = mlship_in_process("convert", "model.onnx", "out/other.onnx", "--record", "metadata.json", cwd=tmp_path)
    assert again.code == 2


@pytest.mark.parametrize(
    ("source", "target", "text"),
    [
        ("model.onnx", "model.safetensors", "cannot convert `model.onnx` to `model.safetensors`"),
        ("none.onnx", "a.onnx", "no file `none.onnx`"),
        ("text.pkl", "a.onnx", "is not a torch state dict"),
        ("model.onnx", "none/a.onnx", "no folder `none`"),
    ],
)
def test_conversions_that_do_not_exist(tmp_path: Path, source: str, target: str, text: str) -> None:
    model(tmp_path / "model.onnx")
    (tmp_path / "text.pkl").write_bytes(b"\x80\x04N.")
    done = mlship_in_process("convert", source, target, cwd=tmp_path)
    assert (done.code, text in done.stderr) == (2, True)
