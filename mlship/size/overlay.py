"""Which file of which layer a container sees, where layers lie on each other. Pure."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field

from mlship.size.content import Content


@dataclass
class _Above:
    """What the layers above do to one that is looked at.

    Attributes:
        taken: paths that are no folder up there, or are removed there: nothing at or below them is seen.
        folders: paths that are folders up there: a file at one of them is not seen.
        opaque: folders of which only the layers above are seen.
    """

    taken: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    opaque: set[str] = field(default_factory=set)

    def add(self, content: Content) -> None:
        """The layer that was looked at is now one of those above."""
        for path, file in content.files.items():
            (self.folders if file.kind == "folder" else self.taken).add(path)
            folder = posixpath.dirname(path)
            while folder and folder not in self.folders:
                self.folders.add(folder)
                folder = posixpath.dirname(folder)
        self.taken |= content.gone
        self.opaque |= content.opaque


def visible(layers: Sequence[Content]) -> list[set[str]]:
    """For each layer the paths of its files, links included and folders not, that a container sees."""
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
    """What lies in this folder is hidden, since the folder or one around it is."""
    chain = []
    while folder not in known:
        chain.append(folder)
        folder = posixpath.dirname(folder)
    answer = known[folder]
    for path in reversed(chain):
        answer = answer or path in above.taken or path in above.opaque
        known[path] = answer
    return answer
