"""Determine which files of each layer a container sees. Pure."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlship.size.content import Content


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

    def add(self, content: Content) -> None:
        for path, file in content.files.items():
            (self.folders if file.kind == "folder" else self.taken).add(path)
            folder = posixpath.dirname(path)
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = posixpath.dirname(folder)
        self.taken |= content.gone
        self.opaque |= content.opaque


def visible(layers: Sequence[Content]) -> list[set[str]]:
    """Return the visible paths of each layer; includes links, excludes folders."""
    above, seen = _Above(), []
    for content in reversed(layers):
        buried: dict[str, bool] = {"": "" in above.opaque}
        seen.append(
            {
                path
                for path, file in content.files.items()
                if file.kind != "folder"
                and path not in above.taken
                and path not in above.folders
                and not _buried(posixpath.dirname(path), above, buried)
            }
        )
        above.add(content)
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
