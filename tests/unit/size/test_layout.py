"""Read a saved image in one pass: every compression, any order, hostile input."""

import gzip
import io
import json
import tarfile
from dataclasses import replace

import pytest

from mlship.errors import EngineError, UsageError
from mlship.size import layers
from mlship.size.content import BIG, File, file_reader
from mlship.size.layers import Budget, LayerTree, read_layer_tar
from mlship.size.layout import SavedImage, read_layout, read_saved
from mlship.size.stream import BrokenTarError
from tests.helpers.layouts import Image, chunks, digest, layout, packed, path, tar

TREES = (
    {"etc": None, "etc/passwd": b"root", "usr/bin/sh": b"\x7fELF" + b"s" * 5000, "lib": "usr/lib"},
    {"app/x": b"x" * 10, "etc/.wh.passwd": b"", "opt/.wh..wh..opq": b""},
)
IMAGE = Image(TREES, ("ADD base", "COPY x"))


def read(data: bytes, platform: str = "linux/amd64") -> SavedImage[File]:
    return read_layout(chunks(data), "it", platform)


def tree(data: bytes, budget: Budget | None = None) -> LayerTree[File]:
    budget = budget or Budget()
    return read_layer_tar(io.BytesIO(data), file_reader(budget), budget)


def refused(data: bytes) -> str:
    with pytest.raises(EngineError) as caught:
        read(data)
    assert "docker save it" in caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("how", ["gzip", "zstd", "pzstd", "plain"])
@pytest.mark.parametrize("seed", range(5))
def test_any_compression_in_any_order(how: str, seed: int) -> None:
    found = read(replace(IMAGE, how=how).saved(seed))
    first, second = found.layers
    assert first.content.files == {
        "etc/passwd": File(4),
        "usr/bin/sh": File(5004, elf=True),
        "lib": File(0, regular=False),
    }
    assert first.content.folders == {"etc"}
    assert (second.content.gone, second.content.opaque) == ({"etc/passwd"}, {"opt"})
    assert [layer.made_by for layer in found.layers] == ["ADD base", "COPY x"]
    assert first.diff_id == digest(tar(TREES[0]))
    sizes = [None, None] if how == "plain" else [len(packed(tar(tree), how)) for tree in TREES]
    assert [layer.compressed for layer in found.layers] == sizes
    assert (found.config.platform, found.config.running.working_dir) == ("linux/amd64", "/app")


def test_big_files_are_known_by_content() -> None:
    files = read(Image([{"a": b"1" * BIG, "b": b"1" * BIG, "c": b"2" * BIG}]).saved()).layers[0].content.files
    assert files["a"].digest == files["b"].digest != files["c"].digest


def test_an_image_without_layers_and_one_with_an_empty_layer() -> None:
    assert read(Image([]).saved()).layers == ()
    assert read(Image([{}]).saved()).layers[0].content.files == {}


def test_history_that_does_not_fit_is_no_history() -> None:
    assert [layer.made_by for layer in read(replace(IMAGE, steps=("one",)).saved()).layers] == [None, None]
    assert [layer.made_by for layer in read(replace(IMAGE, steps=None).saved()).layers] == [None, None]


