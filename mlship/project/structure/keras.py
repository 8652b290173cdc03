"""Keras models: the container is whole, and the configuration names no code."""

import builtins
import json
import re
import sys
from collections.abc import Iterator

from mlship.json_path import json_objects
from mlship.project.structure.cursor import Buffer, Cursor, require

_CHUNK = 16 << 20
_OVERLAP = 4096
_SEARCHED = 4 << 30  # bytes
_MAGIC = b"\x89HDF\r\n\x1a\n"
# Layers and functions that are Python code in the configuration:
# https://github.com/keras-team/keras/blob/master/keras/src/saving/serialization_lib.py
_CODE_CLASSES = {"Lambda", "__lambda__"}
# What Keras defines and what runs nothing that a configuration names. It finds activations and such before `builtins`.
_OWN = re.compile(
    r"(?:tf_)?keras(?:_hub|_cv|_nlp)?\.(?:\w+\.)*(?!(?:TFSM|Jax|Flax)Layer|TorchModuleWrapper)[A-Z]\w*"
    r"|keras\.(?:src\.)?(?:activations|constraints|initializers|losses|metrics|ops|random|regularizers)\.[\w.]+"
    r"|tensorflow\.[\w.]+Spec"
)
_NAMED = re.compile(rb'\\?"(class_name|module|fn_module)\\?"\s*:\s*\\?"([^"\\]{0,200})')
_ESCAPED = re.compile(rb"\\u00(?:[2-6][0-9a-fA-F]|7[0-9a-eA-E])")  # ASCII that no writer escapes
_SUPERBLOCKS = {0: (13, 24), 1: (13, 28), 2: (9, 12), 3: (9, 12)}  # where the width of addresses and the first one are


def config_has_code(text: bytes) -> bool:
    """Whether a configuration names a Lambda, or a module of Python's own."""
    nodes = json_objects(json.loads(text))
    return any(_is_code(str(node.get("class_name")), str(node.get("module"))) for node in nodes)


def imported_names(text: bytes) -> Iterator[str]:
    """Classes and functions that Keras imports for a configuration, and does not define itself."""
    for node in json_objects(json.loads(text)):
        module, name = node.get("module"), node.get("spec_name") or node.get("class_name")
        name = node.get("config") if name == "function" else name
        is_own = _OWN.fullmatch(f"{module}.{name}") or (module == "builtins" and not hasattr(builtins, str(name)))
        if module and name and not is_own:
            yield f"{module}.{name}"


def _is_code(name: str, module: str) -> bool:
    top = module.partition(".")[0]
    return name in _CODE_CLASSES or (top in sys.stdlib_module_names and top != "builtins")


def hdf5_is_whole(head: bytes, size: int) -> None:
    """Check the superblock and the end-of-file address.

    https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
    """
    require(head[:8] == _MAGIC, "no HDF5")
    width_at, base_at = _SUPERBLOCKS[head[8]]
    require(head[width_at] == 8, "an unusual width of addresses")
    base = Cursor(head, base_at)
    require(base.number("Q") == 0, "it does not begin at the first byte")
    base.skip(8)
    require(base.number("Q") == size, "its end is not the end of the file")


def hdf5(data: Buffer) -> bool:
    """Check a file; whether it has a Keras configuration that names code."""
    hdf5_is_whole(data[:128], len(data))
    require(len(data) <= _SEARCHED, "too large to look for code")
    return any(mentions_code(data[max(0, at - _OVERLAP) : at + _CHUNK]) for at in range(0, len(data), _CHUNK))


def mentions_code(part: bytes) -> bool:
    """Whether bytes that hold configurations of layers name code."""
    if b"class_name" not in part and b"\\u00" not in part:
        return False
    if _ESCAPED.search(part) and b"class" in part:
        return True
    found = ((match[1].decode(), match[2].decode("utf-8", "replace")) for match in _NAMED.finditer(part))
    return any(_is_code(value, "") if key == "class_name" else _is_code("", value) for key, value in found)
