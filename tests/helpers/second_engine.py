"""A Docker Engine of its own, with a small disk: a test may fill or kill it without harm to the machine's engine."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from tests.helpers.patience import limit


@dataclass
class SecondEngine:
    """An engine, and how it is started."""

    folder: Path
    bridge: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Its address, for DOCKER_HOST."""
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        (self.folder / "daemon.json").write_text('{"features": {"containerd-snapshotter": true}}')
        options = {
            "config-file": self.folder / "daemon.json",
            "data-root": self.folder / "disk",
            "exec-root": self.folder / "run",
            "pidfile": self.folder / "docker.pid",
            "host": self.host,
            "bridge": self.bridge,
            "iptables": "false",
            "ip6tables": "false",
        }
        argv = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        with (self.folder / "dockerd.log").open("wb") as log:
            env = {**os.environ, "TMPDIR": str(self.folder)}
            self.processes.append(subprocess.Popen(argv, stdout=log, stderr=log, env=env))
        until = time.monotonic() + limit(60)
        while not _run("docker", "--host", self.host, "version"):
            assert time.monotonic() < until, (self.folder / "dockerd.log").read_text()
            time.sleep(0.2)

    def docker(self, *arguments: str) -> str:
        argv = ("docker", "--host", self.host, *arguments)
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=limit(60)).stdout.strip()

    def kill(self) -> None:
        self.processes[-1].kill()
        self.processes[-1].wait()

    def stop(self) -> None:
        """Stop dockerd, and the containerd that it started, which outlives a dockerd that is killed."""
        for process in self.processes[-1:]:
            process.terminate()
            process.wait(limit(30))
        containerd = self.folder / "run" / "containerd" / "containerd.pid"
        if containerd.exists():
            _run("kill", containerd.read_text())
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([mount for mount in mounts if mount.startswith(str(self.folder))]):
            _run("umount", "--lazy", mount)  # a killed engine leaves some


@contextmanager
def second_engine(folder: Path, mib: int) -> Iterator[SecondEngine]:
    """Start an engine whose disk has `mib` MiB.

    It has its own bridge and makes no rules for packets: two engines that share these break each other.
    """
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "ip", "mount"))):
        pytest.skip("needs root, dockerd, ip and mount")
    engine = SecondEngine(folder, f"ml{uuid4().hex[:8]}")
    with ExitStack() as stack:
        # A bridge without an address takes a container's, and changes it when that one ends: connections break.
        _run("ip", "link", "add", engine.bridge, "address", "02:00:ac:1e:4d:01", "type", "bridge")
        stack.callback(_run, "ip", "link", "delete", engine.bridge)
        _run("ip", "address", "add", "172.30.77.1/24", "dev", engine.bridge)
        (folder / "disk").mkdir()
        stack.callback(engine.stop)
        if not _run("mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", str(folder / "disk")):
            pytest.skip("needs the right to mount")
        engine.start()
        yield engine


def _run(*argv: str) -> bool:
    return subprocess.run(argv, capture_output=True, check=False, timeout=limit(60)).returncode == 0
