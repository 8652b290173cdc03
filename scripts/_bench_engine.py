"""A Docker Engine and registries for the benchmark only: no other engine on the machine is pruned or filled."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from _machine import Problem, Result, last_lines, port_answers, run, say, start_detached, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BRIDGE_ADDRESS = "02:00:0a:d5:4d:01"  # of those that anyone may use (the second bit)
BRIDGE = "mlship-bench"
SUBNET = "10.213.77"
_RETRY = "fix the cause, then run the benchmark again"
NEEDED = ("dockerd", "docker", "docker-registry", "ip", "iptables")
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def require_programs() -> None:
    """Raise a Problem if something is missing that the benchmark does not install itself."""
    missing = [name for name in NEEDED if not shutil.which(name)]
    if os.uname().sysname != "Linux" or os.geteuid() != 0 or missing:
        why = f"not found: {', '.join(missing)}" if missing else "it needs Linux and root"
        hint = "run as root on Linux with dockerd and docker-registry; on Debian, `scripts/engine up` installs both"
        raise Problem("the benchmark cannot start its own Docker Engine", why, hint)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Allow one benchmark at a time: two would share a bridge and slow each other."""
    with (Path(tempfile.gettempdir()) / "mlship-benchmark.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            why = "two at a time would slow each other"
            raise Problem("another benchmark is running on this machine", why, "wait until it ends") from None
        yield


@dataclass(frozen=True)
class Manifest:
    """The manifest of one image for one platform."""

    digest: str
    layers: tuple[tuple[str, int], ...]
    kinds: tuple[str, ...]


@dataclass
class Registry:
    """A `docker-registry` on 127.0.0.1 whose storage can be read and reset."""

    folder: Path
    port: int = 0
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    def start(self) -> None:
        self.port = self.port or free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.storage)}},
            "http": {"addr": self.host},
        }
        (self.folder / "registry.json").write_text(json.dumps(config))
        argv = ("docker-registry", "serve", str(self.folder / "registry.json"))
        self._child = start_detached(argv, self.folder / "registry.log")
        wait_until(lambda: port_answers(self.port), self._child, self.folder / "registry.log", 60, _RETRY)

    def stop(self) -> None:
        if self._child:
            end(self._child)
            self._child = None

    def reset(self, seed: Path) -> None:
        """Replace the storage with that of another registry, `seed`."""
        self.stop()
        shutil.rmtree(self.storage, ignore_errors=True)
        shutil.copytree(seed, self.storage, copy_function=os.link)
        self.start()

    def blobs(self) -> dict[str, int]:
        """The digests and sizes (bytes) of all stored layers, configurations and manifests."""
        root = self.storage / "docker/registry/v2/blobs/sha256"
        return {f"sha256:{path.parent.name}": path.stat().st_size for path in root.glob("*/*/data")}

    def blob(self, digest: str) -> Path:
        value = digest.partition(":")[2]
        return self.storage / "docker/registry/v2/blobs/sha256" / value[:2] / value / "data"

    def manifest(self, repository: str, reference: str) -> Manifest:
        """The image's own manifest, also if the reference is an index with attestations."""
        digest, content = self._get(repository, reference)
        while "manifests" in content:
            listed = content["manifests"]
            assert isinstance(listed, list)
            platform = next(one for one in listed if one.get("platform", {}).get("os", "linux") != "unknown")
            digest, content = self._get(repository, platform["digest"])
        layers = content["layers"]
        assert isinstance(layers, list)
        return Manifest(
            digest, tuple((one["digest"], one["size"]) for one in layers), tuple(one["mediaType"] for one in layers)
        )

    def _get(self, repository: str, reference: str) -> tuple[str, dict[str, object]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Accept": ", ".join(_MANIFESTS)}
            connection.request("GET", f"/v2/{repository}/manifests/{reference}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            what = f"no manifest for `{repository}:{reference}`"
            raise Problem(what, body.decode(errors="replace"), "report this as a bug")
        return answer.headers["Docker-Content-Digest"], json.loads(body)


@dataclass(frozen=True)
class Engine:
    """The benchmark's Docker Engine, through the docker command line."""

    socket: Path
    config: Path  # DOCKER_CONFIG, without the user's builders and logins

    @property
    def env(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(self.config), "DOCKER_BUILDKIT": "1"}

    def docker(self, *arguments: str, limit: float = 900) -> Result:
        return run(("docker", *arguments), limit=limit, env=self.env)

    def must(self, *arguments: str, limit: float = 900) -> str:
        done = self.docker(*arguments, limit=limit)
        if not done.ok:
            raise Problem(f"`docker {arguments[0]}` failed", last_lines(done.out + done.err), _RETRY)
        return done.out

    def forget(self, keep: Sequence[str]) -> None:
        """Remove the build cache and all images but those in `keep`, as on a machine that has never built."""
        kept = {self.must("image", "inspect", "--format", "{{.Id}}", name).strip() for name in keep}
        listed = self.must("image", "ls", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
        for line in listed.splitlines():
            image, _, name = line.partition(" ")
            if image not in kept:
                self.docker("image", "rm", "--force", image if name.endswith("<none>") else name)
        self.must("builder", "prune", "--all", "--force")

    def versions(self) -> dict[str, str]:
        return {
            "engine": self.must("version", "--format", "{{.Server.Version}}").strip(),
            "buildx": (self.must("buildx", "version").split() or ["", ""])[1],
        }


@contextlib.contextmanager
def registries(folder: Path) -> Iterator[tuple[Registry, Registry]]:
    """A registry for the base image, which is also the mirror of docker.io, and one for all pushes."""
    both = Registry(folder / "bases"), Registry(folder / "pushes")
    try:
        for one in both:
            one.start()
        yield both
    finally:
        for one in both:
            one.stop()


@contextlib.contextmanager
def engine(folder: Path, mirror: str) -> Iterator[Engine]:
    """Run a dockerd with its own storage, containerd, bridge and subnet."""
    data, socket_path = folder / "engine", folder / "engine.sock"
    data.mkdir(parents=True)
    (folder / "docker").mkdir()
    config = {
        "data-root": str(data / "data"),
        "exec-root": str(data / "exec"),
        "pidfile": str(data / "pid"),
        "hosts": [f"unix://{socket_path}"],
        "bridge": BRIDGE,
        "mtu": _mtu(),
        # Another engine on this machine has its own rules, which this one would rewrite.
        "iptables": False,
        "ip6tables": False,
        "registry-mirrors": [f"http://{mirror}"],
        "features": {"cdi": True, "containerd-snapshotter": True},
        "builder": {"gc": {"enabled": False}},
    }
    (folder / "daemon.json").write_text(json.dumps(config))
    with _network():
        log = folder / "dockerd.log"
        child = start_detached(("dockerd", "--config-file", str(folder / "daemon.json")), log)
        made = Engine(socket_path, folder / "docker")
        try:
            wait_until(lambda: made.docker("version", limit=10).ok, child, log, 60, _RETRY)
            yield made
        finally:
            _end_engine(made, child, data)


def _end_engine(made: Engine, child: subprocess.Popen[bytes], data: Path) -> None:
    running = made.docker("ps", "--all", "--quiet", limit=20).out.split()
    if running:
        made.docker("rm", "--force", *running, limit=60)
    end(child)
    for mount in _mounts_below(data):
        run(("umount", "--lazy", mount))


def _mounts_below(folder: Path) -> list[str]:
    found = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [mount for mount in reversed(found) if mount.startswith(f"{folder}/")]


def _rules() -> tuple[tuple[str, ...], ...]:
    subnet = f"{SUBNET}.0/24"
    return (
        ("nat", "POSTROUTING", "-s", subnet, "!", "-o", BRIDGE, "-j", "MASQUERADE"),
        ("filter", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-o", BRIDGE, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
    )


@contextlib.contextmanager
def _network() -> Iterator[None]:
    """A bridge and three firewall rules for its traffic, all removed at the end."""
    _remove_network()  # a killed benchmark may have left them
    try:
        # Without an address of its own, a bridge takes one of the containers', and changes it when that container ends:
        # the others then send to an address that is gone, until a minute later they ask for it again.
        _run(("ip", "link", "add", BRIDGE, "address", BRIDGE_ADDRESS, "type", "bridge"))
        _run(("ip", "address", "add", f"{SUBNET}.1/24", "dev", BRIDGE))
        _run(("ip", "link", "set", BRIDGE, "mtu", str(_mtu()), "up"))
        for table, chain, *rule in _rules():
            _run(("iptables", "--wait", "-t", table, "-I", chain, *rule))
        yield
    finally:
        _remove_network()


def _remove_network() -> None:
    for table, chain, *rule in _rules():
        while run(("iptables", "--wait", "-t", table, "-D", chain, *rule)).ok:
            pass
    run(("ip", "link", "delete", BRIDGE))


def _mtu() -> int:
    """The MTU of the device with the default route; a larger MTU on the bridge would lose packets."""
    words = run(("ip", "-o", "route", "get", "192.0.2.1")).out.split()
    device = words[words.index("dev") + 1] if "dev" in words else ""
    path = Path(f"/sys/class/net/{device}/mtu")
    return int(path.read_text()) if device and path.exists() else 1500


def _run(argv: Sequence[str]) -> None:
    done = run(argv)
    if not done.ok:
        raise Problem(f"`{' '.join(argv)}` failed", last_lines(done.err), _RETRY)


def end(child: subprocess.Popen[bytes], limit: float = 60) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(limit)
    except subprocess.TimeoutExpired:
        say(f"pid {child.pid} is still running {limit:.0f} s after SIGTERM; killing it")
        child.kill()
        child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
