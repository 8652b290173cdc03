"""What a build leaves behind: JSON both ways, and refused where it is something else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.build.record import (
    BaseImage,
    LockHashes,
    Metadata,
    Proof,
    SourceCommit,
    TargetHost,
    Tools,
    Weight,
    read_metadata,
)
from mlship.errors import UsageError
from tests.helpers.build_records import BUILT, digest

METADATA = Metadata(
    tag="toy:1",
    platform="linux/amd64",
    image_id=digest(1),
    digest=digest(1),
    pushed=None,
    reproducible=True,
    compression="zstd",
    source=SourceCommit("c" * 40, "v1", "https://git.example/toy", "models/toy", dirty=False, epoch=1_700_000_000),
    base=BaseImage("python:3.11-slim-bookworm", digest(5)),
    lock=LockHashes(digest(6), digest(7)),
    weights=(Weight("w/a.safetensors", digest(8), 80),),
    built=BUILT,
    proven=Proof("cpu", (), None),
    tools=Tools("0.1.0", "26.1.5", "0.13.1"),
    host=TargetHost("550.54.15", ("8.0",)),
)


def test_json_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    for value in (
        METADATA,
        replace(METADATA, built=None, proven=None, digest=None, host=None, weights=(), reproducible=False),
        replace(METADATA, source=SourceCommit(None, None, None, None, dirty=None, epoch=1)),
    ):
        path.write_text(value.to_json())
        assert read_metadata(path) == value
        assert json.loads(value.to_json())["schema"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[1]", "is not build metadata"),
        ('{"containerimage.digest": "sha256:1"}', "is not build metadata"),
        ('{"schema": 1, "tag": "x"}', "is not build metadata"),
        ('{"schema": 1, "tag": "x", "source": {}}', "is not build metadata: platform: Field required"),
        ('{"schema": 2, "tag": "x", "source": {}}', "unsupported schema 2 (expected 1)"),
    ],
)
def test_what_is_something_else_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_metadata(path)
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("source", "commit"), "--upload-pack=x"),
        (("source", "path"), "../elsewhere"),
        (("source", "path"), "/etc"),
        (("weights", 0, "path"), "w/../../../.ssh/id"),
        (("weights", 0, "sha256"), "md5:1"),
        (("compression",), "xz"),
    ],
)
def test_nothing_in_it_reaches_further_than_it_should(tmp_path: Path, key: tuple[str | int, ...], value: str) -> None:
    found = json.loads(METADATA.to_json())
    inner = found
    for part in key[:-1]:
        inner = inner[part]
    inner[key[-1]] = value
    with pytest.raises(UsageError, match=r"is not build metadata"):
        Metadata.from_json(json.dumps(found), "m.json")


def test_files_that_cannot_be_it(tmp_path: Path) -> None:
    for name, content in (("image.tar", b"\xff\xfe\x00"), ("large", b" " * 5_000_001)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match=r"build metadata"):
            read_metadata(tmp_path / name)
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError) as caught:
            read_metadata(path)
        assert "mlship build --metadata" in caught.value.hint
