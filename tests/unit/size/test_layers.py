"""Paths of a layer, its whiteouts, and the files that a container sees, compared with layers applied one by one."""

import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.size.layers import LONGEST_PATH, Budget, LayerTree, layer_path, read_layer, stacked_files, visible
from mlship.size.stream import BrokenTarError
from tests.helpers.layouts import tar

NAMES = st.sampled_from(["a", "a/b", "a/b/c", "a/d", "e", "e/f", "a/b/c/g"])
CONTENTS = st.builds(
    lambda paths, gone, opaque: layer(honest(paths), set(gone), set(opaque)),
    st.dictionaries(NAMES, st.sampled_from(["file", "folder"]), max_size=5),
    st.lists(NAMES, max_size=2),
    st.lists(st.sampled_from(["", "a", "a/b", "e"]), max_size=2),
)


def honest(paths: dict[str, str]) -> dict[str, str]:
    """A layer has no file below another file of its own."""
    return {
        path: kind
        for path, kind in paths.items()
        if not any(path.startswith(f"{other}/") and paths[other] == "file" for other in paths)
    }


def layer(paths: dict[str, str], gone: Iterable[str] = (), opaque: Iterable[str] = ()) -> LayerTree[str]:
    files = {path: path for path, kind in paths.items() if kind == "file"}
    return LayerTree(files, paths.keys() - files.keys(), set(gone), set(opaque))


def files(*paths: str) -> dict[str, str]:
    return dict.fromkeys(paths, "file")


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

    def apply(self, number: int, layer: LayerTree[str]) -> None:
        for path in layer.gone:
            self.remove(path)
        for folder in layer.opaque:
            self.remove(folder, itself=False)
        for path in sorted(layer.files.keys() | layer.folders):
            parts = path.split("/")
            for depth in range(1, len(parts)):
                self.put("/".join(parts[:depth]), None)
            self.put(path, None if path in layer.folders else number)


def applied(layers: list[LayerTree[str]]) -> list[set[str]]:
    disk = Disk()
    for number, layer in enumerate(layers):
        disk.apply(number, layer)
    return [{path for path, by in disk.by.items() if by == number} for number in range(len(layers))]


@given(st.lists(CONTENTS, max_size=4))
def test_as_if_applied(layers: list[LayerTree[str]]) -> None:
    assert visible(layers) == applied(layers)


def test_a_whiteout_hides_a_tree_and_what_comes_later_is_seen() -> None:
    below, middle, above = layer(files("a/b", "a/c/d", "e")), layer({}, gone={"a"}), layer(files("a/b"))
    assert visible([below, middle, above]) == [{"e"}, set(), {"a/b"}]
    assert stacked_files([below, middle, above]) == {"e": (0, "e"), "a/b": (2, "a/b")}


def test_an_opaque_folder_hides_lower_layers_only() -> None:
    assert visible([layer(files("a/b", "ab")), layer(files("a/c"), opaque={"a"})]) == [{"ab"}, {"a/c"}]


def test_a_deep_folder_is_no_problem() -> None:
    path = "/".join("a" * 2000)
    assert visible([layer(files(path)), layer(files("b"))]) == [{path}, {"b"}]


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "\udcff"]), max_size=8).map("/".join))
def test_no_path_leaves_the_root(name: str) -> None:
    parts = layer_path(name).split("/")
    assert ".." not in parts
    assert parts == [""] or all(parts)


def test_a_path_longer_than_any_system_allows_is_refused() -> None:
    assert layer_path("a" * LONGEST_PATH)
    with pytest.raises(BrokenTarError, match="4097 characters"):
        layer_path("a" * (LONGEST_PATH + 1))


@pytest.mark.parametrize(
    ("path", "gone", "opaque"),
    [
        ("a/.wh.b", "a/b", None),
        (".wh.b", "b", None),
        ("a/.wh..wh..opq", None, "a"),
        (".wh..wh..opq", None, ""),
        ("a/b.wh.c", None, None),
        ("a/.whb", None, None),
    ],
)
def test_whiteouts(path: str, gone: str | None, opaque: str | None) -> None:
    found = read_layer(io.BytesIO(tar({path: b"x"})), lambda path, _member, _opened: path, Budget())
    assert found.files == ({path: path} if gone is None and opaque is None else {})
    assert (found.gone, found.opaque) == ({gone} - {None}, {opaque} - {None})


def test_the_last_entry_of_a_path_wins() -> None:
    two = io.BytesIO(tar({"a": b"x"})[:1024] + tar({"a": None, "./b/": None}))
    assert read_layer(two, lambda path, _member, _opened: path, Budget()) == LayerTree({}, {"a", "b"})
