"""An image archive in the OCI layout: read its manifest, and load it into the engine."""

import tarfile
from pathlib import Path
from time import monotonic

from mlship import process
from mlship.engine.base import BuildWatcher, ImageLayer, Manifest, StepFinished, StepStarted
from mlship.engine.failures import engine_failure
from mlship.errors import EngineError
from mlship.size.layout import list_image
from mlship.size.stream import BrokenTarError

_LOAD = "load the image into the engine"


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
            listed = list_image(lambda name: _content(tar, name))
    except (tarfile.TarError, BrokenTarError) as error:
        raise EngineError(
            f"cannot read the image archive that buildx wrote: {error}",
            hint="build without `--reproducible`, or update buildx: https://docs.docker.com/engine/install/",
        ) from error
    steps = zip(listed.manifest.layers, listed.config.layer_steps, strict=True)
    layers = (ImageLayer(layer.digest, layer.size, step or "") for layer, step in steps)
    return Manifest(listed.digest, listed.manifest.config.digest, tuple(layers))


def _content(tar: tarfile.TarFile, name: str) -> bytes | None:
    file = tar.extractfile(name) if name in tar.getnames() else None
    return file.read() if file else None
