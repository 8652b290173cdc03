"""An image's configuration, read from its registry without pulling it."""

from collections.abc import Mapping

from mlship.engine.base import ImageInfo
from mlship.errors import UsageError
from mlship.registry.client import JsonValue, Registry, StoredContent, opened
from mlship.registry.reference import Reference


def image_in_registry(name: str) -> tuple[str, ImageInfo]:
    """An image by its name with the digest that the name has now, and its configuration.

    Raises:
        UsageError: the registry has no such image, it is for several platforms, or the registry refuses.
        TransientError: the registry does not answer.
    """
    reference = Reference.parse(name)
    with opened(reference) as registry:
        found = registry.manifest(reference.version)
        if found is None:
            raise UsageError(
                f"{reference.host} has no image `{name}`",
                hint=f"push it first: `docker push {name}`, or `mlship build --push`",
            )
        manifest = _for_one_platform(registry, found, name)
        config = _object(manifest.json().get("config")).get("digest")
        blob = registry.blob(str(config))
        if blob is None:
            raise UsageError(f"`{name}` has no configuration in {reference.host}", hint="push the image again")
    return f"{reference.host}/{reference.repository}@{found.digest}", _info(found.digest, manifest, blob.json())


def _for_one_platform(registry: Registry, found: StoredContent, name: str) -> StoredContent:
    """The image itself; an index of one image and its attestations counts as one."""
    rows = found.json().get("manifests")
    if not isinstance(rows, list):
        return found
    images = {
        f"{platform.get('os')}/{platform.get('architecture')}": str(_object(row).get("digest"))
        for row in rows
        if (platform := _object(_object(row).get("platform"))) and platform.get("os") != "unknown"
    }
    manifest = registry.manifest(next(iter(images.values()))) if len(images) == 1 else None
    if manifest is None:
        raise UsageError(
            f"`{name}` is an index of images for {', '.join(images) or 'no platform'}",
            hint=f"name one of them: {', '.join(images.values()) or 'push the image again'}",
        )
    return manifest


def _info(digest: str, manifest: StoredContent, document: Mapping[str, JsonValue]) -> ImageInfo:
    config = _object(document.get("config"))
    layers = manifest.json().get("layers")
    sizes = [_object(layer).get("size") for layer in layers] if isinstance(layers, list) else []
    env = (entry.partition("=") for entry in _strings(config.get("Env")))
    return ImageInfo(
        id=digest,
        size=sum(size for size in sizes if isinstance(size, int)),
        platform=f"{document.get('os')}/{document.get('architecture')}",
        user=str(config.get("User") or ""),
        working_dir=str(config.get("WorkingDir") or ""),
        command=(*_strings(config.get("Entrypoint")), *_strings(config.get("Cmd"))),
        labels={key: str(value) for key, value in _object(config.get("Labels")).items()},
        env={name: value for name, _, value in env},
        digest=digest,
    )


def _object(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _strings(value: JsonValue) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
