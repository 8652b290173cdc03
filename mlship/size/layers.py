"""A layer as its paths and what it removes from lower layers, and the files that a container sees of stacked layers.

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md
"""

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from mlship.size.stream import BrokenTarError, Readable, TarEntry, members, tar_in

T = TypeVar("T")
LONGEST_PATH = 4096  # PATH_MAX on Linux
MOST_NAMES = 5_000_000  # files plus lines of RECORD files; a large image has about 100,000
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"

# What is known of a file or link, from its path, its entry, and a function that opens its content once.
FileReader: TypeAlias = Callable[[str, TarEntry, Callable[[], Readable]], T]


@dataclass
class LayerTree(Generic[T]):
    """Content of one layer. Paths have no leading slash.

    Attributes:
        files: files and links by path.
        folders: paths of folders.
        gone: paths whose whole tree this layer removes from lower layers.
        opaque: folders whose content from lower layers this layer hides.
    """

    files: dict[str, T] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)


@dataclass
class Budget:
    """Limits the names held in memory for one image."""

    left: int = MOST_NAMES

    def spend(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise BrokenTarError(f"more than {MOST_NAMES} files")


def read_layer(stream: Readable, read: FileReader[T], budget: Budget) -> LayerTree[T]:
    """Read a layer, also a compressed one, to its end.

    Raises:
        BrokenTarError: it is no layer, is incomplete, or has more names than the budget allows.
    """
    tar, _ = tar_in(stream)
    if tar is None:
        raise BrokenTarError("unknown compression")
    return read_layer_tar(tar, read, budget)


def read_layer_tar(tar: Readable, read: FileReader[T], budget: Budget) -> LayerTree[T]:
    """Read the tar of a layer to its end; the last entry of a path wins.

    Raises:
        BrokenTarError: the tar is incomplete, or has more names than the budget allows.
    """
    found = LayerTree[T]()
    for member, opened in members(tar):
        budget.spend()
        path = layer_path(member.name)
        folder, name = posixpath.split(path)
        if name == _OPAQUE:
            found.opaque.add(folder)
        elif name.startswith(_WHITEOUT):
            found.gone.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
        elif member.isdir():
            found.files.pop(path, None)
            found.folders.add(path)
        elif path:
            found.folders.discard(path)
            found.files[path] = read(path, member, opened)
    return found


def layer_path(name: str) -> str:
    """The path of a tar's member, from the root; `..` cannot leave it.

    Raises:
        BrokenTarError: it is longer than any system allows.
    """
    if len(name) > LONGEST_PATH:
        raise BrokenTarError(f"a path has {len(name)} characters")
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")  # names can hold any bytes
    return posixpath.normpath(f"/{text}").lstrip("/")


@dataclass
class _Above:
    """How the layers above hide files of the current layer.

    Attributes:
        taken: paths that are removed or are not folders above; they hide everything at or below them.
        folders: paths that are folders above; they hide a file at the same path.
        opaque: folders that hide all of their content in lower layers.
    """

    taken: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)

    def add(self, layer: LayerTree[T]) -> None:
        self.taken |= layer.files.keys() | layer.gone
        self.opaque |= layer.opaque
        self.folders |= layer.folders
        for path in (*layer.files, *layer.folders):
            folder = posixpath.dirname(path)
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = posixpath.dirname(folder)


def visible(layers: Sequence[LayerTree[T]]) -> list[set[str]]:
    """Return the visible paths of each layer, of files and links."""
    above, seen = _Above(), []
    for layer in reversed(layers):
        buried: dict[str, bool] = {"": "" in above.opaque}
        left = layer.files.keys() - above.taken - above.folders
        seen.append({path for path in left if not _buried(posixpath.dirname(path), above, buried)})
        above.add(layer)
    return seen[::-1]


def _buried(folder: str, above: _Above, known: dict[str, bool]) -> bool:
    """Report whether the folder or one of its parents is hidden; caches the answer in `known`."""
    chain = []
    while folder not in known:
        chain.append(folder)
        folder = posixpath.dirname(folder)
    answer = known[folder]
    for path in reversed(chain):
        answer = answer or path in above.taken or path in above.opaque
        known[path] = answer
    return answer


def stacked_files(layers: Sequence[LayerTree[T]]) -> dict[str, tuple[int, T]]:
    """The files and links that a container sees, each with the number of its layer, from 0."""
    rows = enumerate(zip(layers, visible(layers), strict=True))
    return {path: (number, layer.files[path]) for number, (layer, paths) in rows for path in paths}
