"""What loading a pickle imports, and which of it model files of known frameworks need. Nothing is imported or called.

The pickle is executed with placeholders for everything it imports, because opcodes alone do not say where joblib's
arrays end.
"""

import math
import pickle
import re
import struct
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import translate
from functools import cache
from typing import IO, ClassVar, Self, cast

from mlship.project.structure.arrays import element_width
from mlship.resources import read_package_file

_WRAPPERS = ("joblib.numpy_pickle.NumpyArrayWrapper", "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper")
_MOST = 30_000_000  # reads, of which an opcode needs one to three
_LONGEST_LINE = 1 << 26  # bytes
_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, RecursionError, MemoryError),
    *(AssertionError, pickle.UnpicklingError, struct.error),
)


def pickle_globals(file: IO[bytes]) -> frozenset[str]:
    """Names that loading the pickles of a file imports, as "module.name".

    Raises:
        ValueError: the file cannot be read to the end of a pickle, so it may import more.
    """
    start = file.tell()
    reader = _Reader(file, arrays=True)
    try:
        reader.load()
    except _ERRORS as error:
        raise ValueError(f"the pickle cannot be read to its end ({str(error) or 'it is cut short'})") from error
    names = reader.names
    with suppress(*_ERRORS):  # PyTorch's old format is several pickles, then numbers
        while file.read(1) == b"\x80":
            file.seek(-1, 1)
            reader.load()
    if names & set(_WRAPPERS):  # `pickle.load` would read the arrays as opcodes
        file.seek(start)
        plain = _Reader(file, arrays=False)
        with suppress(*_ERRORS):
            plain.load()
        names |= plain.names
    return frozenset(names)


def unlisted(names: Iterable[str], trusted: Iterable[str] = ()) -> tuple[str, ...]:
    """Names that neither a known framework needs nor the user lists."""
    listed = frozenset(trusted)
    return tuple(sorted(name for name in names if name not in listed and not _is_known(name)))


def _is_known(full: str) -> bool:
    module, _, name = full.rpartition(".")
    return any(modules.fullmatch(module) and names.fullmatch(name) for modules, names in _known())


@cache
def _known() -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    rows = tomllib.loads(read_package_file("data/pickle_globals.toml"))["rows"]
    return tuple((_any(row["modules"], row.get("without", [])), _any(row["names"].split(), [])) for row in rows)


def _any(patterns: list[str], without: list[str]) -> re.Pattern[str]:
    excluded = "".join(f"(?!{translate(pattern)})" for pattern in without)
    return re.compile(excluded + "(?:" + "|".join(map(translate, patterns)) + ")")


class _Placeholder:
    """Stands for a class, a function, or what calling one returns."""

    def __new__(cls, *arguments: object, **_: object) -> Self:
        made = object.__new__(cls)
        made.arguments = arguments
        made.state = None
        return made

    arguments: tuple[object, ...]
    state: object

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __call__(self, *_: object) -> object:
        return _Placeholder()  # what a call returns may be called

    def __setitem__(self, key: object, value: object) -> None:
        """Items of subclasses of dict."""

    def append(self, item: object) -> None:
        """Items of subclasses of list."""

    extend = add = update = append


_STEPS = cast("dict[int, Callable[[_Reader], None]]", pickle._Unpickler.dispatch)  # noqa: SLF001


class _Metered:
    """A file that ends reading when it takes too long."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.left = _MOST

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise ValueError("it has too many steps to check")
        return self.file.read(size)

    def readline(self) -> bytes:
        self.left -= 1
        return self.file.readline(_LONGEST_LINE)


def _no_frame(reader: "_Reader") -> None:
    """Frames say how much to read at once, which would be too much of a large file."""
    reader.file.seek(8, 1)


def _skips(width: int) -> "Callable[[_Reader], None]":
    """Bytes are data: their length says how many to skip."""

    def load(reader: "_Reader") -> None:
        reader.file.seek(int.from_bytes(reader.file.read(width), "little"), 1)
        reader.stack.append(b"")

    return load


class _Reader(pickle._Unpickler):  # noqa: SLF001  only this one lets us see each step
    """Executes opcodes with placeholders, and notes the names."""

    stack: list[object]
    dispatch: ClassVar[dict[int, "Callable[[_Reader], None]"]] = {  # type: ignore[assignment]  # steps get this class
        **_STEPS,
        pickle.FRAME[0]: _no_frame,
        pickle.BINBYTES[0]: _skips(4),
        pickle.BINBYTES8[0]: _skips(8),
        pickle.BYTEARRAY8[0]: _skips(8),
    }

    def __init__(self, file: IO[bytes], *, arrays: bool) -> None:
        super().__init__(cast("IO[bytes]", _Metered(file)), encoding="latin-1")
        self.file = file
        self.arrays = arrays
        self.names: set[str] = set()

    def find_class(self, module: object, name: object) -> type:
        self.names.add(f"{module}.{name}")
        return type("Placeholder", (_Placeholder,), {"full": f"{module}.{name}"})

    def persistent_load(self, _id: object) -> object:
        return _Placeholder()

    def get_extension(self, code: int) -> None:
        raise ValueError(f"it uses the extension registry ({code})")

    def load_build(self) -> None:
        _STEPS[pickle.BUILD[0]](self)
        last = self.stack[-1]
        if self.arrays and isinstance(last, _Placeholder) and getattr(last, "full", "") in _WRAPPERS:
            self._skip_array(last.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _skip_array(self, state: object) -> None:
        """The array that joblib writes behind its wrapper."""
        if not isinstance(state, dict):
            raise TypeError("joblib's array has no shape")
        dtype = cast("_Placeholder", state["dtype"])
        if _has_objects(dtype):
            inner = _Reader(self.file, arrays=True)
            inner.names = self.names
            inner.load()
            return
        if state.get("numpy_array_alignment_bytes"):
            self.file.read(self.file.read(1)[0])
        width = element_width(str(dtype.arguments[0]))
        if width is None:
            raise ValueError(f"unknown element type {dtype.arguments[0]}")
        self.file.seek(math.prod(int(n) for n in state["shape"]) * width, 1)


def _has_objects(dtype: _Placeholder) -> bool:
    waiting: list[object] = [dtype]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _Placeholder):
            if part.arguments and str(part.arguments[0]).startswith("O"):
                return True
            waiting.append(part.state)
        elif isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, tuple):
            waiting += part
    return False