def test_the_engines_platform_is_taken_of_several() -> None:
    arm, amd = replace(IMAGE, platform="linux/arm64", trees=[{"arm": b"1"}], steps=None), IMAGE
    (ours, our_digest), (other, other_digest) = amd.blobs(), arm.blobs()
    manifests = [
        {"digest": other_digest, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": our_digest, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": digest(b"gone"), "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    inner = json.dumps({"manifests": manifests}).encode()
    data = layout({**ours, **other, path(digest(inner)): inner}, {"manifests": [{"digest": digest(inner)}]})
    assert len(read(data).layers) == 2
    assert list(read(data, "linux/arm64/v8").layers[0].content.files) == ["arm"]
    with pytest.raises(EngineError, match="no image for linux/s390x"):
        read(data, "linux/s390x")
    # The engine has pulled one platform only.
    alone = layout({**ours, path(digest(inner)): inner}, {"manifests": [{"digest": digest(inner)}]})
    assert len(read(alone).layers) == 2


def test_engines_before_25_write_no_index() -> None:
    blobs, _ = replace(IMAGE, how="plain").blobs()
    config = next(data for data in blobs.values() if data.startswith(b'{"os"'))
    own = [{"Config": "c.json", "RepoTags": ["it:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    base, top = (tar(tree) for tree in TREES)
    files: dict[str, bytes | str | None] = {
        "c.json": config,
        "manifest.json": json.dumps(own).encode(),
        "a/layer.tar": base,
        "b/layer.tar": top,
    }
    found = read(tar(files))
    assert [layer.digest for layer in found.layers] == [digest(base), digest(top)]
    twice: dict[str, bytes | str | None] = {**files, "b/layer.tar": "../a/layer.tar"}
    assert read(tar(twice)).layers[1].content.files == found.layers[0].content.files
    assert "b/layer.tar is missing" in refused(tar({name: text for name, text in files.items() if name[0] != "b"}))
    assert "2 images" in refused(tar({**files, "manifest.json": json.dumps(own * 2).encode()}))


def test_without_a_platform_there_is_one_image_whatever_its_names() -> None:
    """Attestations are none, and an image with two names is listed twice."""
    (ours, ours_digest), (other, other_digest) = IMAGE.blobs(), replace(IMAGE, trees=TREES[:1], steps=None).blobs()
    attestation = {"digest": other_digest, "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"manifests": [{"digest": ours_digest}, {"digest": ours_digest}, attestation]}
    for pack in ("plain", "gzip", "zstd"):
        data = packed(layout({**ours, **other}, index), pack)
        assert len(read_saved(chunks(data), "it", lambda *_: None).layers) == 2
    two = layout({**ours, **other}, {"manifests": [{"digest": ours_digest}, {"digest": other_digest}]})
    with pytest.raises(EngineError, match="it holds 2 images"):
        read_saved(chunks(two), "it", lambda *_: None)


def test_another_artifact_is_no_damaged_image() -> None:
    chart = b'{"name": "chart", "version": "1"}'
    manifest = json.dumps({"config": {"digest": digest(chart)}, "layers": []}).encode()
    blobs = {path(digest(chart)): chart, path(digest(manifest)): manifest}
    with pytest.raises(UsageError, match="not a container image"):
        read(layout(blobs, {"manifests": [{"digest": digest(manifest)}]}))


def test_progress_is_reported() -> None:
    counts: list[int] = []
    data = Image([{"a": bytes(range(256)) * 20000}], how="plain").saved()
    read_layout(chunks(data, 100_000), "it", "linux/amd64", counts.append)
    assert counts == sorted(counts)
    assert len(counts) == len(data) // (1 << 20)


def test_names_stay_below_the_root() -> None:
    files = read(Image([{"../../etc/shadow": b"1", "/abs": b"2", "./a/../b": b"3"}]).saved()).layers[0].content.files
    assert set(files) == {"etc/shadow", "abs", "b"}


def test_what_is_no_image_layout() -> None:
    assert "index.json" in refused(tar({"hello": b"world"})) or "manifest.json" in refused(tar({"hello": b"world"}))
    assert refused(b"this is no tar at all" * 100)
    assert refused(b"")
    assert "no image" in refused(layout({}, {"manifests": []}))
    assert "index.json" in refused(tar({"index.json": b'{"manifests": 3}'}))
    assert "in a circle" in refused(_circle())


def _circle() -> bytes:
    """No digest can name itself, but a file can be called anything."""
    inner = json.dumps({"manifests": [{"digest": "sha256:0"}]}).encode()
    return layout({"blobs/sha256/0": inner}, {"manifests": [{"digest": "sha256:0"}]})


@pytest.mark.parametrize("how", ["gzip", "zstd", "pzstd", "plain"])
def test_a_stream_that_ends_anywhere_is_an_error(how: str) -> None:
    data = Image([{"a": bytes(range(256)) * 40}, {"b": b"2"}], how=how).saved()
    end = len(data.rstrip(b"\0"))
    for count in range(0, end, 311):
        assert refused(data[:count])


def _lying(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    entry = tarfile.TarInfo("lie")
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT) + b"few"


def _with_layer(data: bytes) -> bytes:
    image = Image([{}])
    blobs, manifest = image.blobs()
    old = digest(packed(tar({}), "gzip"))
    texts = {name: text.replace(old.encode(), digest(data).encode()) for name, text in blobs.items()}
    return layout({**texts, path(digest(data)): data}, {"manifests": [{"digest": manifest}]})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(_lying(1 << 62)), "end"),
        (_lying(1 << 62), "end"),
        (gzip.compress(_lying(1 << 40, tarfile.XHDTYPE)), "claims"),
        (gzip.compress(_lying(1 << 40, tarfile.GNUTYPE_LONGNAME)), "claims"),
        (gzip.compress(tar({"a": b"1"})[:1024] + b"garbage that is no header" * 100), "cannot be read"),
        (gzip.compress(tar({"a" * 5000: b"1"})), "characters"),
        (gzip.compress(tar({"a": b"1" * 5000}))[:-20], "layer"),
        (gzip.compress(b"no tar in here"), "layer"),
        (b"neither compressed nor a tar", "missing"),
    ],
    ids=range(9),
)
def test_a_layer_that_lies_is_an_error(data: bytes, said: str) -> None:
    assert said in refused(_with_layer(data))


def test_a_broken_blob_that_is_no_layer_of_it_is_no_error() -> None:
    blobs, manifest = IMAGE.blobs()
    found = read(layout({**blobs, "blobs/sha256/x": gzip.compress(b"no tar")}, {"manifests": [{"digest": manifest}]}))
    assert len(found.layers) == 2


def test_names_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MOST_NAMES", 20)
    with pytest.raises(BrokenTarError, match="more than 20 files"):
        tree(tar({str(number): b"" for number in range(21)}), Budget(20))
    with pytest.raises(BrokenTarError, match="more than 20 files"):
        tree(tar({"a-1.dist-info/RECORD": b"a,,\n" * 21}), Budget(20))


def test_sparse_files_count_what_is_stored() -> None:
    entry = tarfile.TarInfo("sparse")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000001000\0"  # one piece: 512 bytes at 0
    header[483:495] = b"77777777777\0"  # of 8 GiB, it says
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data = bytes(header) + b"x" * 512 + bytes(1024)
    assert tree(data).files == {"sparse": File(512)}


def test_names_that_are_no_text_and_records_that_are_none() -> None:
    entry = tarfile.TarInfo("caf\udce9")
    buffer = io.BytesIO()
    info = "s/site-packages/a-1.dist-info/RECORD"
    bad = b"a/x.py,,\n" + b"y" * 200_000 + b",,\nb,,\n"
    with tarfile.open(fileobj=buffer, mode="w", encoding="utf-8", errors="surrogateescape") as made:
        made.addfile(entry)
        entry = tarfile.TarInfo(info)
        entry.size = len(bad)
        made.addfile(entry, io.BytesIO(bad))
    found = tree(buffer.getvalue())
    assert list(found.files) == ["caf\\xe9", info]
    assert found.files[info].listed == ("s/site-packages/a/x.py",)
