"""The map is true: areas are proportional, nothing overlaps, nothing leaves the frame."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.report.size.treemap import Rect, squarify

VALUES = st.lists(st.integers(0, 10**12), max_size=40)
SIDES = st.floats(1, 5000)


def overlap(one: Rect, two: Rect) -> float:
    width = min(one.x + one.width, two.x + two.width) - max(one.x, two.x)
    height = min(one.y + one.height, two.y + two.height) - max(one.y, two.y)
    return max(0.0, width) * max(0.0, height)


@given(VALUES, SIDES, SIDES, st.booleans())
def test_a_map_is_true(values: list[int], width: float, height: float, ordered: bool) -> None:
    values = sorted(values, reverse=True) if ordered else values
    frame = Rect(3, 5, width, height)
    rects = squarify(values, frame)
    assert len(rects) == len(values)
    near = 1e-6 * frame.area
    for value, rect in zip(values, rects, strict=True):
        assert rect.area == pytest.approx(frame.area * value / (sum(values) or 1), abs=near)
        assert rect.width >= 0 <= rect.height
        assert rect.x >= frame.x - 1e-6 * width
        assert rect.y >= frame.y - 1e-6 * height
        assert rect.x + rect.width <= frame.x + width * (1 + 1e-6)
        assert rect.y + rect.height <= frame.y + height * (1 + 1e-6)
    for one, two in combinations(rects, 2):
        assert overlap(one, two) <= near


def test_the_papers_own_example() -> None:
    rects = squarify([6, 6, 4, 3, 2, 2, 1], Rect(0, 0, 6, 4))
    assert [(round(r.x, 2), round(r.y, 2), round(r.width, 2), round(r.height, 2)) for r in rects] == [
        (0, 0, 3, 2),
        (0, 2, 3, 2),
        (3, 0, 1.71, 2.33),
        (4.71, 0, 1.29, 2.33),
        (3, 2.33, 1.2, 1.67),
        (4.2, 2.33, 1.2, 1.67),
        (5.4, 2.33, 0.6, 1.67),
    ]


def test_nothing_has_no_area() -> None:
    assert squarify([], Rect(0, 0, 1, 1)) == []
    assert [rect.area for rect in squarify([0, 0], Rect(0, 0, 1, 1))] == [0, 0]
    assert [rect.area for rect in squarify([1], Rect(0, 0, 0, 1))] == [0]


@pytest.mark.parametrize("frame", [Rect(3, 5, 10, 10), Rect(3, 5, 0, 10), Rect(3, 5, 10, 0)])
def test_nothing_to_draw_is_drawn_as_nothing(frame: Rect) -> None:
    values = [0, 0] if frame.area else [1, 2]
    assert squarify(values, frame) == [Rect(3, 5, 0, 0)] * 2
