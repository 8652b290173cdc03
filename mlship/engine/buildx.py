"""`docker buildx build`: its command line, temporary files and failures. The Docker SDK does not support BuildKit."""

import csv
import io
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mlship import process
from mlship.engine.base import BuildRequest, BuildWatcher, Manifest
from mlship.engine.client import context_name
from mlship.engine.failures import FailedBuild, build_failure, check_crash, disk_failure, docker_failure
from mlship.engine.local import config_folder, settings, uses_tls
from mlship.engine.rawjson import Progress
from mlship.errors import TransientError
from mlship.leftovers import temporary_folder

# Where docker 23 to 29 looks for plugins after the user's folder (cli-plugins/manager in github.com/docker/cli).
_PLUGINS = tuple(f"/usr{folder}/docker/cli-plugins" for folder in ("/local/lib", "/local/libexec", "/lib", "/libexec"))
_LOST_STATE = "buildkit-lost-state"  # a row of data/known_texts.toml


@dataclass(frozen=True)
class BuildFiles:
    """The files of a build outside its context.

    Attributes:
        secrets: files by secret id.
        contexts: folders by name of the context.
        archive: the image file that a reproducible build writes.
    """

    dockerfile: Path
    secrets: Mapping[str, Path]
    contexts: Mapping[str, Path]
    archive: Path | None = None


