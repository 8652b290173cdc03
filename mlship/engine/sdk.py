"""The Docker SDK: containers, pushes and registries. What it raises leaves as errors of mlship."""

import errno
import os
import re
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlship.engine.base import LABEL, OWNER, ExitState, RunRequest
from mlship.engine.failures import engine_failure, no_gpu, registry_failure, unsupported_gpu_method
from mlship.engine.local import DEFAULT_HOST, context_host
from mlship.errors import EngineError, UsageError
from mlship.leftovers import OWN_IMAGES, is_dead, is_dead_image, this_run

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.tls import TLSConfig
    from docker.types import DeviceRequest

_LINE_LIMIT = 64 << 20  # bytes; an answer of a model is one line
_ERRORS_LIMIT = 4 << 20  # bytes
_TMPFS = {"/tmp": "rw,nosuid,nodev,noexec,size=512m,mode=1777"}  # noqa: S108  a mount point in the container
_MOST_PROCESSES = 4096  # far above what a many-core host's thread pools make, far below what starves a host


# `--gpus` comes first because it asks the host itself: it finds the driver that runs now, and NVIDIA's hook refuses an
# image whose NVIDIA_REQUIRE_CUDA the host cannot meet. A CDI specification is a file: it may describe an old driver,
# and it checks nothing. Engine 29.2 and newer turn `--gpus` into CDI. Engines list neither, so each is tried; an engine
# that supports only CDI refuses `--gpus` at once.
GPU_METHODS = ("--gpus all", "CDI")  # as Docker's users know them


def resolve_image(reference: str) -> str:
    """Digest of an image in its registry; of the index if the image has several platforms."""
    from docker.errors import APIError

    with connected() as client:
        try:
            digest = client.images.get_registry_data(reference).id
        except APIError as error:
            raise registry_failure(reference, _explanation(error)) from error
    return str(digest)


def push(reference: str) -> str:
    """Push a local image; returns its digest in the registry."""
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    digest = ""
    with connected() as client:
        for event in client.images.push(repository, tag=tag or "latest", stream=True, decode=True):
            if "error" in event:
                raise registry_failure(reference, event["error"], pushed=True)
            # With the containerd image store there is no "aux", only the status line.
            found = re.search(r"digest: (sha256:[0-9a-f]{64})", event.get("status") or "")
            digest = found[1] if found else (event.get("aux") or {}).get("Digest", digest)
    if not digest:
        raise registry_failure(reference, "the registry confirmed no digest", pushed=True)
    return digest


def registry_credentials(host: str) -> tuple[str, str, str]:
    """User, password and refresh token that `docker login` stored for a registry; empty if there are none.

    Raises:
        UsageError: the credential helper that Docker's configuration names does not work.
    """
    from docker.auth import load_config
    from docker.errors import DockerException

    try:
        found = load_config().resolve_authconfig(host) or {}
    except DockerException as error:
        raise UsageError(
            f"cannot read the credentials for {host}: {error}", hint="check `credsStore` in ~/.docker/config.json"
        ) from error
    lower = {name.lower(): value or "" for name, value in found.items()}
    return lower.get("username", ""), lower.get("password", ""), lower.get("identitytoken", "")


def save(reference: str) -> Generator[bytes]:
    """A local image as one tar, streamed."""
    from docker.errors import APIError

    with connected() as client:
        # The older image store writes gigabytes to disk before it answers.
        client.api.timeout = None  # type: ignore[assignment]
        try:
            yield from client.api.get_image(reference)
        except APIError as error:
            raise engine_failure(_explanation(error), reference) from error


def start(request: RunRequest) -> str:
    """Start a container and return its id."""
    # In a thread, so that Ctrl-C waits for the engine's answer: a container that is still being created would not be
    # found, and so not removed.
    with connected() as client, ThreadPoolExecutor(1) as thread:
        _remove_dead(client)
        thread.submit(bool).result()  # the pool does not wait if it is interrupted while its thread starts
        return thread.submit(_start, client, request).result()


def _remove_dead(client: "DockerClient") -> None:
    """Remove the containers of runs that were killed, and then their images."""
    for found in client.api.containers(all=True, filters={"label": OWNER}):
        if is_dead(found["Labels"][OWNER]):
            with _ignoring_gone():
                client.api.remove_container(found["Id"], force=True, v=True)
    for image in client.api.images(name=OWN_IMAGES):
        for name in filter(is_dead_image, image["RepoTags"] or ()):
            with _ignoring_gone():
                client.api.remove_image(name, noprune=True)


def container_output(container: str) -> Iterator[str]:
    """Lines of the container's stdout as they come, until it ends."""
    with _logs(container, stdout=True, stderr=False, follow=True) as chunks:
        yield from _lines(chunks)


def container_errors(container: str) -> str:
    """What the container has written to stderr so far: the first and the last megabytes."""
    first, last = bytearray(), bytearray()
    with _logs(container, stdout=False, stderr=True, follow=False) as chunks:
        for chunk in chunks:
            room = _ERRORS_LIMIT - len(first)
            first += chunk[:room]
            last += chunk[room:]
            del last[:-_ERRORS_LIMIT]
    return (first + last).decode(errors="replace")


@contextmanager
def _logs(container: str, *, stdout: bool, stderr: bool, follow: bool) -> Iterator[Iterable[bytes]]:
    with connected() as client:
        chunks = client.containers.get(container).logs(stdout=stdout, stderr=stderr, stream=True, follow=follow)
        try:
            yield chunks
        finally:
            chunks.close()
            vars(chunks)["_response"].close()  # the SDK does not, which leaves half of the socket open


