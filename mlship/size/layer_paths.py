"""Paths in the tar of a layer, and the files by which a layer removes those of lower layers. Pure.

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts
"""

import posixpath

from mlship.size.stream import BrokenTarError

LONGEST_PATH = 4096  # PATH_MAX on Linux
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def layer_path(name: str) -> str:
    """The path of a tar's member, from the root; `..` cannot leave it.

    Raises:
        BrokenTarError: it is longer than any system allows.
    """
    if len(name) > LONGEST_PATH:
        raise BrokenTarError(f"a path has {len(name)} characters")
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # names can hold any bytes
    return posixpath.normpath(f"/{text}").lstrip("/")


def is_opaque(path: str) -> bool:
    """Whether it hides what lower layers have in its folder."""
    return posixpath.basename(path) == _OPAQUE


def removed_by(path: str) -> str | None:
    """What the file removes from lower layers, with everything below it; None for other files."""
    folder, name = posixpath.split(path)
    if is_opaque(path):
        return folder
    return posixpath.join(folder, name.removeprefix(_WHITEOUT)) if name.startswith(_WHITEOUT) else None


def is_within(path: str, folder: str) -> bool:
    """Whether it is the folder, or below it; the empty path is the root."""
    return path == folder or path.startswith(f"{folder}/") or not folder
