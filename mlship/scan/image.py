"""Scan the layers of an image as the engine saves them, in one pass, without running or unpacking it."""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mlship.scan.files import is_candidate, scan_file
from mlship.scan.report import ScannedFile, ScanReport, sorted_files
from mlship.size.layout import image_errors
from mlship.size.stream import CHUNK, BrokenTarError, ByteStream, Readable, members, rewound, tar_in

_HEAD = 1 << 16
_SHORT = 12  # characters of a digest
_COPIED = 1 << 30  # bytes of a file; a larger one is copied if the disk has room for two
_BY_ENDS = (".safetensors", ".gguf")  # formats whose structure is at the ends
_ENDS = 64 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,100}", re.ASCII)


def scan_image(chunks: Iterable[bytes], name: str, watch: Callable[[int], None] = lambda _count: None) -> ScanReport:
    """Read a saved image to its end. Files that a later layer removes are in the image too.

    Raises:
        EngineError: the stream is not a complete image.
    """
    found = list[ScannedFile | str | None]()
    with image_errors(name), tempfile.TemporaryDirectory() as folder:
        for member, content in members(ByteStream(chunks, watch)):
            if member.isreg():
                blob = member.name.removesuffix("/layer.tar").rpartition("/")[2]
                found += _in_blob(blob, content(), Path(folder))
    files = [one for one in found if isinstance(one, ScannedFile)]
    unread = tuple(one for one in found if isinstance(one, str))
    return ScanReport(name, len(found) - len(unread), sorted_files(files), unread)


def _in_blob(blob: str, stream: Readable, folder: Path) -> Iterator[ScannedFile | str | None]:
    """Each file of a layer, None for one that is no model, and a text for what cannot be read; or JSON of the image."""
    tar, head = tar_in(stream)
    try:
        for file in _files(tar, folder) if tar else ():
            yield replace(file, layer=blob) if file else None
    except BrokenTarError as error:
        yield f"layer {blob[:_SHORT]}: {error}"
    if not tar and head and not head.lstrip().startswith((b"{", b"[")):
        yield f"layer {blob[:_SHORT]}: unknown compression"


def _files(layer: Readable, folder: Path) -> Iterator[ScannedFile | None]:
    """Each regular file of a layer, scanned if it can be a model."""
    for member, opened in members(layer):
        if not member.isreg():
            continue
        content = opened()
        head = content.read(_HEAD)
        path = member.name.removeprefix("./")
        if not is_candidate(path, head, member.size):
            yield None
            continue
        name = path.rpartition("/")[2]
        copy = folder / (name if _PLAIN_NAME.fullmatch(name) else "file")  # some formats need their name
        whole = _copy(rewound(head, content), member.size, copy)
        found = scan_file(copy, path)
        copy.unlink()
        if not whole and (found is None or found.kind not in ("safetensors", "gguf", "onnx")):
            found = found or ScannedFile(path, "unknown", member.size, "unknown")
            found = replace(found, verdict="unknown", problem="too large to be read as a whole on this disk")
        yield found


def _copy(content: Readable, size: int, copy: Path) -> bool:
    """Write a file, or the two ends of a large one with a hole between them; whether it is whole."""
    whole = size <= _COPIED
    if not whole and copy.suffix not in _BY_ENDS:
        whole = size < shutil.disk_usage(copy.parent).free // 2
    at = 0
    with copy.open("wb") as file:
        while data := content.read(CHUNK):
            if whole or at < _ENDS or at > size - _ENDS:
                file.seek(at)
                file.write(data)
            at += len(data)
        file.truncate(at)
    return whole
