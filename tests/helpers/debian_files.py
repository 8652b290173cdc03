"""Files of Debian's packages, unpacked into a cache and never installed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.helpers.patience import limit
from tests.helpers.required import unavailable
from tests.simgpu.build import put_whole


def debian_files(name: str, packages: Sequence[str], suite: str, part: str = ".") -> Path:
    """A cached folder with that part of the packages' files; the test skips if they are unavailable."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mlship-tests")
    folder = home / name
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mlship-debian-") as work:
            put_whole(_unpacked(packages, suite, Path(work)) / part, folder)
    return folder


def _unpacked(packages: Sequence[str], suite: str, work: Path) -> Path:
    # pytest puts scripts/ on the path.
    from _debian import mirror

    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        unavailable("Debian's packages need apt-get and dpkg-deb to be fetched", "docker")
    source = mirror()
    line = f"deb [signed-by={source.keyring}] {source.main} {suite}\n"
    apt = _apt(work, line)
    _run([*apt, "update"], work)
    _run([*apt, "download", *packages], work)
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
        unavailable(f"Debian's packages are unavailable: {reason}", "docker")
