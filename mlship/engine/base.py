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


@dataclass(frozen=True)
class EngineInfo:
    """The engine that answers.

    Attributes:
        platform: native platform, such as linux/amd64.
        keeps_manifests: its image store is containerd's, where an image keeps the digest that it was built with;
            the older one makes it anew on each push.
    """

    version: str
    buildx: str
    platform: str
    rootless: bool
    keeps_manifests: bool = True


@dataclass(frozen=True)
class Disk:
    """The disk that an engine keeps images and caches on.

    Attributes:
        path: of the engine's folder.
        free: bytes that are left.
    """

    path: str
    free: int


@dataclass(frozen=True)
class ImageInfo:
    """A local image.

    Attributes:
        id: what the engine knows it by (a digest).
        size: bytes, as the engine counts them.
        command: entrypoint and command together, as they run.
        digest: of its manifest, as a registry that it is pushed to will have it; None where the image store keeps none.
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


@dataclass(frozen=True)
class ImageLayer:
    """A layer as registries hold it.

    Attributes:
        digest: of its bytes as they are stored, compressed; size counts these.
        what: the instruction that made it, as the image's history has it.
    """

    digest: str
    size: int
    what: str


@dataclass(frozen=True)
class Manifest:
    """An image as registries hold it.

    Attributes:
        digest: of the manifest: what an image is pinned by.
        config: digest of its configuration: labels, environment, command.
        layers: from the base up.
    """

    digest: str
    config: str
    layers: tuple[ImageLayer, ...]


@dataclass(frozen=True)
class StepStarted:
    """A step of the build begins. `name` is BuildKit's: `[builder 3/5] RUN ...`."""

    id: str
    name: str


@dataclass(frozen=True)
class StepFinished:
    """A step ended: cached, done, or with BuildKit's error text."""

    id: str
    name: str
    seconds: float
    cached: bool
    error: str | None = None


@dataclass(frozen=True)
class StepOutput:
    """A line that a step printed."""

    id: str
    text: str


@dataclass(frozen=True)
class StepBytes:
    """How far a transfer within a step is; `total` is 0 where nobody knows."""

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
        dockerfile: its text; `ignore` is the text of the .dockerignore that belongs to it.
        context: the model repository.
        platform: such as linux/amd64.
        tag: name of the image in the engine; None for a build that only writes files (`export`).
        target: the stage to build; None for the last.
        export: folder that the target stage's files are written to, instead of an image.
        secrets: BuildKit secrets by id; they reach a RUN that mounts them and no layer.
        contexts: named contexts; each replaces the stage of the same name.
        folders: named contexts too, given as files by path instead of a folder.
        cache_from: as buildx takes them (type=registry,ref=...), or just a reference in a registry; cache_to likewise.
        epoch: SOURCE_DATE_EPOCH, seconds; None leaves the times to the engine.
        compression: of the layers that are new; those of the base stay as they are.
        reproducible: the same manifest for the same inputs, whatever the builder has in its cache; the image takes its
            way through an archive in the temporary folder.
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
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    epoch: int | None = None
    compression: Compression = "zstd"
    reproducible: bool = False


def _new_name() -> str:
    return f"mlship-{uuid4().hex}"


@dataclass(frozen=True)
class RunRequest:
    """One container, as strictly confined as mlship ever runs one.

    Attributes:
        command: replaces entrypoint and command; None runs the image's own.
        network: "none", or "container:<id>" to share another container's.
        memory: limit in bytes, swap included.
        env: added to the image's.
        gpu: all GPUs of the engine's host, in the way that this engine can.
        name: the container's, unique; known before it starts, so that it is removed even if starting is interrupted.
    """

    image: str
    command: tuple[str, ...] | None = None
    network: str = "none"
    memory: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    gpu: bool = False
    name: str = field(default_factory=_new_name)


@dataclass(frozen=True)
class ExitState:
    """How a container ended.

    Attributes:
        code: its exit code (137 after SIGKILL).
        out_of_memory: the kernel killed it at its memory limit.
    """

    code: int
    out_of_memory: bool


class Engine(Protocol):
    """The verbs that mlship needs. A container is known by its id or by its request's name.

    Every verb raises EngineError where the engine cannot be used and TransientError for network and disk.
    Containers that `start` makes are confined: read-only root, tmpfs /tmp, no capabilities,
    no-new-privileges; they carry the label `dev.mlship.run`.
    """

    def info(self) -> EngineInfo:
        """The engine, checked to be new enough and to have buildx."""
        ...

    def resolve(self, reference: str) -> str:
        """Digest (`sha256:...`) of an image in its registry, without pulling it."""
        ...

    def disk(self) -> Disk | None:
        """The engine's disk; None where it is another machine's, or nobody tells."""
        ...

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        """Build; raises BuildError naming the step that failed, its last lines and the usual cause.

        Returns what was built, where it is known without reading it back: of reproducible builds.
        """
        ...

    def image(self, reference: str) -> ImageInfo | None:
        """A local image; None where there is none of that name."""
        ...

    def push(self, reference: str) -> str:
        """Push a local image to its registry; returns the digest that it has there."""
        ...

    def save(self, reference: str) -> Generator[bytes]:
        """A local image as one tar, as `docker save` writes it: the OCI image layout, with Docker's manifest.json.

        The bytes come as the engine sends them; who stops early closes the iterator. Where there is no such image,
        that is a UsageError, with the first bytes asked for at the latest.
        https://github.com/opencontainers/image-spec/blob/main/image-layout.md
        """
        ...

    def start(self, request: RunRequest) -> str:
        """Start a container and return its id; whoever starts it removes it.

        Where it cannot be given the GPUs that it asks for, that is an EngineError, and no container is left.
        """
        ...

    def output(self, container: str) -> Iterator[str]:
        """Lines of the container's stdout as they come, until it ends."""
        ...

    def errors(self, container: str) -> str:
        """What the container has written to stderr so far."""
        ...

    def wait(self, container: str, seconds: float) -> ExitState | None:
        """How the container ended; None if it still runs after `seconds`."""
        ...

    def signal(self, container: str, name: str) -> None:
        """Send a signal such as SIGTERM to the container's first process; quiet if it has ended."""
        ...

    def remove(self, container: str) -> None:
        """End and remove the container; quiet if it is gone."""
        ...


@contextmanager
def started(engine: Engine, request: RunRequest) -> Iterator[str]:
    """A started container, by id; removed at the end whatever happens, Ctrl-C while it starts included."""
    try:
        yield engine.start(request)
    finally:
        engine.remove(request.name)
