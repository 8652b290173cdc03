"""What mlship asks of a container engine, and the values it gets back; none of them is the SDK's.

`mlship.engine.connect` gives the real engine; tests have a fake, which has to pass the same contract tests.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias
from uuid import uuid4

LABEL = "dev.mlship.run"  # on every container that mlship starts; its value is the container's name
OWNER = "dev.mlship.owner"  # the run that removes the container, see mlship.leftovers
KILLED = 137  # exit code of a program that SIGKILL ended


@dataclass(frozen=True)
class EngineInfo:
    """The version and properties of an engine.

    Attributes:
        platform: native platform, such as linux/amd64.
        keeps_manifests: it uses containerd's image store, where an image keeps the digest it was built with; the
            older store computes a new one on each push.
    """

    version: str
    buildx: str
    platform: str
    rootless: bool
    keeps_manifests: bool = True


@dataclass(frozen=True)
class Disk:
    """The disk that holds an engine's images and caches.

    Attributes:
        path: the engine's data folder.
        free: free space, in bytes.
    """

    path: str
    free: int


@dataclass(frozen=True)
class ImageInfo:
    """A local image.

    Attributes:
        id: the engine's identifier (a digest).
        size: in bytes, as the engine counts them.
        command: entrypoint and command together.
        digest: of the manifest, as it will be in a registry; None if the image store keeps no manifest.
        layers: how many it has.
    """

    id: str
    size: int
    platform: str
    user: str
    working_dir: str
    command: tuple[str, ...]
    labels: Mapping[str, str]
    env: Mapping[str, str]
    digest: str | None = None
    layers: int = 0


@dataclass(frozen=True)
class ImageLayer:
    """A layer as registries store it.

    Attributes:
        digest: of the compressed bytes, which `size` counts.
        what: the instruction that created it, from the image's history.
    """

    digest: str
    size: int
    what: str


@dataclass(frozen=True)
class Manifest:
    """An image as registries store it.

    Attributes:
        digest: of the manifest, which pins the image.
        config: digest of the configuration: labels, environment, command.
        layers: the base's come first.
    """

    digest: str
    config: str
    layers: tuple[ImageLayer, ...]


@dataclass(frozen=True)
class StepStarted:
    """A step of the build starts. `name` is BuildKit's: `[builder 3/5] RUN ...`."""

    id: str
    name: str


@dataclass(frozen=True)
class StepFinished:
    """A step ended: cached, built, or failed with BuildKit's `error`."""

    id: str
    name: str
    seconds: float
    cached: bool
    error: str | None = None


@dataclass(frozen=True)
class StepOutput:
    id: str
    text: str


@dataclass(frozen=True)
class StepBytes:
    """Progress of a transfer within a step, in bytes; `total` is 0 if it is unknown."""

    id: str
    what: str
    current: int
    total: int


Compression: TypeAlias = Literal["zstd", "gzip"]
BuildEvent: TypeAlias = StepStarted | StepFinished | StepOutput | StepBytes
BuildWatcher: TypeAlias = Callable[[BuildEvent], None]


@dataclass(frozen=True)
class BuildRequest:
    """One `docker buildx build`.

    Attributes:
        dockerfile: its text; `ignore` is the text of its .dockerignore.
        context: the model repository.
        platform: such as linux/amd64.
        tag: name of the image in the engine; None for a build that only writes files (`export`).
        target: the stage to build; None builds the last.
        export: folder for the target stage's files, instead of an image.
        secrets: BuildKit secrets by id; only a RUN that mounts them can read them, and no layer holds them.
        contexts: named contexts; each replaces the stage of the same name.
        folders: named contexts as well, given as file contents by path.
        cache_from: in buildx's form (type=registry,ref=...), or a reference in a registry; `cache_to` likewise.
        epoch: SOURCE_DATE_EPOCH, in seconds; None leaves the times to the engine.
        compression: of new layers; the base's layers keep theirs.
        own_builder: build in this engine, whatever builder is selected: only there can FROM name a local image.
        reproducible: give the same manifest for the same inputs, whatever the builder has in its cache; the image is
            written to an archive in the temporary folder first.
    """

    dockerfile: str
    ignore: str
    context: Path
    platform: str
    tag: str | None = None
    target: str | None = None
    export: Path | None = None
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    contexts: Mapping[str, Path] = field(default_factory=dict)
    folders: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    builder: str | None = None
    own_builder: bool = False
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    epoch: int | None = None
    compression: Compression = "zstd"
    reproducible: bool = False


