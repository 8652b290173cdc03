"""Visible files of stacked layers, compared with a model that applies the layers one by one."""

from hypothesis import given
from hypothesis import strategies as st

from mlship.size.content import Content, File
from mlship.size.overlay import visible

NAMES = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e", "e/f", "a/b/c/g"])
FILES = st.sampled_from([File(1), File(0, "link"), File(0, "folder")])
CONTENTS = st.builds(
    lambda files, gone, opaque: Content(honest(files), set(gone), set(opaque)),
    st.dictionaries(NAMES, FILES, max_size=5),
    st.lists(NAMES, max_size=2),
    st.lists(st.sampled_from(["", "a", "a/b", "e"]), max_size=2),
)


def honest(files: dict[str, File]) -> dict[str, File]:
    """A layer has no file below another file of its own."""
    return {
        path: file
        for path, file in files.items()
        if not any(path.startswith(f"{other}/") and files[other].kind != "folder" for other in files)
    }


class Disk:
    """What an engine makes of layers: each applied to one folder after the other. None is a folder."""

    def __init__(self) -> None:
        self.by: dict[str, int | None] = {}

    def remove(self, path: str, *, itself: bool = True) -> None:
        start = f"{path}/" if path else ""
        for name in [name for name in self.by if name.startswith(start) or (itself and name == path)]:
            del self.by[name]

    def put(self, path: str, by: int | None) -> None:
        if by is None and self.by.get(path, 0) is None:
            return
        self.remove(path)
        self.by[path] = by

    def apply(self, number: int, layer: Content) -> None:
        for path in layer.gone:
            self.remove(path)
        for folder in layer.opaque:
            self.remove(folder, itself=False)
        for path, file in sorted(layer.files.items()):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                self.put("/".join(parts[:depth]), None)
            self.put(path, None if file.kind == "folder" else number)


def applied(layers: list[Content]) -> list[set[str]]:
    disk = Disk()
    for number, layer in enumerate(layers):
        disk.apply(number, layer)
    return [{path for path, by in disk.by.items() if by == number} for number in range(len(layers))]


@given(st.lists(CONTENTS, max_size=4))
def test_as_if_applied(layers: list[Content]) -> None:
    assert visible(layers) == applied(layers)


def test_a_whiteout_hides_a_tree_and_what_comes_later_is_seen() -> None:
    below = Content({"a/b": File(1), "a/c/d": File(2), "e": File(3)})
    middle = Content(gone={"a"})
    above = Content({"a/b": File(4)})
    assert visible([below, middle, above]) == [{"e"}, set(), {"a/b"}]


def test_an_opaque_folder_hides_lower_layers_only() -> None:
    below, above = Content({"a/b": File(1), "ab": File(1)}), Content({"a/c": File(1)}, opaque={"a"})
    assert visible([below, above]) == [{"ab"}, {"a/c"}]
