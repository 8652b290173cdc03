"""`mlship export --as triton`: the ONNX models of a repository as a model repository of Triton.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from mlship.errors import UsageError
from mlship.files import check_new, read_regular, write_atomic
from mlship.leftovers import temporary_folder
from mlship.project.config import Config
from mlship.project.onnx_header import OnnxHeader, Tensor, read_onnx
from mlship.project.weights import check_weights

_MOST = 8  # rows of a batch; the generated server has the same
_TYPES = {"float": "FP32", "double": "FP64", "float16": "FP16", "bfloat16": "BF16"} | {
    name: name.upper()
    for name in ("bool", "string", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
}
_OWN_DOMAINS = {"com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental", "com.ms.internal.nhwc"}
_LARGEST_SAMPLE = 1 << 26  # bytes


@dataclass(frozen=True)
class TritonModel:
    """A model of the repository: its folder's name, its configuration, and what a person should know."""

    name: str
    path: str
    external: tuple[str, ...]
    config: str
    notes: tuple[str, ...]


def export_triton(repo: Path, config: Config, folder: Path) -> tuple[TritonModel, ...]:
    """Write a model repository; the folder appears complete or not at all.

    Raises:
        UsageError: the folder exists, or Triton cannot serve a model.
    """
    check_new(folder)
    models = tuple(_models(repo, config))
    with temporary_folder("export", beside=folder) as temporary:
        new = temporary / folder.name
        for model in models:
            version = new / model.name / "1"
            version.mkdir(parents=True)
            shutil.copyfile(repo / model.path, version / "model.onnx")
            for name in model.external:
                (version / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile((repo / model.path).parent / name, version / name)
            write_atomic(version.parent / "config.pbtxt", model.config)
        new.rename(folder)
    return models


def _models(repo: Path, config: Config) -> Iterator[TritonModel]:
    files = check_weights(repo, config.model)
    onnx = [file.path for file in files if file.kind == "onnx"]
    if not onnx:
        found = ", ".join(sorted({file.kind for file in files})) or "none"
        raise UsageError(
            f"no ONNX model in `model.weights` ({found}); the export for Triton covers only ONNX",
            hint="convert the model to ONNX and add the file to `model.weights` in mlship.yaml",
        )
    sample = _sample(repo, config.model.sample)
    for path in onnx:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(PurePosixPath(path).with_suffix("")))
        name = config.name if len(onnx) == 1 else stem
        header = _servable(path, read_onnx(repo / path))
        text, notes = triton_config(name, header, sample, gpu=config.gpu is not None)
        yield TritonModel(name, path, tuple(header.external), text, notes)


def _servable(path: str, header: OnnxHeader | None) -> OnnxHeader:
    if header is None:
        raise UsageError(f"cannot read `{path}`", hint="export the model again")
    for tensor in (*header.inputs, *header.outputs):
        if tensor.element not in _TYPES:
            raise UsageError(
                f"Triton cannot serve `{path}`: `{tensor.name}` is no tensor of a type that it has",
                hint="export it with tensors only; for a classifier of skl2onnx: `options={'zipmap': False}`",
            )
        if tensor.shape is None:
            raise UsageError(
                f"Triton cannot serve `{path}`: the number of dimensions of `{tensor.name}` is unknown",
                hint="export it with shapes; `onnx.shape_inference.infer_shapes` may find them",
            )
    foreign = [domain for domain in header.domains if domain not in _OWN_DOMAINS]
    if foreign:
        raise UsageError(
            f"Triton cannot serve `{path}` by itself: its operators of `{foreign[0]}` are in a library of their own",
            hint="export it without them, or write config.pbtxt by hand, with the library in `model_operations`",
        )
    return header


