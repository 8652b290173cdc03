"""An image archive in the OCI layout: read its manifest, and load it into the engine."""

import tarfile
from pathlib import Path
from time import monotonic
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

from mlship import process
from mlship.engine.base import BuildWatcher, ImageLayer, Manifest, StepFinished, StepStarted
from mlship.engine.failures import engine_failure
from mlship.errors import EngineError

_LOAD = "load the image into the engine"
_T = TypeVar("_T", bound=BaseModel)


class _Descriptor(BaseModel):
    """A reference to a file of the archive: https://github.com/opencontainers/image-spec."""

    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: int


class _Index(BaseModel):
    manifests: list[_Descriptor]


class _Manifest(BaseModel):
    config: _Descriptor
    layers: list[_Descriptor]


class _Step(BaseModel):
    created_by: str = ""
    empty_layer: bool = False


class _Config(BaseModel):
    history: list[_Step] = []


def load(archive: Path, watch: BuildWatcher) -> Manifest:
    """Load the image of an archive into the engine, under the name in the archive.

    Raises:
        EngineError: the archive is invalid, or the engine rejects it.
        TransientError: the engine's disk is full.
        ProcessError: docker could not be run.
    """
    manifest = read_manifest(archive)
    started = monotonic()
    watch(StepStarted(_LOAD, _LOAD))
    done = process.run(("docker", "load", "--quiet", "--input", str(archive)))
    if not done.ok:
        raise engine_failure(done.stderr or done.stdout)
    watch(StepFinished(_LOAD, _LOAD, monotonic() - started, cached=False))
    return manifest


def read_manifest(archive: Path) -> Manifest:
    """The manifest of an archive that holds one image of one platform.

    Raises:
        EngineError: the archive is damaged or holds something else.
        OSError: the file cannot be read.
    """
    try:
        with tarfile.open(archive) as tar:
            (index,) = _read(tar, "index.json", _Index).manifests
            manifest = _read(tar, _blob(index), _Manifest)
            steps = [step for step in _read(tar, _blob(manifest.config), _Config).history if not step.empty_layer]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise EngineError(
            f"cannot read the image archive that buildx wrote: {error}",
            hint="build without `--reproducible`, or update buildx: https://docs.docker.com/engine/install/",
        ) from error
    instructions = [step.created_by for step in steps] if len(steps) == len(manifest.layers) else []
    layers = [
        ImageLayer(layer.digest, layer.size, what)
        for layer, what in zip(manifest.layers, instructions or [""] * len(manifest.layers), strict=True)
    ]
    return Manifest(index.digest, manifest.config.digest, tuple(layers))


def _blob(descriptor: _Descriptor) -> str:
    return f"blobs/{descriptor.digest.replace(':', '/')}"


def _read(tar: tarfile.TarFile, name: str, kind: type[_T]) -> _T:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    with file:
        return kind.model_validate_json(file.read())
