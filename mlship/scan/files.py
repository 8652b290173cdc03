"""Scan one file or the files of a folder."""

import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from mlship.errors import UsageError
from mlship.project.formats import CODE, MODELS, ModelFormat, decompressor, identify
from mlship.project.model_code import loaded_names
from mlship.project.pickle_globals import unlisted
from mlship.project.pickles import is_pickle, may_be_pickle
from mlship.project.weights import check_external, expected_format, is_pickle_name, with_data_files
from mlship.scan.report import FileVerdict, ScannedFile, ScanReport, sorted_files

_MODEL_NAME = re.compile(
    r"(?i).+\.(safetensors|onnx|gguf|ggml|tflite|lite|cbm|ubj|keras|h5|hdf5|npy|npz|skops|ftz|model|mlmodel|msgpack|pb"
    r"|engine|plan|params|weights|caffemodel|t7|nemo|mar|tar|tgz|tar\.\w+|zip|7z|pkl\.\w+|joblib\.\w+|trt|om|dlc|mnn"
    r"|pte|pt2|ptl|pdmodel|pdi?params|rds|rda|rdata|rknn|llamafile|xmodel|hef|ckpt[^/]*\.(?:meta|index|data-\d+-of-\d+))"
)
_TEXTS = (".json", ".yaml", ".yml")
_NAMES_CODE = re.compile(
    rb'(?:!!|yaml\.org,2002:)python/(?:object|name|module)|"py/\w+"\s*:|"class_name"\s*:\s*"(?:Lambda|__lambda__)"'
)
_PATH_FILE = re.compile(r"(?:^|/)(?:site|dist)-packages/[^/]+\.pth$")  # folders for Python, not a file of PyTorch
_NO_FILES = {".git", "__pycache__"}
_TEMPLATES = (".jinja", "tokenizer_config.json", "chat_template.json")
_QUIET: frozenset[ModelFormat] = frozenset({"text", "sentencepiece", "npy", "npz", "savedmodel-data"})
_DATA: frozenset[ModelFormat] = frozenset({"onnx-data", "savedmodel-data"})
_PACKED = (b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!\x1a\x07", b"LZIP")  # not looked into
_TAR = slice(257, 262)  # where a tar has its magic text
_DOCUMENTS = (".apk", ".docx", ".egg", ".epub", ".jar", ".odt", ".pptx", ".war", ".whl", ".xlsx")  # zip archives, too
_MAGIC = (b"PK\x03\x04", b"\x93NUMPY", b"GGUF", b"\x89HDF")


def scan_path(path: Path, watch: Callable[[int, int], None] = lambda _done, _all: None) -> ScanReport:
    """Scan a file, or all files of a folder.

    Args:
        watch: called before each file with the number of those scanned, and of all.

    Raises:
        OSError: the file cannot be read; one in a folder is named in the report.
        UsageError: it is a device, a pipe or a socket.
    """
    if not path.is_file() and not path.is_dir():
        raise UsageError(f"`{path}` is neither a file nor a folder", hint="pass a file, a folder or a local image")
    root = path.parent if path.is_file() else path
    names, unread = ([path.name], []) if path.is_file() else _names(path)
    files = list[ScannedFile]()
    for done, name in enumerate(names):
        watch(done, len(names))
        files += filter(None, [_scan_below(root, name, named=path.is_file())])
    files = [  # any model can name an archive or a template as its data
        replace(new, verdict="data") if new.kind in _DATA and not (old.problem or old.verdict == "code") else old
        for old, new in zip(files, with_data_files(root, files), strict=True)
    ]
    return ScanReport(str(path), len(names), sorted_files(files), tuple(unread))


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Regular files, relative to the folder, and what is not read: links that lead out of it, devices, closed folders.

    A link inside the folder is another name of a file or folder that is read anyway.
    """
    names, unread, closed, top = list[str](), list[str](), list[OSError](), folder.resolve()
    for root, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if name not in _NO_FILES)
        for name in sorted((*files, *(name for name in folders if Path(root, name).is_symlink()))):
            full = Path(root, name)
            shown = full.relative_to(folder).as_posix()
            if full.is_symlink():
                if not Path(os.path.realpath(full)).is_relative_to(top):  # in a circle of links, one of them
                    unread.append(f"{shown}: a link that leads out of the folder")
            elif full.is_file():
                names.append(shown)
            else:
                unread.append(f"{shown}: not a regular file")
    unread += [f"{error.filename}: {error.strerror}" for error in closed]
    return names, unread


def _scan_below(root: Path, name: str, *, named: bool) -> ScannedFile | None:
    try:
        found = scan_file(root / name, name, named=named)
    except OSError as error:
        if named:
            raise
        return ScannedFile(name, "unknown", 0, "unknown", problem=error.strerror)
    if found and found.kind == "onnx":
        try:
            check_external(root, found)
        except UsageError as error:
            return replace(found, verdict="unknown", uses=(), problem=str(error))
    return found


def is_candidate(name: str, head: bytes, size: int) -> bool:
    """Whether a file may be a model, by its name, or may run code, by its first bytes."""
    may_name = name.endswith(_TEXTS) and (size > len(head) or _NAMES_CODE.search(head))
    if may_name or name.endswith(_TEMPLATES) or is_model_name(name) or head.startswith(_MAGIC) or _is_packed(head):
        return True
    return may_be_pickle(head) if size > len(head) else is_pickle(io.BytesIO(head))


def scan_file(path: Path, name: str, *, named: bool = False) -> ScannedFile | None:
    """One file under the name that it is reported with; None if it is no model and runs no code.

    Args:
        named: the user named it, so it is never left out.
    """
    kind, size = identify(path), path.stat().st_size
    problem: str | None = None
    try:
        uses = loaded_names(path, kind)
    except ValueError as error:
        uses, problem = frozenset(), str(error)
    foreign = unlisted(uses)
    if kind in CODE or foreign or problem:
        return ScannedFile(name, kind, size, "code", tuple(sorted(uses)), foreign, problem)
    if kind == "text" and name.endswith(_TEXTS) and size < 64 << 20 and _NAMES_CODE.search(path.read_bytes()):
        return ScannedFile(name, kind, size, "unknown", problem="names code that Keras, jsonpickle or YAML may run")
    is_misnamed = is_pickle_name(name) or expected_format(PurePosixPath(name).suffix)
    if kind == "text" and is_misnamed and not _PATH_FILE.search(name):
        return ScannedFile(name, kind, size, "unknown", problem="is text under the name of a model")
    with path.open("rb") as file:
        head = file.read(_TAR.stop)
    packed = kind == "unknown" and _is_packed(head)
    is_odd = is_model_name(name) or packed or (head.startswith(_MAGIC) and not name.endswith(_DOCUMENTS))
    is_quiet = kind in _QUIET or kind == "empty" or (kind == "unknown" and not is_odd)
    if is_quiet and not named:
        return None
    problem = "is packed: unpack it, and scan what is in it" if packed else None
    verdict: FileVerdict = "data" if kind in MODELS | _QUIET else "unknown"
    return ScannedFile(name, kind, size, verdict, tuple(sorted(uses)), (), problem)


def _is_packed(head: bytes) -> bool:
    return head.startswith(_PACKED) or head[_TAR] == b"ustar" or decompressor(head) is not None


def is_model_name(name: str) -> bool:
    """Whether files of this name often are models."""
    return is_pickle_name(name) or _MODEL_NAME.fullmatch(PurePosixPath(name).name) is not None
