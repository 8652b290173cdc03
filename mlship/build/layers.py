"""What is installed in an image that does not say it: distributions, their device code, and CUDA's libraries.

Each layer is read once as a stream, of the engine or of a registry, and nothing is unpacked but one library at a time.
"""

import json
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name

from mlship.driver.device_code import DeviceCode, read_device_code
from mlship.lock.foreign import ForeignLock
from mlship.lock.measured import recorded
from mlship.lock.pins import Pin
from mlship.size.layer_paths import is_within, layer_path, removed_by
from mlship.size.stream import CHUNK, BrokenTarError, ByteStream, Readable, members, tar_in

_HEAD = 512
_LARGEST_TEXT = 20_000_000  # bytes of a RECORD; the largest have some 2 MB
_LARGEST_JSON = 4_000_000
_INFO = re.compile(r"(?:.*/)?(?P<name>[\w.]+)-(?P<version>[^/-]+)\.dist-info/RECORD")
_CONDA = re.compile(r".*/conda-meta/(?P<name>[^/]+)-(?P<version>[^/-]+)-[^/-]+\.json")
# CUDA's own files, by the names of PyPI's wheels: libcublas.so.12.4.5.8 is nvidia-cublas-cu12 12.4.5.8
_LIBRARY = re.compile(r"lib(?P<name>cudart|cublas|cudnn|nvrtc)\.so\.(?P<version>[0-9]+\.[0-9]+(?:\.[0-9]+)*)", re.ASCII)
_WHEELS = {"cudart": "cuda-runtime", "nvrtc": "cuda-nvrtc"}
# NVIDIA's libraries that CUDA or the driver brings have code for all GPUs of their release; they are no limit.
_OF_CUDA = re.compile(
    r"lib(cu(blas|blasLt|dart|dnn\w*|fft\w*|rand|solver\w*|sparse\w*|pti|file\w*|da)|nccl|npp\w+|nv\w+|accinj64)\.so.*"
)
_COMPAT = re.compile(r".*/compat/libcuda\.so\.(?P<driver>[0-9.]+)", re.ASCII)


@dataclass
class LayerFiles:
    """What one layer adds and removes, by path from the root; the last layer wins."""

    records: dict[str, str] = field(default_factory=dict)
    conda: set[str] = field(default_factory=set)
    code: dict[str, DeviceCode | None] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def add(self, other: "LayerFiles") -> None:
        """Put the next layer on top."""
        for path in other.removed:
            for known in (self.records, self.code):
                for old in [old for old in known if is_within(old, path)]:
                    del known[old]
            self.conda = {old for old in self.conda if not is_within(old, path)}
            self.libraries = {old for old in self.libraries if not is_within(old, path)}
        self.records |= other.records
        self.code |= other.code
        self.conda |= other.conda
        self.libraries |= other.libraries


def read_layer(stream: Readable) -> LayerFiles:
    """Read a layer to its end.

    Raises:
        BrokenTarError: it is no layer, or damaged.
    """
    tar, _ = tar_in(stream)
    if tar is None:
        raise BrokenTarError("unknown compression")
    return _files(tar)


def _files(tar: Readable) -> LayerFiles:
    found = LayerFiles()
    for member, opened in members(tar):
        path = layer_path(member.name)
        if (removed := removed_by(path)) is not None:
            found.removed.add(removed)
        elif member.isreg():
            _take(found, path, member.size, opened())
    return found


def _take(found: LayerFiles, path: str, size: int, content: Readable) -> None:
    if _INFO.fullmatch(path):
        found.records[path] = _text(content, _LARGEST_TEXT)
    elif _CONDA.fullmatch(path):
        found.conda.add(path)
    elif ".so" in (name := posixpath.basename(path)):
        if _LIBRARY.fullmatch(name) or _COMPAT.fullmatch(path):
            found.libraries.add(path)
        elif size > _HEAD and not _OF_CUDA.fullmatch(name):
            found.code[path] = _code(content)


