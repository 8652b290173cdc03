"""What is installed in an image for GPUs: from its label, else from its layers. Registries need no engine."""

from collections.abc import Callable, Iterator

from mlship.build.layers import LayerFiles, compat_drivers, lock_of, read_layer, read_saved
from mlship.engine import connect
from mlship.engine.base import Engine, ImageInfo
from mlship.errors import EngineError, MlshipError
from mlship.image.labels import LAYERS, PACKAGES
from mlship.lock.foreign import ForeignLock, read_names
from mlship.registry.images import image_in_registry, registry_layers
from mlship.size.stream import BrokenTarError, ByteStream
from mlship.units import size


def packages_of(image: str, watch: Callable[[str], None]) -> tuple[ForeignLock, str, tuple[str, ...]]:
    """The packages and the platform of an image, and notes about it: of the engine, or else in its registry.

    Args:
        watch: called with what takes long.

    Raises:
        UsageError: no image of that name was found.
        TransientError: the registry does not answer.
        EngineError: a layer cannot be read.
    """
    engine, info = local_image(image)
    info = info or image_in_registry(image)[1]
    named = info.labels.get(PACKAGES)
    if named is not None and info.labels.get(LAYERS) == str(info.layers):
        return read_names(named), info.platform, ()
    watch(f"reading the layers of {image} ({size(info.size)}): it has no label that lists all of its packages")
    try:
        files, moved = (read_saved(engine.save(image)), 0) if engine else _from_registry(image)
    except BrokenTarError as error:
        raise EngineError(
            f"cannot read the layers of `{image}`: {error}",
            hint=f"ask its environment: `docker run --rm --entrypoint pip {image} freeze > freeze.txt`, "
            "then run `mlship fits freeze.txt`",
        ) from error
    return lock_of(files), info.platform, tuple(_notes(info, files, moved))


def required_cuda(image: str) -> str:
    """An image's NVIDIA_REQUIRE_CUDA; empty where it has none."""
    info = local_image(image)[1] or image_in_registry(image)[1]
    return info.env.get("NVIDIA_REQUIRE_CUDA", "")


def _from_registry(image: str) -> tuple[LayerFiles, int]:
    """The files of all layers, and how many bytes were moved."""
    found, moved = LayerFiles(), 0

    def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal moved
        for chunk in chunks:
            moved += len(chunk)
            yield chunk

    with registry_layers(image) as layers:
        for _, chunks in layers:
            found.add(read_layer(ByteStream(counted(chunks))))
    return found, moved


def _notes(info: ImageInfo, files: LayerFiles, moved: int) -> Iterator[str]:
    source = f"{size(moved)} from the registry" if moved else "the engine"
    yield f"packages, device code and CUDA libraries were read in the layers ({source})"
    if require := info.env.get("NVIDIA_REQUIRE_CUDA"):
        yield f"NVIDIA_REQUIRE_CUDA lets NVIDIA's container runtime refuse other hosts: {require}"
    for driver in compat_drivers(files):
        yield f"NVIDIA's forward-compatibility libraries {driver} are in the image; on data-center GPUs they may help"


def local_image(image: str) -> tuple[Engine | None, ImageInfo | None]:
    """The engine and its image of that name; neither where the registry has to be asked."""
    try:
        engine = connect()
        info = engine.image(image)
    except MlshipError:
        return None, None
    return (engine, info) if info else (None, None)
