"""What loading a model file uses: of pickles under every wrapping, skops and Keras files, and chat templates."""

import io
import json
import mmap
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlship.json_path import json_objects
from mlship.project.chat_templates import reaches_out, template_texts
from mlship.project.formats import ModelFormat, decompressor
from mlship.project.pickle_globals import pickle_globals
from mlship.project.pickles import is_pickle
from mlship.project.structure.arrays import element_width, numpy_header
from mlship.project.structure.gguf import gguf
from mlship.project.structure.keras import imported_names

_CHUNK = 1 << 16
_EXPANDED = 1 << 33  # bytes
_SCHEMA = 16 << 20
_BROKEN = (OSError, EOFError, RuntimeError, LookupError, zipfile.BadZipFile)


def loaded_names(path: Path, kind: ModelFormat) -> frozenset[str]:
    """Names that loading a file uses, as "module.name"; empty for formats without code.

    Raises:
        ValueError: the file cannot be read as a whole, so it may import more.
    """
    if kind in ("gguf", "text"):
        return frozenset(f"chat_template.{name}" for text in _templates(path, kind) for name in reaches_out(text))
    if kind not in ("pickle", "torch", "numpy-objects", "skops", "keras"):
        return frozenset()
    try:
        with path.open("rb") as file:
            if file.read(2) == b"PK":
                return _ARCHIVES.get(kind, _members)(path)
            file.seek(0)
            with _plain(file) as content:
                return _names(content)
    except _BROKEN as error:
        raise ValueError(f"it cannot be read as a whole ({error})") from error


def _templates(path: Path, kind: ModelFormat) -> Iterator[str]:
    """Chat templates of a GGUF file, or of a file beside a model of Transformers."""
    if kind == "gguf":
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from gguf(data)
    elif path.suffix in (".jinja", ".jinja2", ".j2"):
        yield path.read_text(errors="replace")
    elif path.name in ("tokenizer_config.json", "chat_template.json", "processor_config.json"):
        with path.open("rb") as text:
            yield from template_texts(text.read(_SCHEMA))


def _names(file: IO[bytes]) -> frozenset[str]:
    """Names in a pickle, or in the one behind the header of an array."""
    head = file.read(_CHUNK)
    file.seek(numpy_header(head)[2] if head.startswith(b"\x93NUMPY") else 0)
    return pickle_globals(file)


def _members(path: Path) -> frozenset[str]:
    names: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as packed:
                head = packed.read(_CHUNK)
                packed.seek(0)
                is_array = head.startswith(b"\x93NUMPY") and element_width(numpy_header(head)[0]) is None
                if is_array or member.filename.endswith(".pkl") or is_pickle(io.BytesIO(head)):
                    names |= _names(packed)
    return frozenset(names)


@contextmanager
def _plain(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The file, or its decompressed content."""
    decompress = decompressor(file.read(8))
    file.seek(0)
    if decompress is None:
        yield file
        return
    with tempfile.TemporaryFile() as content:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            content.write(decompress(chunk, _EXPANDED))
            if content.tell() > _EXPANDED:
                raise ValueError("it expands to more than 8 GB")
        content.seek(0)
        yield content


def _skops(path: Path) -> frozenset[str]:
    """Types and functions in a schema, and the names of methods.

    https://github.com/skops-dev/skops/blob/main/skops/io/_general.py
    """
    with zipfile.ZipFile(path) as archive, archive.open("schema.json") as file:
        schema = json.loads(file.read(_SCHEMA))
    names: set[str] = set()
    for node in json_objects(schema):
        if "__class__" in node:
            names.add(f"{node.get('__module__')}.{node['__class__']}")
        if isinstance(node.get("func"), str):
            names.add(f"method {node['func']}")
    return frozenset(names)


def _keras(path: Path) -> frozenset[str]:
    with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
        return frozenset(imported_names(file.read(_SCHEMA)))


_ARCHIVES = {"skops": _skops, "keras": _keras}