def wait(container: str, seconds: float) -> ExitState | None:
    """How the container ended; None if it still runs after `seconds`."""
    with connected() as client:
        found = client.containers.get(container)
        with suppress(OSError):  # requests has several time-out errors; the container's state decides
            found.wait(timeout=max(seconds, 0.01))
        found.reload()
    state = found.attrs["State"]
    return None if state["Running"] else ExitState(code=state["ExitCode"], out_of_memory=state["OOMKilled"])


def send_signal(container: str, name: str) -> None:
    """Send a signal to the container's first process; does nothing if it has ended."""
    with connected() as client, _ignoring_gone():
        client.containers.get(container).kill(signal=name)


def remove(container: str) -> None:
    """Stop and remove the container; does nothing if it is gone."""
    with connected() as client, _ignoring_gone():
        client.containers.get(container).remove(force=True, v=True)


@contextmanager
def connected() -> Iterator["DockerClient"]:
    from docker.errors import APIError, DockerException

    try:
        with closing(_found_client()) as client:
            yield client
    except APIError as error:
        raise engine_failure(_explanation(error)) from error
    except (DockerException, OSError) as error:  # errors of requests are OSErrors
        raise engine_failure(str(error)) from error


@contextmanager
def _ignoring_gone() -> Iterator[None]:
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        if error.status_code not in {404, 409}:  # gone; not running, or being removed
            raise


def _found_client() -> "DockerClient":
    try:
        return _client()
    except ValueError as error:  # an invalid port, an answer that is not JSON
        raise EngineError(
            f"cannot use this Docker Engine: {error}",
            hint="check `docker context ls` and DOCKER_HOST until `docker version` succeeds",
        ) from error


def _client() -> "DockerClient":
    """Selects the engine as the docker program does: DOCKER_HOST, then DOCKER_CONTEXT, then the configured context."""
    import docker
    from docker.context import ContextAPI

    if host := os.environ.get("DOCKER_HOST"):
        _check_host(host)
        return docker.from_env()
    name = os.environ.get("DOCKER_CONTEXT")
    context = None if name == "default" else ContextAPI.get_context(name)
    tls: TLSConfig | None = None
    if context is not None and context.name != "default":
        host, tls = context.Host, context.TLSConfig  # None for a socket, although the stubs exclude it
    elif name not in (None, "default"):
        host = context_host(name)  # the SDK does not find those in a DOCKER_CONFIG without config.json
        if not host:
            raise EngineError(f"there is no docker context `{name}`", hint="run `docker context ls` to list them")
    host = host or DEFAULT_HOST
    _check_host(host)
    return docker.DockerClient(base_url=host, tls=tls or False)


def _check_host(host: str) -> None:
    """Refuse what cannot work before the SDK tries: it leaves the socket of a failed attempt open."""
    if host.startswith("ssh://"):
        raise EngineError(
            f"unsupported engine address `{host}`: mlship connects to sockets and TCP only",
            hint=f"forward its socket: `ssh -fNL /tmp/docker.sock:/var/run/docker.sock {host.removeprefix('ssh://')}`, "
            "then `export DOCKER_HOST=unix:///tmp/docker.sock`",
        )
    if host.startswith("unix://"):
        path = Path(host.removeprefix("unix://"))
        path.stat()
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _start(client: "DockerClient", request: RunRequest) -> str:
    """Start, with GPUs by the first method that this engine supports."""
    from docker.errors import APIError

    refused: dict[str, str] = {}
    for method in GPU_METHODS if request.gpu else (None,):
        container = None
        try:
            container = _create(client, request, method)
            container.start()
        except APIError as error:
            if container is not None:
                container.remove(force=True, v=True)
            text = _explanation(error)
            if method is None or not unsupported_gpu_method(text):
                raise engine_failure(text, request.image, gpu=request.gpu) from error
            refused[method] = text
        else:
            return str(container.id)
    raise no_gpu(refused)


def _create(client: "DockerClient", request: RunRequest, method: str | None) -> "Container":
    from docker.types import LogConfig

    return client.containers.create(
        request.image,
        name=request.name,
        entrypoint=list(request.command) if request.command else None,
        environment=dict(request.env),
        labels={LABEL: request.name, OWNER: this_run()},
        network_mode=request.network,
        mem_limit=request.memory,
        memswap_limit=request.memory,
        shm_size=request.shm,
        user=request.user,
        read_only=True,
        tmpfs=_TMPFS,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        pids_limit=_MOST_PROCESSES,
        device_requests=[_device_request(method)] if method else None,
        # Not every default log driver can be read back.
        log_config=LogConfig(type=LogConfig.types.JSON),
    )


def _device_request(method: str) -> "DeviceRequest":
    from docker.types import DeviceRequest

    if method == "CDI":
        return DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
    return DeviceRequest(count=-1, capabilities=[["gpu"]])


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a stream; what is beyond the limit of a line is dropped."""
    line = bytearray()
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            yield (line + part[: max(0, _LINE_LIMIT - len(line))]).decode(errors="replace")
            line.clear()
        line += rest[: max(0, _LINE_LIMIT - len(line))]
    if line:
        yield line.decode(errors="replace")


def _explanation(error: Exception) -> str:
    """The engine's own message, without the SDK's prefix."""
    return str(getattr(error, "explanation", None) or error)
