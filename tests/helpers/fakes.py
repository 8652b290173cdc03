"""A scripted engine without Docker; it passes engine_contract.py like the real one."""

import io
import tarfile
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field

from mlship.engine.base import (
    BuildEvent,
    BuildRequest,
    BuildWatcher,
    Disk,
    EngineInfo,
    ExitState,
    ImageInfo,
    Manifest,
    RunRequest,
)
from mlship.engine.failures import no_gpu
from mlship.errors import MlshipError, UsageError


def _empty_layout() -> bytes:
    """The tar of an image without layers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (("index.json", b'{"manifests":[]}'), ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


EMPTY_LAYOUT = _empty_layout()


@dataclass(frozen=True)
class Script:
    """What a container does.

    Attributes:
        ends: how it ends by itself; None if it runs until a signal or its removal.
    """

    stdout: tuple[str, ...] = ()
    stderr: str = ""
    ends: ExitState | None = field(default_factory=lambda: ExitState(0, out_of_memory=False))


@dataclass
class FakeEngine:
    """Scripted.

    Attributes:
        scripts: what a container with this command does; None is the command of the image.
        events: what a build reports; then `failure` is raised, if set.
        files: what a build with `export` writes.
        calls: the verbs called, in order.
        running: containers that were started and not removed, by id.
        gpus: it can pass a GPU to a container.
        manifest: what a reproducible build gives; `keeps_manifests`: what its image store does with it.
        saved: the tar of an image by name; other images are an empty layout.
        steps: the history of every image.
    """

    images: dict[str, ImageInfo] = field(default_factory=dict)
    scripts: Mapping[tuple[str, ...] | None, Script] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    events: tuple[BuildEvent, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    built: ImageInfo | None = None
    failure: MlshipError | None = None
    calls: list[str] = field(default_factory=list)
    requests: list[BuildRequest | RunRequest] = field(default_factory=list)
    running: dict[str, tuple[Script, ExitState | None]] = field(default_factory=dict)
    gpus: bool = True
    manifest: Manifest | None = None
    keeps_manifests: bool = True
    free: Disk | None = None
    saved: Mapping[str, bytes] = field(default_factory=dict)
    steps: tuple[tuple[str, int], ...] = ()

    def info(self) -> EngineInfo:
        self.calls.append("info")
        return EngineInfo("26.1.5", "0.13.1", "linux/amd64", rootless=False, keeps_manifests=self.keeps_manifests)

    def resolve(self, reference: str) -> str:
        self.calls.append("resolve")
        if reference not in self.digests:
            raise UsageError(f"{reference}: the registry has no such image", hint="check base.mirror")
        return self.digests[reference]

    def image_environment(self, reference: str, platform: str) -> Mapping[str, str] | None:
        return {"PYTHON_VERSION": "3.11.2"} if reference.partition("@")[0] in self.digests else None

    def disk(self) -> Disk | None:
        return self.free

    def build(self, request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
        self.calls.append("build")
        self.requests.append(request)
        for event in self.events:
            watch(event)
        if self.failure:
            raise self.failure
        if request.export:
            for name, data in self.files.items():
                (request.export / name).write_bytes(data)
        if request.tag and self.built:
            self.images[request.tag] = self.built
        return self.manifest if request.reproducible else None

    def image(self, reference: str) -> ImageInfo | None:
        return self.images.get(reference)

    def history(self, reference: str) -> tuple[tuple[str, int], ...]:
        return self.steps if reference in self.images else ()

    def tag(self, reference: str, name: str) -> None:
        self.calls.append(f"tag {name}")
        self.images[name] = self.images[reference]

    def untag(self, *names: str) -> None:
        for name in names:
            self.images.pop(name, None)

    def push(self, reference: str) -> str:
        self.calls.append("push")
        return self.digests[reference]

    def save(self, reference: str) -> Generator[bytes]:
        self.calls.append("save")
        if reference not in self.images:
            raise UsageError(f"the engine has no image `{reference}`", hint=f"docker pull {reference}")
        data = self.saved.get(reference, EMPTY_LAYOUT)
        yield from (data[start : start + 1000] for start in range(0, len(data), 1000))

    def start(self, request: RunRequest) -> str:
        self.calls.append("start")
        self.requests.append(request)
        if request.image not in self.images:
            raise UsageError(f"the engine has no image `{request.image}`", hint=f"docker pull {request.image}")
        if request.gpu and not self.gpus:
            raise no_gpu({"--gpus all": 'could not select device driver "" with capabilities: [[gpu]]'})
        script = self.scripts[request.command]
        self.running[request.name] = (script, script.ends)
        return request.name

    def output(self, container: str) -> Iterator[str]:
        yield from self.running[container][0].stdout

    def errors(self, container: str) -> str:
        return self.running[container][0].stderr

    def wait(self, container: str, seconds: float) -> ExitState | None:
        return self.running[container][1]

    def signal(self, container: str, name: str) -> None:
        self.calls.append(f"signal {name}")
        script, ended = self.running.get(container, (Script(), None))
        if container in self.running and ended is None:
            code = {"SIGKILL": 137, "SIGTERM": 143}[name]
            self.running[container] = (script, ExitState(code, out_of_memory=False))

    def remove(self, container: str) -> None:
        self.calls.append("remove")
        self.running.pop(container, None)