def triton_config(
    name: str, header: OnnxHeader, sample: Mapping[str, tuple[int, ...]], *, gpu: bool
) -> tuple[str, tuple[str, ...]]:
    """The text of config.pbtxt, and notes about it. Pure.

    Args:
        sample: shapes of the inputs.
    """
    batch, note = _batches((*header.inputs, *header.outputs))
    notes = [note]
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"', f"max_batch_size: {_MOST if batch else 0}"]
    for kind, tensors in (("input", header.inputs), ("output", header.outputs)):
        lines += [f"{kind} {{ {_tensor(tensor, batch=batch)} }}" for tensor in tensors]
    lines.append(f"instance_group {{ count: 1 kind: KIND_{'GPU' if gpu else 'CPU'} }}")
    if batch:
        lines.append("dynamic_batching { }")  # without a delay: what queued while the last batch ran goes together
    shapes = {tensor.name: _warm_shape(tensor, sample.get(tensor.name), batch=batch) for tensor in header.inputs}
    if None in shapes.values():
        notes.append("no warm-up: `model.sample` does not have the shape of every input with open dimensions")
    else:
        for rows in (1, _MOST) if batch else (1,):
            inputs = " ".join(
                f"inputs {{ key: {_quoted(tensor.name)} value {{ data_type: TYPE_{_TYPES[tensor.element or '']} "
                f"{_dims(shapes[tensor.name] or ())} zero_data: true }} }}"
                for tensor in header.inputs
            )
            lines.append(f'model_warmup {{ name: "rows {rows}" batch_size: {rows} {inputs} }}')
    return "\n".join(lines) + "\n", tuple(notes)


def _batches(tensors: tuple[Tensor, ...]) -> tuple[bool, str]:
    """Whether the first axis is that of the batch, and why: the rule of the server that `mlship init` writes."""
    names = {tensor.first_axis for tensor in tensors if tensor.first_axis}
    fixed = next((tensor.name for tensor in tensors if tensor.first_axis is None), None)
    if fixed is not None:
        return False, f"one request at a time: the first dimension of `{fixed}` is fixed"
    if len(names) > 1:
        listed = ", ".join(f"`{name}`" for name in sorted(names))
        return False, (
            f"one request at a time: the first dimensions have different names ({listed}); if all are the batch, "
            "export the model with one name for them"
        )
    axis = "".join(f" `{name}`" for name in names)
    return True, f"batches of up to {_MOST} along the first axis{axis}, if its rows are independent"


def _tensor(tensor: Tensor, *, batch: bool) -> str:
    """A tensor needs a dimension: one without gets one of length 1, which is removed again beside a batch axis."""
    shape = (tensor.shape or ())[batch:]
    what = f"name: {_quoted(tensor.name)} data_type: TYPE_{_TYPES[tensor.element or '']}"
    if not shape:
        return f"{what} dims: [ 1 ]{' reshape { shape: [ ] }' if batch else ''}"
    return f"{what} {_dims(tuple(-1 if size is None else size for size in shape))}"


def _dims(shape: tuple[int, ...]) -> str:
    return f"dims: [ {', '.join(map(str, shape or (1,)))} ]"


def _warm_shape(tensor: Tensor, sample: tuple[int, ...] | None, *, batch: bool) -> tuple[int, ...] | None:
    """The sample's shape where it fits, without the batch axis; else the model's, if nothing in it is open."""
    declared = tensor.shape or ()
    fits = sample is not None and len(sample) == len(declared)
    if fits and all(size in {None, own} and own for own, size in zip(sample or (), declared, strict=True)):
        return (sample or ())[batch:]
    fixed = tuple(size for size in declared[batch:] if size is not None)
    return fixed if len(fixed) == len(declared[batch:]) else None


def _sample(repo: Path, path: str | None) -> dict[str, tuple[int, ...]]:
    """Shapes of the named arrays of a JSON sample; empty for another."""
    try:
        found: JsonValue = json.loads(read_regular(repo / path, _LARGEST_SAMPLE)) if path else None
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: _shape(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _shape(value: JsonValue) -> tuple[int, ...]:
    return (len(value), *(_shape(value[0]) if value else ())) if isinstance(value, list) else ()


def _quoted(text: str) -> str:
    """A string in protobuf's text format: bytes of UTF-8, with octal escapes for all that is not plain."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"\"'\\" else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