def _text(content: Readable, most: int) -> str:
    parts = list[bytes]()
    while most > 0 and (part := content.read(most)):
        parts.append(part)
        most -= len(part)
    return b"".join(parts).decode(errors="replace")


def _code(content: Readable) -> DeviceCode | None:
    """None where it is unknown."""
    with tempfile.TemporaryFile() as file:
        while part := content.read(CHUNK):
            file.write(part)
        try:
            return read_device_code(file)
        except ValueError:
            return None


def read_saved(chunks: Iterable[bytes]) -> LayerFiles:
    """Read a saved image to its end; a layer may come before or after the list of layers.

    Raises:
        BrokenTarError: the stream is not a complete image.
    """
    blobs, links, order = dict[str, LayerFiles](), dict[str, str](), list[str]()
    for member, opened in members(ByteStream(chunks)):
        if member.issym():  # a layer that is there twice, as older engines save it
            links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
        elif member.name == "manifest.json":
            order = _order(_text(opened(), _LARGEST_JSON))
        elif member.isreg():
            tar, _ = tar_in(opened())
            blobs |= {member.name: _files(tar)} if tar else {}
    found = LayerFiles()
    for name in (links.get(name, name) for name in order):
        if name not in blobs:
            raise BrokenTarError(f"the layer {name} is missing, or its compression is unknown")
        found.add(blobs[name])
    return found


def _order(manifest: str) -> list[str]:
    """The files of an image's layers, lowest first."""
    try:
        return [str(name) for name in json.loads(manifest)[0]["Layers"]]
    except (ValueError, LookupError, TypeError) as error:
        raise BrokenTarError("its manifest.json lists no layers") from error


def lock_of(files: LayerFiles) -> ForeignLock:
    """The distributions of an image as pins, with their measured device code; CUDA's libraries as their wheels."""
    pins = {pin.name: pin for pin in (*_library_pins(files), *_distributions(files))}
    conda = (match for path in files.conda if (match := _CONDA.fullmatch(path)))
    foreign = sorted({f"{match['name']} {match['version']}" for match in conda})
    owned = {path for record, text in files.records.items() for path in _owned(record, text)}
    stray = sorted(path for path, code in files.code.items() if code is None or (code and path not in owned))
    return ForeignLock(tuple(pins[name] for name in sorted(pins)), foreign=tuple(foreign), stray=tuple(stray))


def _owned(path: str, record: str) -> Iterator[str]:
    """The files of a distribution, by its RECORD."""
    site = posixpath.dirname(posixpath.dirname(path))
    for line in record.splitlines():
        yield posixpath.normpath(posixpath.join(site, line.partition(",")[0]))


def _distributions(files: LayerFiles) -> Iterator[Pin]:
    for path, record in sorted(files.records.items()):
        if match := _INFO.fullmatch(path):
            code = [found for one in _owned(path, record) if (found := files.code.get(one))]
            yield Pin(canonicalize_name(match["name"]), match["version"], (), code=recorded(code))


def _library_pins(files: LayerFiles) -> Iterator[Pin]:
    names = (match for path in sorted(files.libraries) if (match := _LIBRARY.fullmatch(posixpath.basename(path))))
    found = [(match["name"], match["version"]) for match in names]
    cudas = {version.partition(".")[0] for name, version in found if name != "cudnn"}
    for name, version in found:
        major = version.partition(".")[0] if name != "cudnn" else min(cudas) if len(cudas) == 1 else ""
        if major:
            wheel = f"nvidia-{_WHEELS.get(name, name)}"
            yield Pin(f"{wheel}-cu{major}" if int(major) < 13 or name == "cudnn" else wheel, version, ())


def compat_drivers(files: LayerFiles) -> tuple[str, ...]:
    """Drivers of NVIDIA's forward-compatibility libraries in the image."""
    found = (match["driver"] for path in files.libraries if (match := _COMPAT.fullmatch(path)))
    return tuple(sorted(set(found)))
