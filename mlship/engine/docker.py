"""The real engine: Docker, through its SDK but for builds, which only buildx can do, and a look at an image."""

import errno
import json
import os
import re
import shutil
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from mlship import process
from mlship.engine import buildx
from mlship.engine.base import BuildRequest, BuildWatcher, Disk, EngineInfo, ExitState, ImageInfo, Manifest, RunRequest
from mlship.engine.failures import engine_failure, no_docker, push_failure, registry_failure, start_failure
from mlship.engine.gpu import WAYS, GpuRequest, gpu_failure, lacks, no_gpu
from mlship.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.context import Context
    from docker.models.containers import Container
    from docker.tls import TLSConfig
    from docker.types import DeviceRequest

OLDEST_ENGINE = 23  # the first whose own front end knows every Dockerfile feature that mlship uses
OLDEST_BUILDX = (0, 13)  # the first with --progress=rawjson
LABEL = "dev.mlship.run"

_TMPFS = {"/tmp": "rw,nosuid,nodev,noexec,size=512m,mode=1777"}  # noqa: S108  a mount point in the container
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_MOST_PROCESSES = 4096  # far above what a many-core host's thread pools make, far below what starves a host
_WHICH = "`docker version` must answer; `docker context ls` and DOCKER_HOST say which engine is meant"
_UPGRADE = "install Docker Engine 23 or newer with buildx: https://docs.docker.com/engine/install/"


class _Config(TypedDict, total=False):
    """The part of an image's configuration that is read; the engine writes null for what is empty."""

    User: str | None
    WorkingDir: str | None
    Entrypoint: list[str] | None
    Cmd: list[str] | None
    Labels: dict[str, str] | None
    Env: list[str] | None


class _Inspected(TypedDict):
    """The part of `docker image inspect` that is read."""

    Id: str
    Size: int
    Os: str
    Architecture: str
    Variant: NotRequired[str]
    RepoDigests: NotRequired[list[str] | None]
    Config: _Config | None


