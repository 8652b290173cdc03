"""What is installed in an image that does not say it: distributions, their device code, and CUDA's libraries.

Nothing is unpacked but one library at a time.
"""

import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from packaging.utils import canonicalize_name

from mlship.driver.device_code import DeviceCode, read_device_code
from mlship.lock.foreign import ForeignLock
from mlship.lock.measured import recorded
from mlship.lock.pins import Pin
from mlship.size.content import recorded_paths
from mlship.size.stream import CHUNK, Readable, TarEntry

_HEAD = 512
_LARGEST_TEXT = 20_000_000  # bytes of a RECORD; the largest have some 2 MB
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


@dataclass(frozen=True)
class InstalledFile:
    """A regular file that says what is installed.

    Attributes:
        kind: the RECORD of a distribution; conda's file about a package; one of CUDA's libraries; another library.
        text: of a RECORD.
        code: of another library; None if it is unknown.
    """

    kind: Literal["record", "conda", "cuda", "library"]
    text: str = ""
    code: DeviceCode | None = None


InstalledFiles: TypeAlias = Mapping[str, InstalledFile | None]  # by path from the root; None says nothing


def read_installed_file(path: str, member: TarEntry, opened: Callable[[], Readable]) -> InstalledFile | None:
    """What a file of a layer says; None for most."""
    if not member.isreg():
        return None
    if _INFO.fullmatch(path):
        return InstalledFile("record", opened().read(_LARGEST_TEXT).decode(errors="replace"))
    if _CONDA.fullmatch(path):
        return InstalledFile("conda")
    if ".so" in (name := posixpath.basename(path)):
        if _LIBRARY.fullmatch(name) or _COMPAT.fullmatch(path):
            return InstalledFile("cuda")
        if member.size > _HEAD and not _OF_CUDA.fullmatch(name):
            return InstalledFile("library", code=_code(opened()))
    return None


def _code(content: Readable) -> DeviceCode | None:
    """None where it is unknown."""
    with tempfile.TemporaryFile() as file:
        while part := content.read(CHUNK):
            file.write(part)
        try:
            return read_device_code(file)
        except ValueError:
            return None


def _of(files: InstalledFiles, kind: str) -> dict[str, InstalledFile]:
    return {path: file for path, file in sorted(files.items()) if file and file.kind == kind}


def lock_of(files: InstalledFiles) -> ForeignLock:
    """The distributions of an image as pins, with their measured device code; CUDA's libraries as their wheels."""
    pins = {pin.name: pin for pin in (*_library_pins(files), *_distributions(files))}
    conda = (match for path in _of(files, "conda") if (match := _CONDA.fullmatch(path)))
    foreign = sorted({f"{match['name']} {match['version']}" for match in conda})
    owned = {path for record, file in _of(files, "record").items() for path in recorded_paths(record, file.text)}
    code = {path: file.code for path, file in _of(files, "library").items()}
    stray = [path for path, found in code.items() if found is None or (found and path not in owned)]
    return ForeignLock(tuple(pins[name] for name in sorted(pins)), foreign=tuple(foreign), stray=tuple(stray))


def _distributions(files: InstalledFiles) -> Iterator[Pin]:
    libraries = _of(files, "library")
    for path, record in _of(files, "record").items():
        if match := _INFO.fullmatch(path):
            owned = (libraries.get(one) for one in recorded_paths(path, record.text))
            code = [file.code for file in owned if file and file.code]
            yield Pin(canonicalize_name(match["name"]), match["version"], (), code=recorded(code))


def _library_pins(files: InstalledFiles) -> Iterator[Pin]:
    names = (match for path in _of(files, "cuda") if (match := _LIBRARY.fullmatch(posixpath.basename(path))))
    found = [(match["name"], match["version"]) for match in names]
    cudas = {version.partition(".")[0] for name, version in found if name != "cudnn"}
    for name, version in found:
        major = version.partition(".")[0] if name != "cudnn" else min(cudas) if len(cudas) == 1 else ""
        if major:
            wheel = f"nvidia-{_WHEELS.get(name, name)}"
            yield Pin(f"{wheel}-cu{major}" if int(major) < 13 or name == "cudnn" else wheel, version, ())


def compat_drivers(files: InstalledFiles) -> tuple[str, ...]:
    """Drivers of NVIDIA's forward-compatibility libraries in the image."""
    found = (match["driver"] for path in _of(files, "cuda") if (match := _COMPAT.fullmatch(path)))
    return tuple(sorted(set(found)))
