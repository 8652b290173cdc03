"""A small image made of this machine's own shell and coreutils: its tests need neither a registry nor a network."""

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.helpers.patience import limit

PROGRAMS = ("sh", "cat", "echo", "env", "grep", "head", "id", "ls", "mkdir", "readlink", "sleep", "tail", "touch")
FOLDERS = {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "etc": 0o755}
FILES = {"etc/passwd": b"root:x:0:0::/:/bin/sh\n", "etc/group": b"root:x:0:\n"}


@contextmanager
def tiny_image() -> Iterator[str]:
    """The unique name of the image, which is removed afterwards."""
    import docker

    name = f"mlship-test-{uuid4().hex[:12]}"
    with closing(docker.from_env()) as client:
        client.api.import_image_from_data(
            _tar(), repository=name, tag="1", changes=["USER 1001:1001", "ENV PATH=/bin", 'CMD ["sleep","60"]']
        )
        try:
            yield f"{name}:1"
        finally:
            client.images.remove(f"{name}:1", force=True)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, mode in FOLDERS.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for path, data in FILES.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for path, source in sorted(_programs().items()):
            tar.add(source, path)
    return buffer.getvalue()


def _programs() -> dict[str, Path]:
    """Programs and their libraries, by path in the image."""
    found = {}
    for program in PROGRAMS:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"this machine has no {program} to make a small image of")
        found[f"bin/{program}"] = Path(path).resolve()
        listing = subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=limit(30)).stdout
        for library in re.findall(r"(/\S+) \(0x", listing):
            found[library.lstrip("/")] = Path(library).resolve()
    return found
