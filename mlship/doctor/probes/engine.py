"""Docker, from its client and `docker info`; podman, from `podman info`."""

from dataclasses import replace
from pathlib import Path

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Docker, Host, Podman
from mlship.doctor.probes import dockerd, files
from mlship.doctor.probes.base import Look, here
from mlship.doctor.probes.inside.loader import real
from mlship.doctor.versions import version_numbers
from mlship.engine import connect_read_only
from mlship.engine.look import EngineLook, LookResult

_FIRST_CDI = (25,)
_FIRST_DISCOVERED = (28, 2)


def read_docker(look: Look, engine: EngineLook | None = None) -> Facts:
    if not files.live(look.root) and (look.image or look.container) is None:
        if here(look.root) == "container":  # a container's files are not the host's
            return Facts()
        return Facts(host=Host(docker=with_daemon(look.root, Docker(binary=binary(look.root)))))
    engine = engine or connect_read_only()
    docker = docker_of(engine.about())
    if docker.binary is None:  # in a container this proves nothing about the host
        return Facts() if here(look.root) == "container" else Facts(host=Host(docker=docker))
    docker = replace(docker, binary=binary(look.root), endpoint=endpoint_of(engine.endpoint()))
    return Facts(host=Host(docker=with_daemon(look.root, docker)))


def read_podman(look: Look) -> Facts:
    if files.program(look.root, "podman") is None:
        return Facts(host=Host(podman=None))
    done = files.run_here(look.root, ["podman", "info", "--format", "json"], 3)
    if done is None:
        return Facts(host=Host(podman=Podman(version=Unreadable("podman info did not answer"))))
    return Facts(host=Host(podman=podman_of(done.stdout, done.stderr)))


def docker_of(info: LookResult) -> Docker:
    """Docker, from `docker info`. An answer from podman's docker program or socket is not Docker."""
    found = info.found
    # Podman's program prints another format, its socket other fields.
    podman = plain.table(found, "host") or plain.at(found, "BuildahVersion") is not None
    if info.lack == "no client" or podman:
        return Docker(binary=None)
    docker = Docker(
        client_version=plain.text(found, "ClientInfo", "Version") or UNKNOWN,
        context=plain.text(found, "ClientInfo", "Context") or UNKNOWN,
    )
    version = plain.text(found, "ServerVersion")
    if info.lack or version is None:
        denied = "permission denied" in info.said.lower()
        return replace(docker, version=Unreadable(info.said or "no answer", root=denied))
    security = plain.texts(found, "SecurityOptions") or ()
    return replace(
        docker,
        version=version,
        operating_system=plain.text(found, "OperatingSystem"),
        root_dir=plain.text(found, "DockerRootDir"),
        runtimes=tuple(sorted(plain.table(found, "Runtimes"))),
        default_runtime=plain.text(found, "DefaultRuntime"),
        # Off by default in Docker 25 to 28.2; on if there are specification folders.
        cdi=bool(plain.texts(found, "CDISpecDirs")) if version_numbers(version) >= _FIRST_CDI else None,
        cdi_spec_dirs=plain.texts(found, "CDISpecDirs") or (),
        discovered_devices=_discovered(found, version),
        cgroup_driver=plain.text(found, "CgroupDriver"),
        security_options=security,
        rootless=any("rootless" in option for option in security),
    )


def _discovered(found: object, version: str) -> Fact[tuple[str, ...]]:
    """Engines before 28.2 do not report devices; later ones omit the key if there are none."""
    if version_numbers(version) < _FIRST_DISCOVERED:
        return UNKNOWN
    devices = plain.items(found, "DiscoveredDevices")
    return tuple(f"{plain.text(one, 'Source') or '?'}: {plain.text(one, 'ID') or '?'}" for one in devices)


def endpoint_of(context: LookResult) -> Fact[str]:
    if context.lack:
        return Unreadable(context.said or "docker context did not answer")
    return plain.text(context.found, "Endpoints", "docker", "Host")


def binary(root: Path) -> str | None:
    """Path of the docker program, links followed; that of a snap is a link to the program `snap`."""
    found = files.program(root, "docker")
    path = real(str(root), found) if found else None
    return "/snap/bin/docker" if path and path.endswith("/bin/snap") else path


def with_daemon(root: Path, docker: Docker) -> Docker:
    """Add facts of the daemon process; none if the engine is remote or in a VM."""
    endpoint = known(docker.endpoint) or ""
    rootless = known(docker.rootless) is True or "/run/user/" in endpoint
    snap = "/snap/" in f"{known(docker.binary) or ''}{known(docker.root_dir) or ''}"
    if not (endpoint or "unix://").startswith("unix://") or known(docker.operating_system) == "Docker Desktop":
        return docker
    daemon = dockerd.find_daemon(root, rootless=rootless)
    path = dockerd.config_path(daemon, rootless=rootless, snap=snap)
    docker = replace(docker, daemon_json=dockerd.daemon_json(root, path))
    if daemon is None:
        return docker
    return replace(docker, daemon_started_at=dockerd.started_at(root, daemon), daemon_hooks=dockerd.hooks(root, daemon))


def podman_of(stdout: str, stderr: str = "") -> Podman:
    """Podman, from `podman info --format json`."""
    found = plain.json_of(stdout)
    if found is None:
        return Podman(version=Unreadable(stderr.strip()[-300:] or "podman info printed no JSON"))
    runtime = plain.text(found, "host", "ociRuntime", "version")
    return Podman(
        version=plain.text(found, "version", "Version"),
        rootless=plain.flag(found, "host", "security", "rootless"),
        runtime=plain.text(found, "host", "ociRuntime", "name"),
        runtime_version=runtime.split("\n")[0].rpartition(" ")[2] if runtime else None,
    )
