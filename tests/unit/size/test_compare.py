"""Changes between two images, and the layers to pull."""

from dataclasses import replace

from mlship.size.account import account
from mlship.size.compare import compare
from mlship.size.layout import read_layout
from mlship.size.report import Comparison, SizeReport
from tests.helpers.layouts import Image, chunks
from tests.helpers.size_changes import NEWER
from tests.helpers.size_reports import IMAGE, report


def against(image: Image, other: Image) -> Comparison:
    return compare(report(image), report(other))


def test_the_same_has_nothing_to_pull() -> None:
    found = against(IMAGE, IMAGE)
    assert (found.pulled, found.pull, found.unpacked, found.changes) == ((), 0, 0, ())


def test_one_package_is_one_layer() -> None:
    found = against(NEWER, IMAGE)
    after, before = report(NEWER), report()
    assert found.pulled == (5,)
    assert found.pull == after.layers[4].compressed
    assert [(change.name, change.version_before, change.version_after) for change in found.changes] == [
        ("six", "1.17", "1.18")
    ]
    assert found.changes[0].grown == found.unpacked == after.totals.unpacked - before.totals.unpacked


def test_what_came_and_what_went_the_largest_first() -> None:
    without = replace(IMAGE, trees=IMAGE.trees[:4], steps=IMAGE.steps and IMAGE.steps[:4])
    found = against(without, IMAGE)
    assert [(change.name, change.after) for change in found.changes] == [
        ("/app/big.bin", None),
        ("six", None),
        ("/app/weights/model.onnx", None),
        ("/app", None),
    ]
    assert [-change.grown for change in found.changes] == sorted((-c.grown for c in found.changes), reverse=True)
    assert all(change.before is None for change in against(IMAGE, without).changes)


def test_layers_are_known_by_their_plain_tar_where_an_engine_keeps_that() -> None:
    found = against(replace(NEWER, how="plain"), IMAGE)
    assert (found.pulled, found.pull, found.compressed) == ((5,), None, None)


def test_another_compression_is_another_layer_for_a_registry() -> None:
    assert len(against(replace(IMAGE, how="zstd"), IMAGE).pulled) == len(IMAGE.trees)


def test_nothing_depends_on_the_order_of_blobs() -> None:
    def seeded(seed: int) -> SizeReport:
        return account(read_layout(chunks(NEWER.saved(seed)), "it", "linux/amd64"), "it:1", "sha256:1")

    assert seeded(1) == seeded(2) == seeded(3)
