"""Models that `mlship init` writes a loader for: the format says what loads them."""

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from mlship import plain
from mlship.frameworks import LoaderRow, framework_table
from mlship.init.declared.documents import list_in, table_in, text_in
from mlship.init.tree import Tree
from mlship.json_path import json_objects
from mlship.project.onnx_header import OnnxHeader, Tensor, read_onnx
from mlship.project.weights import WeightFile

Nested: TypeAlias = "float | int | bool | str | list[Nested]"
_TAIL = 1 << 16
_LARGEST_SAMPLE = 200_000  # numbers in the file
_XGBOOST_FEATURES = re.compile(rb'num_feature(?:"\s*:\s*"|SL\x00{7}.|Si.)(\d+)', re.DOTALL)
_LIGHTGBM_FEATURES = re.compile(rb"^max_feature_idx=(\d+)", re.MULTILINE)
# What the folder of a model on the Hub holds beside the weights.
HUB_TEXTS = re.compile(r"(?i).*\.(json|txt|model|jinja)|merges.*|vocab.*")
_TEXT = "The quick brown fox jumps over the lazy dog."


@dataclass(frozen=True)
class NativeModel:
    """A model file, or the folder of a transformers model.

    Attributes:
        loader: key of the loader.
        path: the file or folder; "." for the repository.
        sample: JSON with a request that fits its inputs; None if these are unknown.
        task: what a transformers pipeline does with it.
    """

    loader: str
    path: str
    sample: str | None = None
    task: str | None = None

    @property
    def row(self) -> LoaderRow:
        return framework_table().loaders[self.loader]


def read_native(tree: Tree, file: WeightFile) -> NativeModel | None:
    """The model that a file belongs to; None if the format does not say what loads it."""
    if file.kind == "safetensors":
        return _transformers(tree, PurePosixPath(file.path).parent.as_posix())
    if file.kind not in framework_table().loaders:
        return None
    return NativeModel(file.kind, file.path, _sample(tree.root / file.path, file.kind))


def native_files(tree: Tree, native: NativeModel) -> Iterator[str]:
    """What model.weights names: the file or folder, or the files of a model in the repository's root."""
    if native.path != ".":
        yield native.path
        return
    yield from (path for path in tree.files if "/" not in path and path.endswith(".safetensors"))
    yield from (path for path in tree.files if "/" not in path and HUB_TEXTS.fullmatch(path))


def _transformers(tree: Tree, folder: str) -> NativeModel | None:
    """A folder with config.json and a tokenizer, for a task with texts."""
    place = "" if folder == "." else f"{folder}/"
    tokenizers = (f"{place}tokenizer.json", f"{place}tokenizer_config.json", f"{place}vocab.txt")
    if not any(name in tree for name in tokenizers):
        return None
    sample = json.dumps({"text": _TEXT}) + "\n"
    if f"{place}modules.json" in tree:
        return NativeModel("sentence-transformers", folder, sample)
    names = plain.texts(plain.json_of(tree.text(f"{place}config.json") or ""), "architectures") or ("",)
    tasks = framework_table().loaders["transformers"].tasks
    task = next((task for suffix, task in tasks.items() if names[0].endswith(suffix)), None)
    return NativeModel("transformers", folder, sample, task) if task else None


def _sample(path: Path, kind: str) -> str | None:
    if kind == "onnx":
        header = read_onnx(path)
        return made_up_sample(header) if header else None
    shape = _keras_shape(path) if kind == "keras" else _features(path, kind)
    return json.dumps({"instances": _filled(shape, 0.0)}) + "\n" if shape else None


def _features(path: Path, kind: str) -> list[int] | None:
    """One row with all features of a model."""
    count: object = None
    with suppress(OSError):
        if kind == "skops":
            count = _skops_features(_member(path, "schema.json"))
        elif kind in ("xgboost", "lightgbm"):
            found = (_XGBOOST_FEATURES if kind == "xgboost" else _LIGHTGBM_FEATURES).search(_ends(path))
            count = int(found[1]) + (kind == "lightgbm") if found else None
    return [1, count] if isinstance(count, int) and 0 < count <= 100_000 else None


def _ends(path: Path) -> bytes:
    """The first and the last bytes of a file."""
    with path.open("rb") as file:
        head = file.read(_TAIL)
        file.seek(max(path.stat().st_size - _TAIL, len(head)))
        return head + file.read()


def _skops_features(schema: object) -> object:
    """The first `n_features_in_` of an estimator, which is a JSON number in the schema."""
    for found in (table_in(node, "n_features_in_") for node in json_objects(schema)):
        with suppress(ValueError):
            return int(str(found.get("content")))
    return None


def _keras_shape(path: Path) -> list[int] | None:
    """The shape of the only input, with 1 for an open batch size."""
    layers = list_in(table_in(_member(path, "config.json"), "config"), "layers")
    inputs = (table_in(layer) for layer in layers if text_in(layer, "class_name") == "InputLayer")
    known = [shape for layer in inputs if (shape := list_in(table_in(layer, "config"), "batch_shape"))]
    sizes = [size for size in known[0][1:] if isinstance(size, int)] if len(known) == 1 else []
    return [1, *sizes] if len(known) == 1 and len(sizes) == len(known[0]) - 1 else None


def _member(path: Path, name: str) -> object:
    """The JSON in a zip archive."""
    with suppress(OSError, ValueError, KeyError, RecursionError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(name))
    return None


def made_up_sample(header: OnnxHeader) -> str | None:
    """JSON with zeros for every input; None if a shape or type is unknown or too large."""
    values, count = dict[str, Nested](), 0
    for tensor in header.inputs:
        shape, zero = _shape(tensor), _zero(tensor)
        if shape is None or zero is None or (count := count + prod(shape)) > _LARGEST_SAMPLE:
            return None
        values[tensor.name] = _filled(shape, zero)
    return json.dumps(values) + "\n" if values else None


def _shape(tensor: Tensor) -> list[int] | None:
    """Use 1 for an open batch size or sequence length; other open dimensions have no sensible default."""
    if tensor.shape is None:
        return None
    free = 2 if len(tensor.shape) <= 2 else 1
    known = all(size is not None for size in tensor.shape[free:])
    return [size or 1 for size in tensor.shape] if known else None


def _zero(tensor: Tensor) -> float | bool | str | None:
    kind = tensor.element or ""
    known: dict[str, float | bool | str] = dict.fromkeys(("float", "double", "float16"), 0.0)
    return (known | {"bool": False, "string": "text"}).get(kind, 0 if "int" in kind else None)


def _filled(shape: list[int], zero: float | bool | str) -> Nested:
    value: Nested = zero
    for size in reversed(shape):
        value = [value] * size
    return value
