"""CUDA's own libraries on PyPI: what the name and the version of a distribution say, and what it brings."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.tables.rows import Row, once, read_rows
from mlship.cuda.versions import Cuda

FILE = "libraries.toml"
Meaning: TypeAlias = Literal["cuda", "major", "none"]
_MEANINGS: tuple[Meaning, ...] = ("cuda", "major", "none")
_SUFFIX = re.compile(r"-cu([0-9]{2})$", re.ASCII)
_NUMBERS = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})(\.|$)", re.ASCII)


@dataclass(frozen=True)
class CudaLibrary:
    """A distribution that brings some of CUDA's libraries, as all its names have it.

    Attributes:
        name: without a suffix, such as "nvidia-cublas".
        suffixed: what the version says where the name ends in -cu11, -cu12 or -cu13; None where there is no such name.
        plain: what it says where the name has no suffix; None where there is no such name.
        sonames: "{major}" stands for the first number of the distribution's version.
        cu11: sonames of the -cu11 one, where they are others.
    """

    name: str
    suffixed: Meaning | None
    plain: Meaning | None
    sonames: tuple[str, ...]
    cu11: tuple[str, ...]
    note: str | None
    source: str


@dataclass(frozen=True)
class LibraryPin:
    """What one pin of a CUDA library says.

    Attributes:
        cuda: None where its version does not tell.
        major: CUDA's major, from the suffix or the version; None where neither tells.
        sonames: such as ("libcudart.so.12",).
    """

    library: CudaLibrary
    cuda: Cuda | None
    major: int | None
    sonames: tuple[str, ...]


def read_libraries(text: str | None = None) -> tuple[CudaLibrary, ...]:
    """Read libraries.toml, or a text in its place.

    Raises:
        ValueError: see Row; or a name that stands twice.
    """
    return once(read_rows(FILE, ("libraries",), text)["libraries"], _library, lambda item: (item.name,))


def library_pin(libraries: tuple[CudaLibrary, ...], name: str, version: str) -> LibraryPin | None:
    """What a pin says of CUDA; None where it is no library of CUDA's that the tables know.

    Args:
        name: canonical, as PEP 503 has it.
    """
    suffix = _SUFFIX.search(name)
    base = name.removesuffix(suffix[0]) if suffix else name
    library = next((item for item in libraries if item.name == base), None)
    meaning = library and (library.suffixed if suffix else library.plain)
    numbers = _NUMBERS.match(version)
    if library is None or meaning is None or numbers is None:
        return None
    major = int(suffix[1]) if suffix else int(numbers[1]) if meaning in {"cuda", "major"} else None
    if meaning in {"cuda", "major"} and major != int(numbers[1]):
        return LibraryPin(library, None, major, ())  # a placeholder: nvidia-cuda-runtime-cu13 0.0.1 holds no files
    cuda = Cuda(int(numbers[1]), int(numbers[2])) if meaning == "cuda" else None
    texts = (library.cu11 if major == 11 else ()) or library.sonames
    return LibraryPin(library, cuda, major, tuple(text.replace("{major}", numbers[1]) for text in texts))


def _library(row: Row) -> CudaLibrary:
    found = CudaLibrary(
        name=row.text("name"),
        suffixed=row.choice_or_none("suffixed", _MEANINGS),
        plain=row.choice_or_none("plain", _MEANINGS),
        sonames=row.texts_or_none("sonames") or (),
        cu11=row.texts_or_none("cu11") or (),
        note=row.text_or_none("note"),
        source=row.source(),
    )
    if found.suffixed is None and found.plain is None:
        raise row.wrong("says neither what a suffixed name's version means nor what a plain one's does")
    return found
