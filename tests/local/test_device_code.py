"""Device code of real wheels is read as NVIDIA's own `cuobjdump` lists it, which needs no GPU."""

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlship.driver.device_code import DeviceCode, read_device_code
from tests.helpers.patience import limit
from tests.helpers.required import unavailable

TOOL = "nvidia-cuda-cuobjdump==13.5.37"
# small wheels: the new compression, the old one, PTX for each architecture, and architecture-specific code (sm_90a)
WHEELS = ("nvidia-nvjpeg==13.3.2.43", "nvidia-nvtiff-cu12==0.8.0.82", "implicit==0.7.3", "torchao==0.12.0")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_24_x86_64", "manylinux_2_28_x86_64")
LISTED = re.compile(r"^(?P<kind>ELF|PTX) file +\d+: \S+\.sm_(?P<number>\d+)(?P<suffix>[af]?)\.", re.MULTILINE)


def download(requirement: str, folder: Path) -> Path:
    """The wheel of a requirement for Python 3.11 on x86_64."""
    tags = [part for tag in PLATFORMS for part in ("--platform", tag)]
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--retries=1")
    command = [*pip, "--python-version=3.11", *tags, f"--dest={folder}", requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit(120))
    if done.returncode:
        unavailable(f"{requirement} cannot be downloaded: {(done.stderr.strip().splitlines() or [''])[-1]}", "docker")
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def cuobjdump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cuobjdump")
    with zipfile.ZipFile(download(TOOL, folder)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("bin/cuobjdump")]
        tool = Path(archive.extract(name, folder))
    tool.chmod(0o755)
    return tool


def libraries(wheel: Path, folder: Path) -> Iterator[Path]:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".so" in name:
                yield Path(archive.extract(name, folder))


def listed(tool: Path, library: Path) -> DeviceCode:
    """What cuobjdump lists; it ends with an error where there is no device code."""
    command = [str(tool), "-all", "--list-elf", "--list-ptx", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit(120))
    assert done.returncode == 0 or "does not contain device code" in done.stdout + done.stderr
    rows = [(row["suffix"] or row["kind"], divmod(int(row["number"]), 10)) for row in LISTED.finditer(done.stdout)]
    cubins, specific, ptx = (
        tuple(sorted({capability for which, capability in rows if which == wanted})) for wanted in ("ELF", "a", "PTX")
    )
    return DeviceCode(cubins, specific, ptx)


def needed(library: Path) -> set[str]:
    done = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True)
    return set(re.findall(r"NEEDED.*\[lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.(\d+)", done.stdout))


@pytest.mark.parametrize("requirement", WHEELS)
def test_what_cuobjdump_lists_is_read(requirement: str, cuobjdump: Path, tmp_path: Path) -> None:
    found = [*libraries(download(requirement, tmp_path), tmp_path)]
    codes = {library.name: read_device_code(io.BytesIO(library.read_bytes())) for library in found}
    assert any(codes.values())
    for library in found:
        code = codes[library.name]
        assert replace(code, compressed=False, cuda=()) == listed(cuobjdump, library)
        assert {str(major) for major in code.cuda} == (needed(library) if code else set())
