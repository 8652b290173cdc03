"""Small model repositories for tests, and minimal model files of every format."""

import json
import struct
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


def write(repo: Path, files: dict[str, str | bytes]) -> Path:
    """Write files below a folder and return the folder."""
    for name, content in files.items():
        path = repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return repo


def safetensors(values: tuple[float, ...] = (1.0, 2.0)) -> bytes:
    """One tensor `w`."""
    data = struct.pack(f"<{len(values)}f", *values)
    entry = {"dtype": "F32", "shape": [len(values)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data


def onnx_proto(*, external: str | None = None, element: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """x [N,4] @ w -> y [N,2]; w is also an input, as old exporters write it."""
    kind = helper.tensor_dtype_to_np_dtype(element)
    weight = helper.make_tensor("w", element, [4, 2], np.ones(8, kind).tobytes(), raw=True)
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", "0"), ("length", "32")):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
    x = helper.make_tensor_value_info("x", element, ["batch", 4])
    w = helper.make_tensor_value_info("w", element, [4, 2])
    y = helper.make_tensor_value_info("y", element, [None, 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x, w], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def onnx_bytes(*, external: str | None = None, element: int = TensorProto.FLOAT) -> bytes:
    """The model, serialized."""
    return bytes(onnx_proto(external=external, element=element).SerializeToString())
