"""CUDA libraries and the loader: which folders it needs, and whether it then finds what the packages need.

Runs while an image is built, with the base image's own Python and nothing but the standard library; never shipped.

    libraries.py folders SITE_PACKAGES        prints what belongs in a file of /etc/ld.so.conf.d
    ldconfig -p | libraries.py check ROOT...  looks at every library below the roots; exit code 1 where one is wrong

Problems are printed as "mlship: ..." with a last line "hint: ..."; `mlship.engine.failures` reads both.
"""

import json
import os
import re
import struct
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

# Which wheel has a library, without the CUDA in its name; the longest beginning counts.
_WHEELS = {
    "libcublas": "cublas",
    "libcudart": "cuda-runtime",
    "libcudnn": "cudnn",
    "libcufft": "cufft",
    "libcufile": "cufile",
    "libcupti": "cuda-cupti",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse",
    "libcusparseLt": "cusparselt",
    "libnccl": "nccl",
    "libnpp": "npp",
    "libnvJitLink": "nvjitlink",
    "libnvToolsExt": "nvtx",
    "libnvblas": "cublas",
    "libnvfatbin": "nvfatbin",
    "libnvjpeg": "nvjpeg",
    "libnvrtc": "cuda-nvrtc",
    "libnvshmem": "nvshmem",
}
_KEEPS_SUFFIX = {"cudnn", "cusparselt", "nccl", "nvshmem"}  # for CUDA 13 too; the others dropped theirs
# A wheel's private copy has a hash in its name (libcudart-d0da41ae.so.11.0), and only that wheel uses it.
_CUDA = re.compile(rf"(?:{'|'.join(_WHEELS)})[A-Za-z_]*(?:-builtins)?(?:\.alt)?\.so(?:\.|$)")
# Of the host's driver: NVIDIA's container toolkit brings them, and any other copy would not fit the kernel module.
_DRIVER = re.compile(r"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|nvidia-[a-z0-9-]+)\.so(?:\.|$)")
# CuPy imports these where it is asked for what they wrap, and says so where they do not load.
_OPTIONAL = re.compile(r"/cupy_backends/cuda/libs/(?:cudnn|nccl)\.")
_CACHED = re.compile(r"\s+(\S+) \(.*\) => (/.+)")
_REMOVE = "remove the package that brings it from requirements.in, or from system.run in mlship.yaml"
_SHOWN = 8

_HEADER = struct.Struct("<16x2xH4x8xQ8x4x2xHH6x")  # machine, and where, how large, how many program headers
_SEGMENT = struct.Struct("<I4xQQ8xQ16x")  # kind, offset, address, size in the file
_ENTRY = struct.Struct("<QQ")
_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRINGS, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29
_LIMIT = 1 << 20  # bytes of a dynamic section; real ones have some hundreds


@dataclass(frozen=True)
class SharedLibrary:
    """What the loader reads of a shared library.

    Attributes:
        machine: ELF's number of the processor.
        needed: names that it must find.
        folders: where it looks first (RPATH or RUNPATH), $ORIGIN filled in.
    """

    path: Path
    machine: int
    soname: str
    needed: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ImageFiles:
    """What an image holds.

    Attributes:
        files: paths of everything below the roots that is named like a library, links too.
        libraries: the files among them that could be read, for this machine.
        cache: what `ldconfig -p` knows: paths by name.
    """

    files: tuple[Path, ...]
    libraries: tuple[SharedLibrary, ...]
    cache: dict[str, tuple[Path, ...]]

    @cached_property
    def names(self) -> frozenset[str]:
        """What the libraries are called, by their files and by themselves."""
        return frozenset((*(path.name for path in self.files), *(library.soname for library in self.libraries)))

    @cached_property
    def packages(self) -> dict[str, set[str]]:
        """Names of the files that each package brings."""
        found: dict[str, set[str]] = defaultdict(set)
        for path in self.files:
            found[_package(path)].add(path.name)
        return dict(found)


@dataclass(frozen=True)
class LibraryProblem:
    what: str
    hint: str


def read_library(path: Path) -> SharedLibrary | None:
    """None for what is no 64-bit little-endian ELF file with a dynamic section."""
    try:
        with path.open("rb") as file:
            if file.read(6) != b"\x7fELF\x02\x01":
                return None
            return _read(path, file)
    except (OSError, OverflowError, ValueError, struct.error):
        return None


