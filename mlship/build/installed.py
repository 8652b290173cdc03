"""What is installed in an image for GPUs, from its label: neither a layer nor the engine is needed."""

from mlship.engine import connect
from mlship.engine.base import ImageInfo
from mlship.errors import EngineError, UsageError
from mlship.image.labels import PACKAGES
from mlship.lock.foreign import ForeignLock, read_names
from mlship.registry.images import image_in_registry


def packages_of(image: str) -> tuple[ForeignLock, str]:
    """The packages and the platform of an image: of the engine, or else in its registry.

    Raises:
        UsageError: no image of that name was found, or its label does not list its packages.
        TransientError: the registry does not answer.
    """
    info = _local(image) or image_in_registry(image)[1]
    named = info.labels.get(PACKAGES)
    if named is None:
        raise UsageError(
            f"`{image}` does not say what is installed in it (label `{PACKAGES}`): "
            "it was not built by this version of mlship, or not for GPUs",
            hint=f"ask its environment: `docker run --rm --entrypoint pip {image} freeze > freeze.txt`, "
            "then run `mlship fits freeze.txt`",
        )
    return read_names(named), info.platform


def _local(image: str) -> ImageInfo | None:
    try:
        return connect().image(image)
    except EngineError:
        return None  # no engine: the registry is asked
