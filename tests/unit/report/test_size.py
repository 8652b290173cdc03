"""The terminal report and HTML page: correct, within the width, and safe for hostile images."""

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from math import ceil

import pytest

from mlship.report.size.page import FRAME, _cell_label, size_page, tiles
from mlship.report.size.text import NARROWEST, size_text
from mlship.report.size.treemap import Rect
from mlship.report.size.words import how_changed, largest_layer, share, signed, step
from mlship.size.compare import compare
from mlship.size.report import PartChange, SizeReport
from mlship.units import size
from tests.conftest import Golden
from tests.helpers.size_changes import NEWER
from tests.helpers.size_reports import IMAGE, report

HOSTILE = '<script>alert(1)</script><img src=x onerror="a()">\'"&\x1b[31m\u202e[bold]x[/bold]\nnew line'


def steady(found: SizeReport) -> SizeReport:
    """Compressed sizes that do not depend on this Python's zlib."""
    layers = tuple(replace(layer, compressed=layer.unpacked // 3) for layer in found.layers)
    compressed = sum(layer.unpacked // 3 for layer in layers)
    base = replace(found.base, compressed=layers[0].compressed)
    return replace(found, layers=layers, base=base, totals=replace(found.totals, compressed=compressed))


@cache
def full() -> SizeReport:
    """With everything that a report can have."""
    image = replace(
        NEWER, trees=[*NEWER.trees, {"var/lib/apt/lists/x": b"x" * 70_000, "opt/a": b"1" * 70_000}, {"opt/.wh.a": b""}]
    )
    older = replace(steady(report()), image="it:0")
    newer = steady(
        report(replace(image, steps=[*(NEWER.steps or ()), "RUN /bin/sh -c apt-get update # buildkit", "RUN rm"]))
    )
    return replace(newer, against=compare(newer, older), unknown=("something, because of that",))


def hostile() -> SizeReport:
    found = full()
    assert found.against is not None
    return replace(
        found,
        image=HOSTILE,
        id=HOSTILE,
        platform=HOSTILE,
        base=replace(found.base, name=HOSTILE, why=HOSTILE),
        layers=tuple(replace(layer, made_by=HOSTILE) for layer in found.layers),
        parts=tuple(replace(part, name=HOSTILE, version=HOSTILE) for part in found.parts),
        waste=tuple(replace(waste, what=HOSTILE, advice=HOSTILE, where=(HOSTILE,)) for waste in found.waste),
        unknown=(HOSTILE,),
        against=replace(
            found.against,
            other=HOSTILE,
            changes=tuple(replace(change, name=HOSTILE, version_after=HOSTILE) for change in found.against.changes),
        ),
    )


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_the_text(golden: Golden) -> None:
    golden("size/report.txt", size_text(full()))


@pytest.mark.parametrize("width", [NARROWEST, 80, 140])
@pytest.mark.parametrize("verbose", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, *, verbose: bool) -> None:
    for made in (full(), hostile()):
        assert max(map(len, size_text(made, width, verbose=verbose).splitlines())) <= width


def test_a_hostile_image_adds_only_text() -> None:
    text, page = size_text(hostile()), size_page(hostile())
    assert "\x1b" not in text + page
    assert "\u202e" not in page
    tags = Page(page)
    assert not {"script", "img", "a", "link", "iframe", "object", "image", "use"} & set(tags.tags)
    assert not [name for name, _ in tags.attributes if name.startswith("on") or name in {"src", "href"}]


def test_the_page_needs_nothing_else() -> None:
    page = size_page(full())
    assert "default-src 'none'" in page
    assert not re.findall(r"https?://|url\(|@import", page)
    assert page == size_page(full())


def test_small_parts_are_one_line_and_verbose_lists_them() -> None:
    image = replace(IMAGE, trees=[{f"d{number}/x": b"1" * (5 if number else 9000) for number in range(30)}], steps=None)
    found = report(image)
    assert "29 smaller items" in size_text(found)
    assert "/d17" not in size_text(found)
    assert "/d17" in size_text(found, verbose=True)


def test_small_wastes_are_one_line_and_verbose_lists_them() -> None:
    found = full()
    waste = tuple(replace(found.waste[0], bytes=1 << 20, what=f"waste {number}") for number in range(10))
    found = replace(found, waste=waste)
    assert "2 MiB  in 2 smaller items" in size_text(found)
    assert "waste 9" not in size_text(found)
    assert "waste 9" in size_text(found, verbose=True)


def test_the_map_is_the_whole_image() -> None:
    found = full()
    placed = list(tiles(found))
    assert sum(tile.rect.area for tile in placed) == pytest.approx(FRAME.area)
    for tile in placed:
        assert sum(cell.rect.area for cell in tile.cells) == pytest.approx(tile.rect.area)
    assert next(tile for tile in placed if "hidden" in tile.hint).rect.area == pytest.approx(
        FRAME.area * found.totals.hidden / found.totals.unpacked
    )


def test_an_image_without_bytes_is_reported_too() -> None:
    empty = report(replace(IMAGE, trees=[{}], steps=None))
    assert "0 B unpacked" in size_text(empty)
    assert "<svg" in size_page(empty)


@pytest.mark.parametrize(
    ("made_by", "shown"),
    [
        ("COPY /opt/venv /opt/venv # buildkit", "COPY /opt/venv /opt/venv"),
        ("RUN /bin/sh -c pip  install x # buildkit", "RUN pip install x"),
        ("RUN |2 A=1 B=2 /bin/sh -c make # buildkit", "RUN make"),
        ("/bin/sh -c #(nop) ADD file:abc in / ", "ADD file:abc in /"),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        (None, "unknown"),
    ],
)
def test_a_layers_step_in_few_words(made_by: str | None, shown: str) -> None:
    assert step(replace(full().layers[0], made_by=made_by)) == shown


def test_words() -> None:
    assert (signed(2048), signed(-2048), signed(0), signed(None)) == ("+2 KiB", "-2 KiB", "0 B", "unknown")
    assert (share(1, 1000), share(1, 3), share(0, 0)) == ("<1 %", "33 %", "")
    change = PartChange("x", "light", 1, 2, "1.0", "1.1")
    assert how_changed(change) == "1.0 -> 1.1"
    assert how_changed(replace(change, before=None, version_before=None)) == "new: 1.1"
    assert how_changed(replace(change, after=None, version_after=None)) == "removed: 1.0"
    assert how_changed(replace(change, version_before=None, version_after=None)) == ""


def test_a_cells_label_fits_to_the_letter() -> None:
    """A letter takes 6.9 units, each margin 6."""
    whole, short = f"native {size(5_000_000)}", "native"
    for text, shorter in ((whole, short), (short, "")):
        width = 12 + ceil(6.9 * len(text))
        labels = [_cell_label("native", 5_000_000, Rect(0, 0, wide, 100)) for wide in (width, width - 1)]
        assert labels == [text, shorter]
    assert _cell_label("native", 5_000_000, Rect(0, 0, 1000, 26.9)) == ""


@pytest.mark.parametrize(("width", "longest"), [(100, 24), (80, 24), (79, 12), (NARROWEST, 12)])
def test_the_longest_bar(width: int, longest: int) -> None:
    bars = re.findall("█+", size_text(full(), width))
    assert max(map(len, bars)) == longest


def test_a_path_is_never_broken_at_a_hyphen() -> None:
    reason = f"{'x' * (NARROWEST - 10)} a-name-with-hyphens-that-does-not-fit"
    text = size_text(replace(full(), unknown=(reason,)), NARROWEST)
    assert "\n  a-name-with-hyphens-that-does-not-fit\n" in text


def test_the_largest_layer_is_named_only_where_its_share_is_known() -> None:
    found = full()
    assert list(largest_layer(found)) == ["  layer 6 is 88 % of the pull beyond the base"]
    unknown = tuple(replace(layer, compressed=None) for layer in found.layers)
    assert not list(largest_layer(replace(found, layers=(*found.layers[:-1], unknown[-1]))))
    assert not list(largest_layer(replace(found, layers=tuple(replace(layer, base=None) for layer in found.layers))))
