"""Size reports of invented images."""

from collections.abc import Iterable, Mapping

from mlship.size.account import account
from mlship.size.configuration import ImageConfig
from mlship.size.content import BIG, File
from mlship.size.groups import OWN_STEPS
from mlship.size.layers import LayerTree
from mlship.size.layout import SavedImage, SavedLayer, read_layout
from mlship.size.report import SizeReport
from tests.helpers.layouts import Image, chunks, record

SITE = "opt/venv/lib/python3.11/site-packages"


def layer_with(files: Mapping[str, File], made_by: str | None = None, gone: Iterable[str] = ()) -> SavedLayer[File]:
    """A layer of 1 compressed byte."""
    return SavedLayer("d", "d", made_by, 1, LayerTree(dict(files), gone=set(gone)))


def image_with(*layers: SavedLayer[File], labels: Mapping[str, str] | None = None) -> SavedImage[File]:
    """An image of these layers with its code in /app."""
    config = {"WorkingDir": "/app", "Labels": dict(labels or {})}
    platform, rootfs = {"os": "linux", "architecture": "amd64"}, {"diff_ids": [layer.diff_id for layer in layers]}
    return SavedImage(ImageConfig.model_validate({**platform, "rootfs": rootfs, "config": config}), layers)


OWN = f"RUN /bin/sh -c {OWN_STEPS[0]}/app # buildkit"


SMOKE = '{"weights": ["weights/model.onnx"], "gpu": false}'


LABELS = {
    "dev.mlship.version": "0.1.0",
    "dev.mlship.smoke": SMOKE,
    "org.opencontainers.image.base.name": "docker.io/library/python:3.11-slim-bookworm",
}


TORCH = record(
    SITE,
    "torch",
    "2.7.0+cu126",
    {
        "torch/__init__.py": b"c" * 30,
        "torch/lib/libtorch.so": b"l" * 500,
        "torch/data.bin": b"d" * 7,
        "../../../bin/torchrun": b"#!python",
    },
)


OTHERS = {
    f"{SITE}/torch/__pycache__/__init__.cpython-311.pyc": b"b" * 11,
    f"{SITE}/torch/unnamed.txt": b"u" * 3,
    f"{SITE}/stray/x.py": b"s" * 2,
}


IMAGE = Image(
    [
        {"usr/lib/libc.so.6": b"c" * 100, "etc/passwd": b"root", "etc/motd": b"hello"},
        {"etc/passwd": b"root app", "etc/.wh.motd": b""},
        {**TORCH, **OTHERS},
        record(SITE, "nvidia-cublas-cu12", "12.6.4", {"nvidia/cublas/lib/libcublas.so.12": b"n" * 200}),
        record(SITE, "six", "1.17", {"six.py": b"6" * 9}),
        {"app/weights/model.onnx": b"w" * 50, "app/big.bin": b"v" * BIG},
        {"app/serve.py": b"p" * 5},
    ],
    (
        "ADD base",
        OWN,
        "COPY /opt/venv /opt/venv",
        "COPY a /",
        "COPY /layers/light/bucket-3/ / # buildkit",
        "COPY w",
        "x",
    ),
    labels=LABELS,
)


def report(image: Image = IMAGE) -> SizeReport:
    saved = read_layout(chunks(image.saved()), "it", "linux/amd64")
    return account(saved, "it:1", "sha256:1")
