"""Images in a registry: their configuration, read without pulling them, and indexes of several platforms."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlship import plain
from mlship.engine.base import ImageInfo
from mlship.errors import MlshipError, TransientError, UsageError
from mlship.known_texts import phrase
from mlship.registry.client import INDEXES, OCI_INDEX, JsonValue, Registry, StoredContent, manifest_of, opened
from mlship.registry.reference import DOCKER_HUB, Reference
from mlship.size.configuration import ImageConfig, image_config
from mlship.size.layout import image_errors

_USUAL = {"linux/arm64/v8": "linux/arm64", "linux/amd64/v1": "linux/amd64"}


@contextmanager
def registry_image(name: str) -> Iterator[tuple[ImageConfig, Iterator[Iterator[bytes]]]]:
    """The configuration of an image, and the bytes of each layer as they arrive, lowest first.

    Raises:
        UsageError, TransientError: see `image_in_registry`.
    """
    reference = Reference.parse(name)
    with opened(reference) as registry:
        _, manifest, config = found_image(registry, reference, name)
        yield config, (registry.layer(str(layer.get("digest"))) for layer in manifest.rows("layers"))


def image_in_registry(name: str) -> tuple[str, ImageInfo]:
    """An image by its name with the digest that the name has now, and its configuration.

    Raises:
        UsageError: the registry has no such image, it is for several platforms, or the registry refuses.
        TransientError: the registry does not answer.
    """
    reference = Reference.parse(name)
    with opened(reference) as registry:
        found, manifest, config = found_image(registry, reference, name)
    sizes = layer_sizes(manifest)
    return str(reference.at(found.digest)), ImageInfo(
        id=found.digest,
        size=sum(sizes),
        platform=config.platform,
        user=config.running.user or "",
        working_dir=config.running.working_dir or "",
        command=config.running.command,
        labels=config.labels,
        env=config.running.variables,
        digest=found.digest,
        layers=len(sizes),
    )


def found_image(
    registry: Registry, reference: Reference, name: str
) -> tuple[StoredContent, StoredContent, ImageConfig]:
    """What the name refers to now, which may be an index; the manifest of the image; and its configuration.

    Raises:
        UsageError, TransientError: see `image_in_registry`.
    """
    found = named_content(registry, reference, name)
    manifest = _for_one_platform(registry, found, name)
    blob = registry.blob(str(plain.text(manifest.json(), "config", "digest")))
    if blob is None:
        raise UsageError(f"`{name}` has no configuration in {reference.host}", hint="push the image again")
    with image_errors(name, "push the image again"):
        return found, manifest, image_config(blob.data)


def named_content(registry: Registry, reference: Reference, name: str) -> StoredContent:
    """What the name refers to now.

    Raises:
        UsageError, TransientError: see `image_in_registry`.
    """
    hub = reference.host == DOCKER_HUB and not name.startswith(DOCKER_HUB)
    tag = name.partition("@")[0]  # a digest cannot be pushed
    pushed = f"`mlship build --tag {'REGISTRY/' * hub}{tag} --push`"
    local = f"push a local image first: {pushed}. A name without a registry, such as `{name}`, is one on Docker Hub"
    try:
        if found := registry.manifest(reference.version):
            return found
    except MlshipError as error:
        error.hint = f"{local}. Otherwise, {error.hint}" if hub else error.hint
        raise
    by_name = f"check the name and the tag, or push it first: `docker push {tag}`, or {pushed}"
    raise UsageError(f"{reference.host} has no image `{name}`", hint=local if hub else by_name)


def platforms_in(found: StoredContent) -> dict[str, str]:
    """Digests of the images of an index, by platform; attestations are left out. Empty for an image.

    An image without a platform, or with that of another, is there by its digest: a runtime may choose it.

    Raises:
        UsageError: the index lists another index.
    """
    images: dict[str, str] = {}
    for row in found.rows("manifests"):
        digest, system = str(row.get("digest")), plain.text(row, "platform", "os")
        if row.get("mediaType") in INDEXES:
            raise UsageError(f"the index lists another index, {digest}", hint="name an image, or an index of images")
        if system != "unknown" and (system or not row.get("artifactType")):
            parts = (system, *(plain.text(row, "platform", key) for key in ("architecture", "variant")))
            name = usual_platform("/".join(filter(None, parts)))
            images[digest if name in images or not system else name] = digest
    return images


def usual_platform(name: str) -> str:
    """A platform as it is usually written; see https://github.com/containerd/platforms."""
    return _USUAL.get(name, name)


def put_index(name: str, images: Mapping[str, str]) -> str:
    """Store an index of images that the repository has, by platform, under a tag; returns its digest.

    Raises:
        TransientError: the registry does not answer, or does not have an image yet.
        UsageError: the registry refuses.
    """
    reference = Reference.parse(name)
    rows: list[JsonValue] = []
    with opened(reference) as registry:
        for platform, digest in images.items():
            manifest = registry.manifest(digest)
            if manifest is None:
                raise TransientError(f"{reference.host} has no {digest}, which was pushed", hint=phrase("try_again"))
            system, _, architecture = platform.partition("/")
            rows.append({**manifest.descriptor, "platform": {"architecture": architecture, "os": system}})
        index = manifest_of(OCI_INDEX, manifests=rows)
        registry.put_manifest(index, reference.version)
    return index.digest


def _for_one_platform(registry: Registry, found: StoredContent, name: str) -> StoredContent:
    """The image itself; an index of one image and its attestations counts as one.

    Raises:
        UsageError: it is an index of several platforms.
    """
    if "manifests" not in found.json():
        return found
    images = platforms_in(found)
    manifest = registry.manifest(next(iter(images.values()))) if len(images) == 1 else None
    if manifest is None:
        repository = name.partition("@")[0]
        named = ", ".join(f"`{repository}@{digest}` ({platform})" for platform, digest in images.items())
        raise UsageError(
            f"`{name}` is an index of images for {', '.join(images) or 'no platform'}",
            hint=f"name one of them: {named}" if named else "push the image again",
        )
    return manifest


def layer_sizes(manifest: StoredContent) -> tuple[int, ...]:
    """Compressed bytes of each layer of an image, lowest first."""
    return tuple(plain.number_at(layer, "size") or 0 for layer in manifest.rows("layers"))
