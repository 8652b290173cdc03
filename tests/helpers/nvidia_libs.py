"""NVIDIA's real user-space libraries from Debian's non-free section: unpacked into a cache, never installed."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.simgpu.build import put_whole

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
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mlship-tests")
    folder = home / f"nvidia-{series.suite}"
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mlship-nvidia-") as work:
            put_whole(_unpacked(series.suite, Path(work)), folder)
    return next(folder.rglob("libcuda.so.1")).parent


def _unpacked(suite: str, work: Path) -> Path:
    # pytest puts scripts/ on the path.
    from _debian import mirror

    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        unavailable("NVIDIA's libraries need apt-get and dpkg-deb to be fetched", "docker")
    source = mirror()
    line = f"deb [signed-by={source.keyring}] {source.main} {suite} non-free\n"
    apt = _apt(work, line)
    _run([*apt, "update"], work)
    _run([*apt, "download", *PACKAGES], work)
    for package in sorted(work.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(work / "unpacked")], work)
    return work / "unpacked"


def _apt(work: Path, source: str) -> list[str]:
    """apt-get with its own lists, sources and state, independent of the machine's."""
    for folder in ("etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "etc/sources.list").write_text(source, encoding="utf-8")
    (work / "status").touch()
    options = {
        "Dir::Etc::sourcelist": f"{work}/etc/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": f"{work}/etc/preferences.d",
        "Dir::State": f"{work}/state",
        "Dir::State::status": f"{work}/status",
        "Dir::Cache": f"{work}/cache",
        # Its user _apt may not write here.
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "1",
        "APT::Update::Error-Mode": "any",
    }
    return ["apt-get", "--quiet", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def _run(argv: list[str], work: Path) -> None:
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, check=False, timeout=limit(300))
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        unavailable(f"Debian's packages of NVIDIA's libraries are unavailable: {reason}", "docker")
