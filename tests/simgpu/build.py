"""Compile the simulated libraries, once for each state of their sources."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.simgpu.scenario import LIBRARIES, SOURCES

# C11 without GNU's extensions: with them, newer glibc headers bring in symbols that Debian bookworm has not.
_FLAGS = ("-std=c11", "-D_XOPEN_SOURCE=700", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
_WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-Wno-format-truncation")


def built_libraries() -> Path:
    """A folder with libcuda.so and libnvidia-ml.so; the test skips where they cannot be built."""
    folder = Path(tempfile.gettempdir(), f"mlship-simgpu-{os.getuid()}-{_state()}")
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="mlship-simgpu-") as draft:
            for library, source in LIBRARIES.items():
                _compile(source, Path(draft, library))
            put_whole(Path(draft), folder)
    return folder


def _state() -> str:
    digest = hashlib.sha256(" ".join((*_FLAGS, *_WARNINGS)).encode())
    for source in ("scenario.h", *LIBRARIES.values()):
        digest.update((SOURCES / source).read_bytes())
    return digest.hexdigest()[:16]


def _compile(source: str, library: Path) -> None:
    compiler = shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        unavailable("the simulated GPU host needs Linux and gcc", "simgpu", "docker")
    argv = [compiler, *_FLAGS, *_WARNINGS, f"-Wl,-soname,{library.name}.1", "-o", str(library), str(SOURCES / source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=limit(120))
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)}\n{done.stderr}")


def put_whole(draft: Path, folder: Path) -> None:
    """Copy a folder to its place, whole or not at all: another test process may do the same."""
    with tempfile.TemporaryDirectory(prefix="mlship-simgpu-", dir=folder.parent) as beside:
        whole = Path(shutil.copytree(draft, Path(beside, "whole")))
        try:
            whole.rename(folder)
        except OSError:
            if not folder.exists():
                raise