def run_buildx(request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
    """Build an image or files, reporting progress to `watch`.

    A build in which BuildKit lost its own state is run once more: finished steps are cached, and it mostly succeeds.

    Raises:
        BuildError: a step failed.
        TransientError: a registry, the network or the disk failed.
        EngineError: docker could not be run.
    """
    try:
        return _run(request, watch)
    except TransientError as error:
        if error.cause != _LOST_STATE:
            raise
        return _run(request, watch)


def _run(request: BuildRequest, watch: BuildWatcher) -> Manifest | None:
    progress = Progress()

    def read(line: str) -> None:
        for event in progress.feed(line):
            watch(event)

    if request.own_builder:
        request = replace(request, builder=context_name())
    env = {"BUILDX_GIT_INFO": "false"}  # the image's labels say the commit; buildx would start git seven times
    if request.epoch is not None:
        env["SOURCE_DATE_EPOCH"] = str(request.epoch)
    try:
        with _files(request) as files:
            done = process.run(direct(argv(request, files)), process.Options(env=env, on_stderr=read))
            check_crash(done)
            if not done.ok:
                raise build_failure(_failed(progress))
            return _loaded(files.archive, watch) if files.archive else None
    except process.ProcessError as error:
        raise docker_failure(error) from error
    except OSError as error:
        raise disk_failure(error) from error


def _loaded(archive: Path, watch: BuildWatcher) -> Manifest:
    from mlship.engine.archive import load  # imported here: most builds write no archive

    return load(archive, watch)


def argv(request: BuildRequest, files: BuildFiles) -> list[str]:
    """The command line of a build."""
    return [
        *("docker", "buildx", "build", "--progress=rawjson"),
        # One manifest, the same for the same inputs: attestations add times and turn it into an index.
        *("--provenance=false", "--sbom=false"),
        *("--file", str(files.dockerfile), "--platform", request.platform),
        *(["--builder", request.builder] if request.builder else []),
        *(["--target", request.target] if request.target else []),
        *(["--tag", request.tag] if request.tag else []),
        *_output(request, files),
        *_each("--secret", [_csv(id=name, src=str(path)) for name, path in files.secrets.items()]),
        *_each("--build-context", [f"{name}={path}" for name, path in files.contexts.items()]),
        *_each("--cache-from", [_cache(text) for text in request.cache_from]),
        # Every stage is cached with the image's compression: a build from the cache then has identical layers.
        *_each("--cache-to", [_cache(text, mode="max", **_compression(request)) for text in request.cache_to]),
        str(request.context),
    ]


def direct(command: list[str], folders: Sequence[str] = _PLUGINS) -> list[str]:
    """The same command without docker, which asks all plugins for their names first: 30 ms of each build.

    Only if it is certain which buildx docker would start, and that it needs no settings that only docker reads.
    """
    program = shutil.which("docker-buildx", path=os.pathsep.join([str(config_folder() / "cli-plugins"), *folders]))
    with suppress(OSError, ValueError), Path(shutil.which("docker") or "").open("rb") as docker:
        script = docker.read(2) == b"#!"  # as Podman's
        if program and not (uses_tls() or script or "cliPluginsExtraDirs" in settings()):
            return [program, *command[2:]]
    return command


def _output(request: BuildRequest, files: BuildFiles) -> list[str]:
    if request.export is not None:
        return ["--output", _csv(type="local", dest=str(request.export))]
    if request.tag is None:
        return ["--output", "type=cacheonly"]
    # Engines with the older image store keep layers uncompressed and ignore the compression.
    compression = _compression(request)
    if request.compression == "gzip":  # otherwise layers cached as zstd stay zstd; the base's layers are gzip already
        compression["force-compression"] = "true"
    if files.archive is None:
        return ["--output", _csv(type="docker", **compression)]
    # Only an archive can be rewritten: no file is newer than the epoch, and each layer has the requested compression,
    # even if it is cached with another one. The base's layers keep their digests.
    rewritten = {"rewrite-timestamp": "true", "dest": str(files.archive)}
    return ["--output", _csv(type="oci", **compression, **rewritten)]


def _each(option: str, values: list[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _compression(request: BuildRequest) -> dict[str, str]:
    return {"compression": request.compression, "oci-mediatypes": "true"}


def _cache(text: str, **options: str) -> str:
    """A cache in buildx's form; a bare reference means a registry, with `options`."""
    return text if "=" in text else _csv(type="registry", ref=text, **options)


def _csv(**fields: str) -> str:
    """One CSV line, buildx's format for these values: it quotes paths that contain a comma or a quote."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([f"{key}={value}" for key, value in fields.items()])
    return line.getvalue()


@contextmanager
def _files(request: BuildRequest) -> Iterator[BuildFiles]:
    """The build's files in a folder of mode 0700, and its secrets in memory."""
    with temporary_folder("build") as folder, _in_memory(request.secrets) as secrets:
        yield write_files(request, folder, secrets)


@contextmanager
def _in_memory(contents: Mapping[str, bytes]) -> Iterator[dict[str, Path]]:
    """Files that end with this process: not even SIGKILL leaves a password behind."""
    files = {}
    with ExitStack() as stack:
        for name, content in contents.items():
            file = stack.enter_context(os.fdopen(os.memfd_create(name), "wb"))
            file.write(content)
            file.flush()
            files[name] = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        yield files


def write_files(request: BuildRequest, folder: Path, secrets: Mapping[str, Path]) -> BuildFiles:
    """Write a build's Dockerfile, .dockerignore and folders into a private folder."""
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(request.dockerfile, encoding="utf-8", newline="\n")
    (folder / "Dockerfile.dockerignore").write_text(request.ignore, encoding="utf-8", newline="\n")
    written = {name: folder / f"context-{name}" for name in request.folders}
    for name, files in request.folders.items():
        for path, content in files.items():
            (written[name] / path).parent.mkdir(parents=True, exist_ok=True)
            (written[name] / path).write_bytes(content)
    archive = folder / "image.tar" if request.reproducible and request.tag else None
    return BuildFiles(dockerfile, secrets, {**request.contexts, **written}, archive)


def _failed(progress: Progress) -> FailedBuild:
    step = progress.failed
    if step is None:
        return FailedBuild(step="", output=(), error="\n".join(progress.text))
    return FailedBuild(step=step.name, output=progress.last_lines(step.id), error=step.error or "")