def _read(path: Path, file: BinaryIO) -> SharedLibrary | None:
    machine, start, size, count = _HEADER.unpack(_at(file, 0, _HEADER.size))
    if size != _SEGMENT.size:
        return None
    segments = list(_SEGMENT.iter_unpack(_at(file, start, size * count)))
    dynamic = next(((offset, length) for kind, offset, _, length in segments if kind == _DYNAMIC), None)
    if dynamic is None:
        return None
    entries = _entries(_at(file, dynamic[0], min(dynamic[1], _LIMIT)))
    strings = _offset(next((value for tag, value in entries if tag == _STRINGS), 0), segments)

    def named(*tags: int) -> tuple[str, ...]:
        texts = (_at(file, strings + value, 4096) for tag, value in entries if tag in tags)
        return tuple(os.fsdecode(text.partition(b"\0")[0]) for text in texts)

    return SharedLibrary(
        path, machine, next(iter(named(_SONAME)), ""), named(_NEEDED), _folders(path, named(_RPATH, _RUNPATH))
    )


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _entries(section: bytes) -> list[tuple[int, int]]:
    """Tags and values up to the first tag 0."""
    found: list[tuple[int, int]] = []
    for tag, value in _ENTRY.iter_unpack(section[: len(section) // _ENTRY.size * _ENTRY.size]):
        if tag == 0:
            break
        found.append((tag, value))
    return found


def _offset(address: int, segments: Iterable[tuple[int, int, int, int]]) -> int:
    """Where in the file an address of the loaded library is."""
    for kind, offset, start, length in segments:
        if kind == _LOAD and start <= address < start + length:
            return offset + address - start
    return address


def _folders(path: Path, searched: Iterable[str]) -> tuple[str, ...]:
    parts = [part for text in searched for part in text.split(":") if part]
    return tuple(re.sub(r"\$(?:ORIGIN|\{ORIGIN\})", lambda _: str(path.parent), part) for part in parts)


def is_cuda(name: str) -> bool:
    """The name of one of CUDA's user-space libraries, which the image must have."""
    return bool(_CUDA.match(name))


def is_driver(name: str) -> bool:
    """The name of a library of the driver, which the image must not have."""
    return bool(_DRIVER.match(name))


def cuda_folders(site_packages: Path) -> list[Path]:
    """Where NVIDIA's wheels put CUDA's libraries, sorted."""
    return [
        folder
        for folder in sorted(site_packages.glob("nvidia/*/lib"))
        if any(is_cuda(p.name) for p in folder.glob("*"))
    ]


def look(roots: Iterable[Path], cached: str, machine: int) -> ImageFiles:
    """Read every library below the roots.

    Args:
        cached: what `ldconfig -p` says.
        machine: ELF's number of the processor; what is for another one is left out.
    """
    files = tuple(path for root in roots for path in _below(root))
    libraries = (read_library(path) for path in files if not path.is_symlink())
    cache: dict[str, tuple[Path, ...]] = {}
    for name, path in _CACHED.findall(cached):
        cache[name] = (*cache.get(name, ()), Path(path))
    return ImageFiles(files, tuple(found for found in libraries if found and found.machine == machine), cache)


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names) if re.search(r"\.so(\.|$)", name))


def missing(image: ImageFiles, brings: dict[str, str]) -> Iterator[LibraryProblem]:
    """What needs a CUDA library that the loader does not find."""
    for library in image.libraries:
        absent = _absent(image, library)
        cuda = [name for name in absent if is_cuda(name)]
        if cuda and len(cuda) == len(absent) and not _OPTIONAL.search(str(library.path)):
            have = "it" if len(cuda) == 1 else "them"
            yield LibraryProblem(
                f"{_shown(library.path)} needs {', '.join(cuda)}, and nothing in the image has {have}",
                f"add {_bringing(library.path, cuda, brings)} to requirements.in, then run `mlship lock`",
            )


def left_out(image: ImageFiles) -> Iterator[str]:
    """Plug-ins that cannot load here whatever CUDA there is, as they need something else that the image lacks."""
    for library in image.libraries:
        others = [name for name in _absent(image, library) if not is_cuda(name)]
        if others and any(is_cuda(name) for name in library.needed):
            yield f"{_shown(library.path)} is not looked at: it also needs {', '.join(others)}, which the image lacks"