@dataclass(frozen=True)
class RunRequest:
    """One confined container.

    Attributes:
        command: replaces entrypoint and command; None runs the image's.
        network: "none", or "container:<id>" to share another container's network.
        memory: limit in bytes, swap included.
        env: added to the image's environment.
        gpu: pass all GPUs of the engine's host, by a method that this engine supports.
        shm: bytes of /dev/shm; None is the engine's default.
        user: replaces the image's user, as UID:GID.
        name: unique, and known before the container starts: it can be removed even if starting is interrupted.
    """

    image: str
    command: tuple[str, ...] | None = None
    network: str = "none"
    memory: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    gpu: bool = False
    shm: int | None = None
    user: str | None = None
    name: str = field(default_factory=lambda: f"mlship-{uuid4().hex}")


@dataclass(frozen=True)
class ExitState:
    """How a container ended.

    Attributes:
        code: its exit code (KILLED after SIGKILL).
        out_of_memory: the kernel killed it because it reached its memory limit.
    """

    code: int
    out_of_memory: bool


class Engine(Protocol):
    """The verbs that mlship needs. A container is identified by its id or by its request's name.

    Every verb raises EngineError if the engine cannot be used, and TransientError for network and disk. Containers
    that `start` creates are confined: read-only root, tmpfs /tmp, no capabilities, no-new-privileges.
    """

    def info(self) -> EngineInfo:
        """The engine's version and properties; an engine that is too old or has no buildx is an EngineError."""

    def resolve(self, reference: str) -> str:
        """Digest (`sha256:...`) of an image in its registry, not pulled; the index's if it has several platforms."""

    def image_environment(self, reference: str, platform: str) -> Mapping[str, str] | None:
        """The environment of an image in its registry, not pulled; None if it cannot be read."""

    def disk(self) -> Disk | None:
        """The engine's disk; None if it is on another machine or unknown."""

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        """Build, reporting to `watch` from another thread, in order.

        Returns:
            The manifest of a reproducible build; None for other builds.

        Raises:
            BuildError: a step failed; the message has its last lines and the likely cause.
        """

    def image(self, reference: str) -> ImageInfo | None:
        """A local image; None if there is none of that name."""

    def history(self, reference: str) -> tuple[tuple[str, int], ...]:
        """The instructions of a local image with the unpacked bytes of each one's layer; empty if unknown."""

    def tag(self, reference: str, name: str) -> None:
        """Give a local image another name; an image that had that name loses it."""

    def untag(self, *names: str) -> None:
        """Take names away; an image without any name is deleted. Does nothing where there is no such name."""

    def push(self, reference: str) -> str:
        """Push a local image to its registry; returns its digest there."""

    def save(self, reference: str) -> Generator[bytes]:
        """A local image as a tar stream like that of `docker save`: the OCI image layout with Docker's manifest.json.

        A caller that stops early closes the iterator. An unknown image is a UsageError, raised at the first read at
        the latest. https://github.com/opencontainers/image-spec/blob/main/image-layout.md
        """

    def start(self, request: RunRequest) -> str:
        """Start a container and return its id; the caller removes it.

        If the engine cannot pass GPUs to it, that is an EngineError, and no container is left behind.
        """

    def output(self, container: str) -> Iterator[str]:
        """Lines of the container's stdout as they come, until it ends."""

    def errors(self, container: str) -> str:
        """What the container has written to stderr so far."""

    def wait(self, container: str, seconds: float) -> ExitState | None:
        """How the container ended; None if it still runs after `seconds`."""

    def signal(self, container: str, name: str) -> None:
        """Send a signal such as SIGTERM to the container's first process; does nothing if it has ended."""

    def remove(self, container: str) -> None:
        """Stop and remove the container; does nothing if it is gone."""


@contextmanager
def started(engine: Engine, request: RunRequest) -> Iterator[str]:
    """Start a container and give its id; it is always removed, even if Ctrl-C comes while it starts."""
    try:
        yield engine.start(request)
    finally:
        engine.remove(request.name)
