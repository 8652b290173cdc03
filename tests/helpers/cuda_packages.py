"""Small stand-ins for packages of CUDA's libraries."""

import zipfile
from pathlib import Path

from tests.helpers.nvidia_images import shared_object, wheel

VERSION = """\
extern int cudaRuntimeGetVersion(int *);
int version(void) { int found = 0; cudaRuntimeGetVersion(&found); return found; }
"""


CUDART = "nvidia-cuda-runtime-cu12==12.9.79"


def cudart(folder: Path) -> Path:
    """The real library, to link against."""
    with zipfile.ZipFile(wheel(CUDART)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/libcudart.so.12"))
        (folder / "libcudart.so.12").write_bytes(archive.read(name))
    return folder / "libcudart.so.12"


def cudnn(folder: Path) -> Path:
    """A stand-in to link against."""
    return shared_object(folder / "libcudnn.so.9", soname="libcudnn.so.9")
