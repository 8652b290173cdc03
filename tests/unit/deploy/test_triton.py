"""The model repository for Triton, read by the schema of NVIDIA's client."""

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnx
import pytest
from google.protobuf import json_format, text_format  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlship.deploy.triton import triton_config
from mlship.project.onnx_header import OnnxHeader, Tensor
from tests.helpers.command import mlship_in_process
from tests.helpers.toy import toy

YAML = """
name: toy
model: {weights: [%s], sample: sample.json}
serve: {command: [python, -m, serving]}
source: [sample.json]
"""
ELEMENTS = ("float", "double", "float16", "bfloat16", "bool", "string", "int8", "uint64")


@cache
def schema() -> ModuleType:
    """`tritonclient.grpc` needs grpcio, its generated schema does not."""
    found = importlib.util.find_spec("tritonclient")
    assert found is not None
    assert found.submodule_search_locations
    file = Path(next(iter(found.submodule_search_locations)), "grpc/model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(text: str) -> SimpleNamespace:
    """The configuration as Triton reads it; `dims` are numbers, and a field that is absent is no attribute."""
    message = text_format.Parse(text, schema().ModelConfig())
    found: SimpleNamespace = json.loads(
        json_format.MessageToJson(message, preserving_proto_field_name=True),
        object_hook=lambda row: SimpleNamespace(
            **{**row, **({"dims": [*map(int, row["dims"])]} if "dims" in row else {})}
        ),
    )
    return found


def model(
    inputs: dict[str, list[int | str | None]], outputs: dict[str, list[int | str | None]], domain: str = ""
) -> bytes:
    """A model of these tensors; its operators need not make sense."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    nodes = [helper.make_node("Identity", [next(iter(inputs))], [name], domain=domain) for name in outputs]
    graph = helper.make_graph(nodes, "toy", given, made)
    return bytes(helper.make_model(graph).SerializeToString())


def repository(folder: Path, files: dict[str, bytes], sample: object = None) -> Path:
    repo = toy(folder, mlship_yaml=YAML % ", ".join(files))
    for name, data in files.items():
        (repo / name).write_bytes(data)
    (repo / "sample.json").write_text(json.dumps(sample))
    return repo


def test_a_model_with_a_batch_axis(tmp_path: Path) -> None:
    data = model({"x": ["N", 3, None]}, {"y": ["N", 2], "score": ["N"]})
    repo = repository(tmp_path, {"m.onnx": data}, {"x": [[[0.5, 1], [0, 0], [1, 1]]]})
    done = mlship_in_process("export", str(tmp_path / "out"), "--as", "triton", cwd=repo)
    assert done.code == 0, done.stderr
    assert {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")} == {
        "toy/config.pbtxt",
        "toy/1/model.onnx",
    }
    assert (tmp_path / "out/toy/1/model.onnx").read_bytes() == data
    found = parsed((tmp_path / "out/toy/config.pbtxt").read_text())
    assert (found.name, found.backend, found.max_batch_size) == ("toy", "onnxruntime", 8)
    assert hasattr(found, "dynamic_batching")
    assert [(one.name, list(one.dims)) for one in (*found.input, *found.output)] == [
        ("x", [3, -1]),
        ("y", [2]),
        ("score", [1]),
    ]
    assert hasattr(found.output[1], "reshape")
    assert not hasattr(found.output[0], "reshape")
    assert [group.kind for group in found.instance_group] == ["KIND_CPU"]
    assert [(one.batch_size, list(one.inputs.x.dims)) for one in getattr(found, "model_warmup", [])] == [
        (1, [3, 2]),
        (8, [3, 2]),
    ]


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"x": [1, 4]}, {"y": ["N", 2]}),
        ({"x": ["N", 4], "z": ["M", 4]}, {"y": ["N", 2]}),
        ({"x": ["N", 4], "z": []}, {"y": ["N", 2]}),
    ],
)
def test_a_model_without_a_batch_axis(
    tmp_path: Path, inputs: dict[str, list[int | str | None]], outputs: dict[str, list[int | str | None]]
) -> None:
    repo = repository(tmp_path, {"m.onnx": model(inputs, outputs)})
    done = mlship_in_process("export", str(tmp_path / "out"), "--as", "triton", cwd=repo)
    assert done.code == 0, done.stderr
    found = parsed((tmp_path / "out/toy/config.pbtxt").read_text())
    assert not hasattr(found, "max_batch_size")
    assert not hasattr(found, "dynamic_batching")
    assert [len(one.dims) for one in found.input] == [max(1, len(shape)) for shape in inputs.values()]
    assert hasattr(found, "model_warmup") is all(isinstance(size, int) for shape in inputs.values() for size in shape)
    assert ("no warm-up" in done.stderr + done.stdout) is not hasattr(found, "model_warmup")


@pytest.mark.parametrize(
    ("sample", "dims"),
    [
        ({"x": [[1, 2]]}, [2]),
        ({"inputs": [{"name": "x", "shape": [4, 5], "datatype": "FP32", "data": []}]}, None),
        ({"other": [[1, 2]]}, None),
        ({"x": [1, 2]}, None),
        ({"x": [[]]}, None),
        ([[1, 2]], None),
        ("text", None),
    ],
)
def test_the_shape_of_the_warm_up(tmp_path: Path, sample: object, dims: list[int] | None) -> None:
    repo = repository(tmp_path, {"m.onnx": model({"x": ["N", "L"]}, {"y": ["N"]})}, sample)
    assert mlship_in_process("export", str(tmp_path / "out"), "--as", "triton", cwd=repo).code == 0
    found = parsed((tmp_path / "out/toy/config.pbtxt").read_text())
    assert [list(one.inputs.x.dims) for one in getattr(found, "model_warmup", [])] == (
        [] if dims is None else [dims, dims]
    )


def test_several_models_and_their_data_files(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(model({"x": ["N", 2]}, {"y": ["N", 2]}))
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", "8")):
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    files = {"a.onnx": bytes(proto.SerializeToString()), "b.onnx": model({"x": [2]}, {"y": [2]}), "w.bin": b"12345678"}
    repo = repository(tmp_path, files)
    done = mlship_in_process("export", str(tmp_path / "out"), "--as", "triton", cwd=repo)
    assert done.code == 0, done.stderr
    assert (tmp_path / "out/a/1/w.bin").read_bytes() == b"12345678"
    assert not (tmp_path / "out/b/1/w.bin").exists()


def test_what_triton_cannot_serve_is_refused(tmp_path: Path) -> None:
    label = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    proto = onnx.load_model_from_string(model({"x": ["N", 2]}, {"y": ["N", 2]}))
    proto.graph.output.append(helper.make_value_info("probabilities", helper.make_sequence_type_proto(label)))
    shapeless = onnx.load_model_from_string(model({"x": ["N", 2]}, {"y": ["N", 2]}))
    shapeless.graph.output[0].type.tensor_type.ClearField("shape")
    cases = {
        "map": (proto.SerializeToString(), "`probabilities` is no tensor"),
        "shapeless": (shapeless.SerializeToString(), "dimensions of `y` is unknown"),
        "custom": (model({"x": [2]}, {"y": [2]}, domain="my.ops"), "operators of `my.ops`"),
        "other": (b"one line of text\n", "no ONNX model"),
    }
    for name, (data, words) in cases.items():
        (tmp_path / name).mkdir()
        repo = repository(tmp_path / name, {"m.txt" if name == "other" else "m.onnx": bytes(data)})
        done = mlship_in_process("export", str(tmp_path / f"{name}-out"), "--as", "triton", cwd=repo)
        assert (done.code, words in done.stderr) == (2, True), done.stderr
        assert not (tmp_path / f"{name}-out").exists()


def test_operators_that_the_file_defines_need_no_library(tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(model({"x": [2]}, {"y": [2]}, domain="pkg.torch_lib"))
    opset = [helper.make_opsetid("", 18)]
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto.functions.append(helper.make_function("pkg.torch_lib", "Identity", ["a"], ["b"], body, opset))
    repo = repository(tmp_path, {"m.onnx": bytes(proto.SerializeToString())})
    done = mlship_in_process("export", str(tmp_path / "out"), "--as", "triton", cwd=repo)
    assert done.code == 0, done.stderr


def test_other_options_are_refused(tmp_path: Path) -> None:
    repo = repository(tmp_path, {"m.onnx": model({"x": [2]}, {"y": [2]})})
    done = mlship_in_process("export", "out", "--as", "triton", "--platform", "linux/amd64", cwd=repo)
    assert done.code == 2
    assert "`--as triton` takes no other options" in done.stderr


SHAPES = st.lists(st.none() | st.integers(1, 1 << 40), max_size=5).map(tuple)
TENSORS = st.lists(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(ELEMENTS), SHAPES, st.just("N")),
    min_size=1,
    max_size=4,
)


@given(TENSORS, TENSORS, st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_any_names_and_shapes_give_a_configuration_that_triton_reads(
    inputs: list[tuple[str, str, tuple[int | None, ...], str]],
    outputs: list[tuple[str, str, tuple[int | None, ...], str]],
    name: str,
    gpu: bool,
) -> None:
    given, made = (
        tuple(
            Tensor(name, kind, shape, axis if shape and shape[0] is None else None) for name, kind, shape, axis in rows
        )
        for rows in (inputs, outputs)
    )
    text, _ = triton_config(name, OnnxHeader(given, made, {}), {}, gpu=gpu)
    found = parsed(text)
    assert getattr(found, "name", "") == name
    batch = all(tensor.shape and tensor.shape[0] is None for tensor in (*given, *made))
    assert hasattr(found, "max_batch_size") is batch
    for tensor, read in zip((*given, *made), (*found.input, *found.output), strict=True):
        shape = (tensor.shape or ())[batch:]
        assert getattr(read, "name", "") == tensor.name
        assert list(read.dims) == [-1 if size is None else size for size in shape or (1,)]
        assert hasattr(read, "reshape") is (batch and not shape)
        assert read.data_type.startswith(("TYPE_FP", "TYPE_BF", "TYPE_BOOL", "TYPE_STRING", "TYPE_INT", "TYPE_UINT"))
