"""Assign each file to a group (its purpose) and to a part of that group. Pure."""

import posixpath
import re
from functools import cached_property
from typing import cast, get_args

from mlship import plain
from mlship.frameworks import runtime_group
from mlship.size.content import File
from mlship.size.layout import SavedImage
from mlship.size.owners import Distribution
from mlship.size.report import SizeGroup, Sort

# Text of the first step that mlship's Dockerfile adds to its base; earlier images have the second.
OWN_STEPS = ("sh /mnt/system.sh ", "mlship:/tmp:/usr/sbin/nologin")
_SMOKE = "dev.mlship.smoke"
_VERSION = "dev.mlship.version"
_LAYER = re.compile(r"COPY\s+(?:--\S+\s+)*/?layers/(?P<group>[a-z]+)/(?P<name>[^\s/]+)/?\s")
_CUDA_FOLDER = re.compile(r"usr/local/cuda[^/]*|opt/nvidia/[^/]+")
_MODELS = re.compile(
    r"\.(?:safetensors|onnx|gguf|ggml|pt|pth|ckpt|h5|keras|tflite|joblib|pkl|pickle|npz|msgpack|cbm|ubj|mlmodel|engine)"
)
_OFTEN_MODELS = re.compile(r"\.(?:bin|model|data|npy|pb|plan)")
_SURE = 1 << 20  # bytes; smaller files with such a suffix do not count as weights
_NATIVE = re.compile(r"\.(?:so(?:\.[\w.]+)?|a|dylib|cubin|fatbin)$")
_CODE = re.compile(r"\.(?:py|pyi|pyx|pxd|js|sh|c|cc|cpp|cu|h|hpp|cuh)$")


def sort_of(path: str, file: File) -> Sort:
    """Classify a file by its suffix, or by its content if it has none."""
    name = posixpath.basename(path)
    if name.endswith((".pyc", ".pyo")):
        return "bytecode"
    if file.elf or _NATIVE.search(name):
        return "native"
    return "code" if _CODE.search(name) else "data"


def group_of_step(made_by: str | None) -> tuple[SizeGroup, str] | None:
    """Return the group and package of an mlship layer, such as `COPY /layers/framework/torch / ...`."""
    found = _LAYER.match(f"{made_by or ''} ")
    if found is None or found["group"] not in get_args(SizeGroup):
        return None
    return cast("SizeGroup", found["group"]), found["name"]


def base_layers(image: SavedImage[File]) -> tuple[int | None, str]:
    """Count the layers of the base image, with how the count is known or why it is unknown."""
    if _VERSION not in image.config.labels:
        return None, "the end of the base is known only for images built by mlship; compare with `--against BASE`"
    for number, layer in enumerate(image.layers):
        if layer.made_by is not None and any(step in layer.made_by for step in OWN_STEPS):
            return number, "all layers before mlship's first step"
    return None, "the image's history does not show mlship's first step"


class Sorter:
    """Assigns the files of one image to groups.

    Args:
        base: number of layers in the base image; None if unknown.
    """

    def __init__(self, image: SavedImage[File], base: int | None) -> None:
        self._image = image
        self._base = base or 0
        self._app = (image.config.running.working_dir or "/").strip("/")
        self._steps = [group_of_step(layer.made_by) for layer in image.layers]

    def package(self, owner: Distribution, layer: int) -> SizeGroup:
        """Return the group of a distribution's files in one layer."""
        if layer < self._base:
            return "base"
        step = self._steps[layer]
        return step[0] if step else runtime_group(owner.name) or "packages"

    def other(self, path: str, size: int, layer: int) -> tuple[SizeGroup, str]:
        """Return the group and part (usually a folder) of a file without a distribution."""
        if layer < self._base:
            return "base", _folder(path)
        if found := _CUDA_FOLDER.match(path):
            return "cuda", f"/{found[0]}"
        if self._is_weight(path, size):
            return "weights", f"/{path}"
        if self._in_app(path):
            return "code", f"/{self._app}"
        step = self._steps[layer]
        return step[0] if step else "system", _folder(path)

    def _in_app(self, path: str) -> bool:
        return bool(self._app) and path.startswith(f"{self._app}/")

    def _is_weight(self, path: str, size: int) -> bool:
        """Recognize weights by label or suffix; outside the app folder only large files with a clear suffix."""
        suffix = posixpath.splitext(path)[1].lower()
        known, often = _MODELS.fullmatch(suffix), _OFTEN_MODELS.fullmatch(suffix)
        if not self._in_app(path):
            return bool(known) and size >= _SURE
        named = path.removeprefix(f"{self._app}/")
        labelled = any(named == one or named.startswith(f"{one}/") for one in self._weights)
        return labelled or bool(known) or (bool(often) and size >= _SURE)

    @cached_property
    def _weights(self) -> tuple[str, ...]:
        label = plain.json_of(self._image.config.labels.get(_SMOKE, ""))
        return tuple(map(posixpath.normpath, plain.texts(label, "weights") or ()))


def _folder(path: str) -> str:
    """Return the first three folders of a path; deeper ones mean little to a reader."""
    return "/" + "/".join(path.split("/")[:-1][:3])
