"""Find model files by content, and missing ones that the code names."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlship.init.found import ModelFiles
from mlship.init.sources import Module
from mlship.init.tree import Tree
from mlship.project.formats import CODE, MODELS
from mlship.project.weights import WeightFile, external_files, weight_file, with_data_files

_NOT_MODELS = {"tests", "test", "docs", "doc", "notebooks"}
# Folders where a model may lie, but less likely the one to serve.
_BESIDE_MODELS = {"data", "dataset", "datasets", "examples", "example", "samples", "demo"}
_TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".rst",
    ".toml",
    ".cfg",
    ".ini",
    ".yaml",
    ".yml",
    ".csv",
    ".ipynb",
    ".html",
    ".in",
    ".sh",
}
_MODEL_NAME = re.compile(r"[\w./-]+\.(onnx|safetensors|gguf|tflite|ubj|cbm|keras|h5|pt|pth|bin|pkl|joblib)")
_MODEL_FOLDER = re.compile(r"(?i)[\w-]*(model|weight|checkpoint|ckpt|pretrained|artifact)[\w-]*")
_PLACEHOLDER = re.compile(
    r"(?i)(^|/)path/to/|^/|(^|[/_-])(your|my|some|foo|bar|xxx?|tmp|temp|dummy|example)([/_.-]|$)|^\."
)
_FILES = 2_000
_BESIDE = MODELS | {"text", "npy", "npz", "onnx-data", "sentencepiece"}


@dataclass(frozen=True)
class LoadClues:
    """What determines the relevant model files.

    Attributes:
        strings: string constants of the loading code.
        loader: whether the repository has a loader.
        model: the file that the user chose.
    """

    strings: frozenset[str]
    loader: bool
    model: str | None = None


def find_weights(tree: Tree, clues: LoadClues) -> ModelFiles:
    """Find the model files and the value of model.weights."""
    files = with_data_files(tree.root, list(_identified(tree)))
    named_by_code = {PurePosixPath(text).name for text in clues.strings}
    arrays = {f.path for f in files if f.kind in ("npy", "npz") and PurePosixPath(f.path).name in named_by_code}
    models = tuple(f for f in files if f.kind in MODELS or f.path in arrays)
    refused = tuple(f for f in files if f.kind in CODE or f.kind == "lfs-pointer")
    absent = tuple(_absent(tree, clues.strings, {PurePosixPath(f.path).name for f in files}))
    if clues.loader or not models:
        named = _grouped(tree, models or refused, files)
        folders = () if named else tuple(path for path in absent if "." not in path)
        why = "model files that the code can load" if named or folders else "no model files found"
        return ModelFiles(models, refused, named or folders, absent, (), why)
    return _one_of(tree, models, refused, clues.model)


def served_strings(modules: Iterable[Module]) -> frozenset[str]:
    """String constants of the given modules."""
    return frozenset(text for module in modules for text in module.strings if 0 < len(text) < 200)


def _identified(tree: Tree) -> Iterator[WeightFile]:
    candidates = [path for path in tree.files if _could_be_model(PurePosixPath(path))]
    for path in candidates[:_FILES]:
        try:
            yield weight_file(tree.root, path)
        except OSError:
            continue


def _could_be_model(path: PurePosixPath) -> bool:
    beside = any(part.lower() in _NOT_MODELS for part in path.parts[:-1])
    return not (beside or path.suffix.lower() in _TEXT_SUFFIXES or path.name.startswith("."))


def _one_of(
    tree: Tree, models: Sequence[WeightFile], refused: tuple[WeightFile, ...], chosen: str | None
) -> ModelFiles:
    """The ONNX model that a generated server loads: the chosen one, model.onnx, or the largest."""
    onnx = sorted(
        (f for f in models if f.kind == "onnx"),
        key=lambda f: (
            f.path != chosen,
            PurePosixPath(f.path).name != "model.onnx",
            any(part.lower() in _BESIDE_MODELS for part in PurePosixPath(f.path).parts[:-1]),
            f.path.count("/"),
            -f.size,
            f.path,
        ),
    )
    if not onnx:
        named = tuple(f.path for f in models)
        return ModelFiles(tuple(models), refused, named, (), (), "model files; no code in the repository loads them")
    data = tuple(external_files(tree.root, onnx[0].path))
    named = (onnx[0].path, *(path for path in data if path in tree))
    absent = tuple(path for path in data if path not in tree)
    choices = tuple(f.path for f in onnx) if len(onnx) > 1 else ()
    why = "chosen by you" if chosen else "ordered by the name model.onnx, then depth, then size"
    return ModelFiles(tuple(models), refused, named, absent, choices, why if choices else "the only ONNX model")


def _grouped(tree: Tree, wanted: Sequence[WeightFile], files: Sequence[WeightFile]) -> tuple[str, ...]:
    """Folders that hold only model files (including tokenizers and labels), otherwise single files."""
    kinds = {f.path: f.kind for f in files}
    names: dict[str, None] = {}
    for file in wanted:
        folder = str(PurePosixPath(file.path).parent)
        inside = tree.below(folder)
        whole = folder != "." and len(inside) > 1 and all(kinds.get(path) in _BESIDE for path in inside)
        names[folder if whole else file.path] = None
    outer = tuple(name for name in names if not any(name.startswith(f"{other}/") for other in names))
    return tuple(sorted(outer))


def _absent(tree: Tree, strings: frozenset[str], present: set[str]) -> Iterator[str]:
    """Missing model files that the code names, and git-ignored folders with a name for models."""
    for line in (tree.text(".gitignore") or "").splitlines():
        folder = line.strip().strip("/")
        named = any(text == folder or text.startswith(f"{folder}/") for text in strings)
        if named and _MODEL_FOLDER.fullmatch(folder.rpartition("/")[2]) and not tree.below(folder):
            yield folder
    files = (text for text in strings if _MODEL_NAME.fullmatch(text) and PurePosixPath(text).name not in present)
    yield from sorted(text for text in files if not _PLACEHOLDER.search(text))
