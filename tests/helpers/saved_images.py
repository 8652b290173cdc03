"""Small saved images with the modes of their files and a whole configuration, as `docker save` writes them."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence

SETUID = 0o4755


def saved_image(layers: Sequence[Mapping[str, int | bytes]], config: object, steps: Sequence[str] = ()) -> bytes:
    """The tar of an image.

    Args:
        layers: files by path; a number is the mode of a program, bytes are the content of a file.
        config: how it runs, with the keys of the OCI image specification; `steps` is its history.
    """
    files: dict[str, int | bytes] = {f"blobs/sha256/{number}": files_tar(layer) for number, layer in enumerate(layers)}
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in files.values() if isinstance(layer, bytes)]
    rootfs = {"type": "layers", "diff_ids": digests}
    document = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": rootfs}
    files["blobs/sha256/config"] = json.dumps({**document, "history": [{"created_by": s} for s in steps]}).encode()
    names = [f"blobs/sha256/{number}" for number in range(len(layers))]
    files["manifest.json"] = json.dumps([{"Config": "blobs/sha256/config", "Layers": names}]).encode()
    return files_tar(files)


def files_tar(files: Mapping[str, int | bytes]) -> bytes:
    """A tar of files by path; a number is the mode of a program. A script is one that can be started."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for path, content in files.items():
            data = content if isinstance(content, bytes) else b"#!"
            entry = tarfile.TarInfo(path)
            is_program = isinstance(content, int) or content.startswith(b"#!")
            entry.size, entry.mode = len(data), content if isinstance(content, int) else 0o755 if is_program else 0o644
            made.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
