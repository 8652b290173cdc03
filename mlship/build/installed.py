"""An image by its name: of the engine, or else in its registry, which needs no engine; and what is installed in it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from mlship.build.layers import InstalledFiles, compat_drivers, lock_of, read_installed_file
from mlship.engine import connect
from mlship.engine.base import Engine, ImageInfo
from mlship.errors import MlshipError
from mlship.image.labels import LAYERS, PACKAGES
from mlship.lock.foreign import ForeignLock, read_names
from mlship.registry.images import image_in_registry, registry_image
from mlship.size.configuration import ImageConfig
from mlship.size.layers import Budget, FileReader, LayerTree, read_layer, stacked_files
from mlship.size.layout import image_errors, read_saved
from mlship.size.stream import ByteStream
from mlship.units import size

T = TypeVar("T")


def packages_of(image: str, watch: Callable[[str], None]) -> tuple[ForeignLock, str, tuple[str, ...]]:
    """The packages and the platform of an image, and notes about it.

    Args:
        watch: called with what takes long.

    Raises:
        UsageError: no image of that name was found.
        TransientError: the registry does not answer.
        EngineError: a layer cannot be read.
    """
    local = local_image(image)
    info = local[1] if local else image_in_registry(image)[1]
    named, require = info.labels.get(PACKAGES), info.env.get("NVIDIA_REQUIRE_CUDA", "")
    if named is not None and info.labels.get(LAYERS) == str(info.layers):
        return replace(read_names(named), require=require), info.platform, ()
    watch(f"reading the layers of {image} ({size(info.size)}): it has no label that lists all of its packages")
    hint = (
        f"ask its environment: `docker run --rm --entrypoint pip {image} freeze > freeze.txt`, "
        "then run `mlship fits freeze.txt`"
    )
    layers = read_image(image, local, read_installed_file, hint)[1]
    files = {path: file for path, (_, file) in stacked_files(layers).items()}
    notes = tuple(_notes(info, files, require, local=local is not None))
    return replace(lock_of(files), require=require), info.platform, notes


def read_image(
    image: str, local: tuple[Engine, ImageInfo] | None, read: FileReader[T], hint: str = ""
) -> tuple[ImageConfig, list[LayerTree[T]]]:
    """The configuration and the layers of an image, lowest first. Nothing is pulled.

    Args:
        local: the engine and its image of that name; None: the registry is asked.
        read: what to keep of each file.
        hint: what to do if a layer cannot be read.

    Raises:
        UsageError: the registry has no such image, or it is another artifact.
        TransientError: the registry does not answer.
        EngineError: a layer cannot be read.
    """
    if local:
        engine, info = local
        saved = read_saved(engine.save(image), image, read, info.platform, hint=hint)
        return saved.config, [layer.content for layer in saved.layers]
    explained, budget = image_errors(image, hint or f"run `docker pull {image}`, then the same command"), Budget()
    with explained, registry_image(image) as (config, layers):
        return config, [read_layer(ByteStream(chunks), read, budget) for chunks in layers]


def _notes(info: ImageInfo, files: InstalledFiles, require: str, *, local: bool) -> Iterator[str]:
    source = "the engine" if local else f"{size(info.size)} from the registry"
    yield f"packages, device code and CUDA libraries were read in the layers ({source})"
    if require:
        yield f"NVIDIA_REQUIRE_CUDA lets NVIDIA's container runtime refuse other hosts: {require}"
    for driver in compat_drivers(files):
        yield f"NVIDIA's forward-compatibility libraries {driver} are in the image; on data-center GPUs they may help"


def local_image(image: str) -> tuple[Engine, ImageInfo] | None:
    """The engine and its image of that name; None where the registry has to be asked."""
    try:
        engine = connect()
        info = engine.image(image)
    except MlshipError:
        return None
    return (engine, info) if info else None
