"""NVIDIA's real user-space libraries from Debian's non-free section: unpacked into a cache, never installed."""

from dataclasses import dataclass
from pathlib import Path

from tests.helpers.debian_files import debian_files

PACKAGES = ("libcuda1", "libnvidia-ml1")


@dataclass(frozen=True)
class Series:
    """A Debian release and its driver.

    Attributes:
        driver: branch of the driver.
        cuda: what its libcuda says.
    """

    suite: str
    driver: int
    cuda: int


SERIES = (Series("bookworm", 535, 12020), Series("trixie", 550, 12040))


def real_libraries(series: Series) -> Path:
    """A folder with libcuda.so.1 and libnvidia-ml.so.1; the test skips if Debian's packages are unavailable.

    They load without the rest of the driver: what else they want (the PTX compiler) they open when a GPU is used.
    """
    folder = debian_files(f"nvidia-{series.suite}", PACKAGES, f"{series.suite} non-free")
    return next(folder.rglob("libcuda.so.1")).parent
