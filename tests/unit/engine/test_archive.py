"""An image as a file: how it is asked for, what is read of it, and how it reaches an engine that is a script."""

import io
import json
import os
import stat
import sys
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from mlship.engine.archive import load, read_manifest
from mlship.engine.base import BuildEvent, BuildRequest, StepFinished, StepStarted
from mlship.engine.buildx import argv, write_files
from mlship.errors import EngineError, TransientError

ASKED = BuildRequest("FROM x\n", "*\n", Path("/repo"), "linux/amd64", tag="toy:1")


def digest(number: int) -> str:
    return f"sha256:{number:064d}"


INDEX = {"manifests": [{"digest": digest(1), "size": 1}]}
TWO = {"manifests": [{"digest": digest(1)}, {"digest": digest(2)}]}
MANIFEST = {
    "config": {"digest": digest(2), "size": 2},
    "layers": [{"digest": digest(3), "size": 30}, {"digest": digest(4), "size": 40}],
}
ROOTFS = {"rootfs": {"diff_ids": [digest(5), digest(6)]}}
CONFIG = {
    **ROOTFS,
    "history": [{"created_by": "FROM x"}, {"created_by": "ENV a=b", "empty_layer": True}, {"created_by": "COPY a b"}],
}


def archive(folder: Path, index: object = INDEX, manifest: object = MANIFEST, config: object = CONFIG) -> Path:
    path = folder / "image.tar"
    blobs = {digest(1): manifest, digest(2): config}
    files = {"index.json": index, **{f"blobs/{name.replace(':', '/')}": value for name, value in blobs.items()}}
    with tarfile.open(path, "w") as tar:
        for name, value in files.items():
            text = json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    return path


def output(request: BuildRequest, folder: Path) -> str:
    return dict(pairwise(argv(request, write_files(request, folder, {}))))["--output"]


def test_zstd_leaves_the_layers_of_the_base_alone(tmp_path: Path) -> None:
    assert output(ASKED, tmp_path) == "type=docker,compression=zstd,oci-mediatypes=true"


def test_gzip_is_made_of_what_is_cached_as_zstd(tmp_path: Path) -> None:
    asked = replace(ASKED, compression="gzip")
    assert output(asked, tmp_path) == "type=docker,compression=gzip,oci-mediatypes=true,force-compression=true"


def test_a_reproducible_image_is_written_to_an_archive(tmp_path: Path) -> None:
    said = output(replace(ASKED, reproducible=True), tmp_path)
    assert said == f"type=oci,compression=zstd,oci-mediatypes=true,rewrite-timestamp=true,dest={tmp_path}/image.tar"


def test_what_makes_no_image_needs_no_archive(tmp_path: Path) -> None:
    assert output(replace(ASKED, reproducible=True, tag=None), tmp_path) == "type=cacheonly"


def test_layers_have_the_instruction_that_made_them(tmp_path: Path) -> None:
    found = read_manifest(archive(tmp_path))
    assert (found.digest, found.config) == (digest(1), digest(2))
    assert [(layer.digest, layer.size, layer.what) for layer in found.layers] == [
        (digest(3), 30, "FROM x"),
        (digest(4), 40, "COPY a b"),
    ]


def test_a_history_that_does_not_fit_is_not_guessed_at(tmp_path: Path) -> None:
    assert [layer.what for layer in read_manifest(archive(tmp_path, config=ROOTFS)).layers] == ["", ""]


@pytest.mark.parametrize(
    ("index", "manifest"),
    [
        ({}, MANIFEST),
        ({"manifests": []}, MANIFEST),
        (TWO, MANIFEST),
        (INDEX, []),
    ],
)
def test_what_is_no_image_is_said(tmp_path: Path, index: object, manifest: object) -> None:
    with pytest.raises(EngineError, match="cannot read the image archive"):
        read_manifest(archive(tmp_path, index, manifest))
    (tmp_path / "image.tar").write_bytes(b"cut short")
    with pytest.raises(EngineError, match="cannot read the image archive"):
        read_manifest(tmp_path / "image.tar")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that says what is in a file beside it, and fails where there is something."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    said = tmp_path / "said"
    said.touch()
    program.write_text(
        f"#!{sys.executable}\nimport sys\ntext = open({str(said)!r}).read()\n"
        f"open({str(tmp_path / 'argv')!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        "sys.stderr.write(text)\nsys.exit(bool(text))\n"
    )
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return said


def test_it_is_loaded_and_that_is_a_step(tmp_path: Path, docker: Path) -> None:
    path, events = archive(tmp_path), list[BuildEvent]()
    assert load(path, events.append) == read_manifest(path)
    assert (tmp_path / "argv").read_text() == f"load --quiet --input {path}"
    assert [type(event) for event in events] == [StepStarted, StepFinished]


def test_an_engine_without_room_is_transient(tmp_path: Path, docker: Path) -> None:
    docker.write_text("write /var/lib/docker/ingest/data: no space left on device")
    with pytest.raises(TransientError, match="the disk is full"):
        load(archive(tmp_path), lambda _: None)