def _absent(image: ImageFiles, library: SharedLibrary) -> list[str]:
    """What the library needs and will not get.

    A package finds what is not CUDA in its own ways: torch's libraries are loaded long before a kernel that needs them.
    What it has of CUDA in a folder of its own it loads itself; what others have there does not count.
    """
    own = image.packages.get(_package(library.path), set())
    return [
        name
        for name in library.needed
        if not (
            is_driver(name)
            or name in image.cache
            or any(os.path.lexists(f"{folder}/{name}") for folder in library.folders)
            or name in (own if is_cuda(name) else image.names)
        )
    ]


def _package(path: Path) -> str:
    """The folder below site-packages that a file belongs to; elsewhere the folder that it lies in."""
    _, found, rest = str(path).partition("/site-packages/")
    return rest.partition("/")[0].removesuffix(".libs") if found else str(path.parent)


def strangers(image: ImageFiles) -> Iterator[LibraryProblem]:
    """Libraries of a driver, which only the host may bring, and stubs, which cannot compute."""
    cached = {path for paths in image.cache.values() for path in paths}
    for path in sorted(path for path in cached if _set_aside(path)):
        yield LibraryProblem(f"the loader would take {path}: that folder is not for it", _REMOVE)
    brought = {path for path in (*cached, *image.files) if is_driver(path.name) and not _set_aside(path)}
    for path in sorted(brought):
        yield LibraryProblem(
            f"{path} is of a driver, and the image must have none: the host's own has to be found", _REMOVE
        )


def _set_aside(path: Path) -> bool:
    """In a folder that the loader must not know: stubs to link against, or a newer driver for older hosts."""
    return not {"stubs", "compat"}.isdisjoint(path.parts[:-1])


def twice(image: ImageFiles) -> Iterator[LibraryProblem]:
    """CUDA libraries that two folders have: one is a waste, and which one is loaded is left to chance."""
    folders: dict[str, set[str]] = defaultdict(set)
    cached = (path for paths in image.cache.values() for path in paths)
    for path in (*cached, *(path for path in image.files if path.match("site-packages/nvidia/*/lib/*"))):
        if is_cuda(path.name):
            folders[path.name.partition(".so")[0]].add(os.path.realpath(path.parent))
    where: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, found in sorted(folders.items()):
        if len(found) > 1:
            where[tuple(sorted(found))].append(name)
    for paths, names in where.items():
        yield LibraryProblem(
            f"CUDA is in the image twice: {', '.join(names)} {'is' if len(names) == 1 else 'are'} in "
            f"{' and in '.join(paths)}",
            "lock packages for one CUDA only, and all of NVIDIA's wheels that they need or none of them",
        )


def _shown(path: Path) -> str:
    return str(path).partition("/site-packages/")[2] or str(path)


def _bringing(path: Path, names: list[str], brings: dict[str, str]) -> str:
    wheels = " and ".join(sorted({_wheel(name) for name in names}))
    extra = brings.get(_package(path))
    return f"{extra}, which brings it, or {wheels}," if extra else wheels


def _wheel(name: str) -> str:
    stem = _WHEELS[max((key for key in _WHEELS if name.startswith(key)), key=len)]
    return f"nvidia-{stem}-cu12 (for CUDA 13: nvidia-{stem}{'-cu13' if stem in _KEEPS_SUFFIX else ''})"


def check(image: ImageFiles, brings: dict[str, str]) -> Iterator[str]:
    """What is wrong as lines for people; nothing where all is well.

    Args:
        brings: requirements that bring CUDA's libraries, by the folder in site-packages that needs them.
    """
    found = [*strangers(image), *twice(image), *missing(image, brings)]
    yield from (f"mlship: {problem.what}" for problem in found[:_SHOWN])
    if found[_SHOWN:]:
        yield f"and {len(found) - _SHOWN} more like this"
    if found:
        yield f"hint: {found[0].hint}"


def main(arguments: list[str]) -> int:
    """The exit code; lines for people go to stderr, the folders to stdout."""
    command, *paths = arguments
    if command == "folders":
        sys.stdout.writelines(f"{folder}\n" for path in paths for folder in cuda_folders(Path(path)))
        return 0
    python = read_library(Path(sys.executable).resolve())
    image = look(map(Path, paths), sys.stdin.read(), python.machine if python else 0)
    sys.stderr.writelines(f"note: {line}\n" for line in left_out(image))
    wrong = list(check(image, json.loads(Path(__file__).with_name("gpu.json").read_text())))
    sys.stderr.writelines(f"{line}\n" for line in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