class DockerEngine:
    """The Docker Engine that DOCKER_HOST, DOCKER_CONTEXT or docker's own configuration points at.

    Each verb connects anew: verbs may be used from several threads, and there is nothing to close.
    """

    def info(self) -> EngineInfo:
        """The engine, checked to be new enough and to have buildx."""
        with ThreadPoolExecutor(1) as thread:  # asking the client takes as long as importing the SDK
            buildx = thread.submit(_buildx_version)
            try:
                with _connected() as client:
                    version = client.version()
                    info = client.info()
            except EngineError:
                buildx.result()  # without a client, that is what has to be mended first
                raise
        buildx_version = buildx.result()
        names = [component["Name"] for component in version.get("Components") or ()]
        _check_engine("Podman" if any("Podman" in name for name in names) else "Docker Engine", version["Version"])
        return EngineInfo(
            version["Version"],
            buildx_version,
            f"{version['Os']}/{version['Arch']}",
            rootless=any("rootless" in option for option in info.get("SecurityOptions") or ()),
            keeps_manifests=any("containerd.snapshotter" in str(row) for row in info.get("DriverStatus") or ()),
        )

    def resolve(self, reference: str) -> str:
        """Digest of an image in its registry: of the index, where it has many platforms."""
        from docker.errors import APIError

        with _connected() as client:
            try:
                digest = client.images.get_registry_data(reference).id
            except APIError as error:
                raise registry_failure(reference, _said(error)) from error
        return str(digest)

    def disk(self) -> Disk | None:
        """The engine's disk. By the client, twice and at once: importing the SDK takes longer."""
        with ThreadPoolExecutor(1) as thread:
            endpoint = thread.submit(_said_by_docker, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
            system, _, folder = _said_by_docker(
                "info", "--format", "{{.OperatingSystem}}|{{.DockerRootDir}}"
            ).partition("|")
        local = endpoint.result().startswith("unix://") and system != "Docker Desktop"  # that has a disk of its own
        with suppress(OSError):
            return Disk(folder, shutil.disk_usage(folder).free) if local and folder else None
        return None

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        """Build with `docker buildx build`."""
        return buildx.build(request, watch)

    def image(self, reference: str) -> ImageInfo | None:
        """A local image; None where there is none of that name. By the client: importing the SDK takes longer."""
        done = _run_docker(["docker", "image", "inspect", reference])
        if not done.ok:
            if "no such image" in done.stderr.lower():
                return None
            with _connected():  # it knows more exactly what ails the engine
                raise engine_failure(done.stderr)
        return _image_info(json.loads(done.stdout)[0])

    def push(self, reference: str) -> str:
        """Push a local image to its registry; returns the digest that it has there."""
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        digest = ""
        with _connected() as client:
            for event in client.images.push(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise push_failure(reference, event["error"])
                # With the containerd image store there is no "aux", only the line for people.
                found = re.search(r"digest: (sha256:[0-9a-f]{64})", event.get("status") or "")
                digest = found[1] if found else (event.get("aux") or {}).get("Digest", digest)
        if not digest:
            raise push_failure(reference, "the registry confirmed no digest")
        return digest

    def save(self, reference: str) -> Generator[bytes]:
        """A local image as one tar, as the engine streams it."""
        from docker.errors import APIError

        with _connected() as client:
            client.api.timeout = None  # type: ignore[assignment]  # the classic store writes gigabytes to disk before it answers
            try:
                chunks = client.api.get_image(reference)
                yield from chunks
            except APIError as error:
                text = _said(error)
                raise start_failure(reference, text) or engine_failure(text) from error

    def start(self, request: RunRequest) -> str:
        """Start a container and return its id."""
        # In a thread, so that Ctrl-C waits for the engine's answer: a container that is half made
        # when we look for it would be found by nobody.
        with _connected() as client, ThreadPoolExecutor(1) as thread:
            thread.submit(bool).result()  # interrupted while its thread starts, the pool would not wait for it
            return thread.submit(_start, client, request).result()

    def output(self, container: str) -> Iterator[str]:
        """Lines of the container's stdout as they come, until it ends."""
        with _connected() as client:
            chunks = client.containers.get(container).logs(stdout=True, stderr=False, stream=True, follow=True)
            try:
                yield from _lines(chunks)
            finally:
                chunks.close()
                vars(chunks)["_response"].close()  # the SDK forgets it, and so keeps half the socket open

    def errors(self, container: str) -> str:
        """What the container has written to stderr so far."""
        with _connected() as client:
            data = client.containers.get(container).logs(stdout=False, stderr=True)
        return data.decode(errors="replace")

    def wait(self, container: str, seconds: float) -> ExitState | None:
        """How the container ended; None if it still runs after `seconds`."""
        with _connected() as client:
            found = client.containers.get(container)
            with suppress(OSError):  # requests has several names for a time-out; the container's state decides
                found.wait(timeout=max(seconds, 0.01))
            found.reload()
        state = found.attrs["State"]
        if state["Running"]:
            return None
        return ExitState(code=state["ExitCode"], out_of_memory=state["OOMKilled"])

    def signal(self, container: str, name: str) -> None:
        """Send a signal to the container's first process; quiet if it has ended."""
        from docker.errors import APIError

        with _connected() as client:
            try:
                client.containers.get(container).kill(signal=name)
            except APIError as error:
                if error.status_code not in {404, 409}:  # gone, not running
                    raise

    def remove(self, container: str) -> None:
        """End and remove the container; quiet if it is gone."""
        from docker.errors import APIError

        with _connected() as client:
            try:
                client.containers.get(container).remove(force=True, v=True)
            except APIError as error:
                if error.status_code not in {404, 409}:  # gone, going
                    raise


@contextmanager
def _connected() -> Iterator["DockerClient"]:
    """A client, closed afterwards; what the SDK raises leaves as our own errors."""
    from docker.errors import APIError, DockerException

    try:
        with closing(_found_client()) as client:
            yield client
    except APIError as error:
        raise engine_failure(_said(error)) from error
    except (DockerException, OSError) as error:  # OSError: requests' own are of that kind
        raise engine_failure(str(error)) from error


def _found_client() -> "DockerClient":
    try:
        return _client()
    except ValueError as error:  # a port that is none, an answer that is no JSON
        raise EngineError(f"the Docker Engine cannot be asked: {error}", hint=_WHICH) from error


def _client() -> "DockerClient":
    """As the docker program chooses its engine: DOCKER_HOST, then DOCKER_CONTEXT, then the configured context."""
    import docker

    if host := os.environ.get("DOCKER_HOST"):
        _check_host(host)
        return docker.from_env()
    context = _context()
    host = (context.Host if context else None) or _DEFAULT_HOST
    _check_host(host)
    return docker.DockerClient(base_url=host, tls=(_tls(context) if context else None) or False)


def _context() -> "Context | None":
    """The docker context that is meant; None for the default one."""
    from docker.context import ContextAPI

    name = os.environ.get("DOCKER_CONTEXT")
    if name == "default":
        return None
    context: Context | None = ContextAPI.get_context(name)
    if context is None:
        raise EngineError(f"there is no docker context {name or ''}", hint="`docker context ls` lists them")
    return None if context.name == "default" else context


def _tls(context: "Context") -> "TLSConfig | None":
    return context.TLSConfig  # None for a socket, whatever the stubs say


def _check_host(host: str) -> None:
    """Refuse what cannot work before the SDK tries: it leaves the socket of a failed attempt open."""
    if host.startswith("ssh://"):
        raise EngineError(
            f"the Docker Engine is behind {host}, and mlship speaks to sockets and TCP only",
            hint=f"forward its socket: `ssh -fNL /tmp/docker.sock:/var/run/docker.sock {host.removeprefix('ssh://')}`, "
            "then `export DOCKER_HOST=unix:///tmp/docker.sock`",
        )
    if host.startswith("unix://"):
        path = Path(host.removeprefix("unix://"))
        path.stat()
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _run_docker(argv: list[str]) -> process.Completed:
    try:
        return process.run(argv, process.Options(timeout=60))
    except process.ProcessError as error:
        raise no_docker() from error


def _said_by_docker(*arguments: str) -> str:
    """What the client says; nothing where it cannot say it."""
    done = _run_docker(["docker", *arguments])
    return done.stdout.strip() if done.ok else ""


def _image_info(found: _Inspected) -> ImageInfo:
    config = found.get("Config") or {}
    return ImageInfo(
        id=found["Id"],
        size=found["Size"],
        platform="/".join(filter(None, (found["Os"], found["Architecture"], found.get("Variant")))),
        user=config.get("User") or "",
        working_dir=config.get("WorkingDir") or "/",
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        labels=config.get("Labels") or {},
        env=dict(entry.split("=", 1) for entry in config.get("Env") or () if "=" in entry),
        # containerd's image store knows an image by its manifest, the older one by its configuration.
        digest=found["Id"] if any(d.endswith(f"@{found['Id']}") for d in found.get("RepoDigests") or ()) else None,
    )


def _buildx_version() -> str:
    done = _run_docker(["docker", "buildx", "version"])
    found = re.search(r"buildx v?((\d+)\.(\d+)\S*)", done.stdout)  # Podman's docker says "buildah 1.33"
    hint = "install buildx 0.13 or newer: package docker-buildx-plugin (Docker's) or docker-buildx (Debian, Ubuntu)"
    if not done.ok or not found:
        raise EngineError("docker has no buildx", hint=hint)
    if (int(found[2]), int(found[3])) < OLDEST_BUILDX:
        raise EngineError(f"buildx {found[1]} is too old", hint=hint)
    return found[1]


def _check_engine(name: str, version: str) -> None:
    major = re.match(r"\d+", version)
    if name == "Podman" or (major and int(major[0]) < OLDEST_ENGINE):
        raise EngineError(f"the engine that answers is {name} {version}; mlship needs Docker Engine 23", hint=_UPGRADE)


def _start(client: "DockerClient", request: RunRequest) -> str:
    """Start, with a GPU in the first way that this engine knows."""
    from docker.errors import APIError

    refused: dict[str, str] = {}
    for way in WAYS if request.gpu else (None,):
        try:
            return _start_one(client, request, way)
        except APIError as error:
            text = _said(error)
            if way is None or not lacks(text):
                gpu = gpu_failure(text) if request.gpu else None
                raise gpu or start_failure(request.image, text) or engine_failure(text) from error
            refused[way.name] = text
    raise no_gpu(refused)


def _start_one(client: "DockerClient", request: RunRequest, way: GpuRequest | None) -> str:
    from docker.errors import APIError

    container = _create(client, request, way)
    try:
        container.start()
    except APIError:
        container.remove(force=True, v=True)
        raise
    return str(container.id)


def _create(client: "DockerClient", request: RunRequest, way: GpuRequest | None) -> "Container":
    from docker.types import LogConfig

    return client.containers.create(
        request.image,
        name=request.name,
        entrypoint=list(request.command) if request.command else None,
        environment=dict(request.env),
        labels={LABEL: request.name},
        network_mode=request.network,
        mem_limit=request.memory,
        memswap_limit=request.memory,
        read_only=True,
        tmpfs=_TMPFS,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=_MOST_PROCESSES,
        device_requests=[_device_request(way)] if way else None,
        # Whatever the engine's default is: not every log driver can be read back.
        log_config=LogConfig(type=LogConfig.types.JSON),
    )


def _device_request(way: GpuRequest) -> "DeviceRequest":
    from docker.types import DeviceRequest

    capabilities = [list(group) for group in way.capabilities]
    return DeviceRequest(driver=way.driver, count=way.count, device_ids=list(way.ids), capabilities=capabilities)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)
    if rest:
        yield rest.decode(errors="replace")


def _said(error: Exception) -> str:
    """The engine's own words, without the SDK's around them."""
    return str(getattr(error, "explanation", None) or error)
