"""Paths of a layer, and what its whiteouts remove."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.size.layer_paths import LONGEST_PATH, is_opaque, is_within, layer_path, removed_by
from mlship.size.stream import BrokenTarError


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "\udcff"]), max_size=8).map("/".join))
def test_no_path_leaves_the_root(name: str) -> None:
    parts = layer_path(name).split("/")
    assert ".." not in parts
    assert parts == [""] or all(parts)
    assert is_within(layer_path(name), "")


def test_a_path_longer_than_any_system_allows_is_refused() -> None:
    assert layer_path("a" * LONGEST_PATH)
    with pytest.raises(BrokenTarError, match="4097 characters"):
        layer_path("a" * (LONGEST_PATH + 1))


@pytest.mark.parametrize(
    ("path", "removed", "opaque"),
    [
        ("a/.wh.b", "a/b", False),
        (".wh.b", "b", False),
        ("a/.wh..wh..opq", "a", True),
        (".wh..wh..opq", "", True),
        ("a/b.wh.c", None, False),
        ("a/.whb", None, False),
    ],
)
def test_whiteouts(path: str, removed: str | None, opaque: bool) -> None:
    assert (removed_by(path), is_opaque(path)) == (removed, opaque)


def test_a_folder_contains_no_sibling_with_its_name_as_a_prefix() -> None:
    assert [is_within(path, "a") for path in ("a", "a/b", "ab", "b/a")] == [True, True, False, False]
