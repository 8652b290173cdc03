"""Small saved images, as `docker save` streams them."""

import gzip
import hashlib
import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Tree = Mapping[str, bytes | str | None]


def tar(tree: Tree) -> bytes:
    """A tar of files by path; None is a folder, a text the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, content in tree.items():
            entry = tarfile.TarInfo(path)
            if content is None:
                entry.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
            else:
                entry.size = len(content)
            made.addfile(entry, io.BytesIO(content if isinstance(content, bytes) else b""))
    return buffer.getvalue()


def packed(data: bytes, how: str) -> bytes:
    """gzip, zstd, zstd as of pzstd, which says first how long the frame is, or plain."""
    if how == "gzip":
        return gzip.compress(data, 1, mtime=0)
    if how == "plain":
        return data
    frame = zstd.compress(data)
    return frame if how == "zstd" else b"\x50\x2a\x4d\x18\x04\0\0\0" + len(frame).to_bytes(4, "little") + frame


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def record(site: str, name: str, version: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a distribution as pip installs it."""
    info = f"{name}-{version}.dist-info/RECORD"
    lines = "".join(f"{path},sha256=x,{len(data)}\n" for path, data in files.items()) + f"{info},,\n"
    return {**{f"{site}/{path}": data for path, data in files.items()}, f"{site}/{info}": lines.encode()}


@dataclass
class Image:
    """An image to be saved.

    Attributes:
        steps: what made each layer; None leaves the history out.
    """

    trees: Sequence[Tree]
    steps: Sequence[str] | None = None
    how: str = "gzip"
    labels: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/app"
    platform: str = "linux/amd64"

    def blobs(self) -> tuple[dict[str, bytes], str]:
        """Blobs by path, and the digest of the manifest."""
        plain = [tar(tree) for tree in self.trees]
        layers = [packed(data, self.how) for data in plain]
        os, architecture = self.platform.split("/")
        config: dict[str, object] = {
            "os": os,
            "architecture": architecture,
            "config": {"WorkingDir": self.working_dir, "Labels": dict(self.labels)},
            "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in plain]},
        }
        if self.steps is not None:
            history = [dict[str, object](created_by=step) for step in self.steps]
            config["history"] = [dict[str, object](created_by="ENV A=b", empty_layer=True), *history]
        text = json.dumps(config).encode()
        manifest = json.dumps(
            {"config": {"digest": digest(text)}, "layers": [{"digest": digest(each)} for each in layers]}
        ).encode()
        return {path(digest(each)): each for each in (*layers, text, manifest)}, digest(manifest)

    def saved(self, seed: int = 0) -> bytes:
        """The tar of the layout; the seed decides the order of blobs."""
        blobs, manifest = self.blobs()
        index = {"schemaVersion": 2, "manifests": [{"digest": manifest}]}
        return layout(blobs, index, seed)


def layout(blobs: Mapping[str, bytes], index: object, seed: int = 0) -> bytes:
    files = {**blobs, "index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    names = sorted(files)
    random.Random(seed).shuffle(names)
    return tar({name: files[name] for name in names})


def path(of: str) -> str:
    return f"blobs/{of.replace(':', '/')}"


def chunks(data: bytes, count: int = 1000) -> Iterator[bytes]:
    yield from (data[start : start + count] for start in range(0, len(data), count))
