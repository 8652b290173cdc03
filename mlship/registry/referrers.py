"""Artifacts that refer to an image in its registry, such as an attestation.

https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md#guidelines-for-artifact-usage
"""

from collections.abc import Iterator, Mapping

from mlship.errors import CheckFailed
from mlship.registry.client import (
    OCI_INDEX,
    OCI_MANIFEST,
    JsonValue,
    Registry,
    StoredContent,
    content,
    fallback_tag,
    manifest_of,
)

_EMPTY = content("application/vnd.oci.empty.v1+json", b"{}")


def attach(
    registry: Registry,
    image: StoredContent,
    artifact: StoredContent,
    annotations: Mapping[str, str],
    artifact_type: str = "",
) -> StoredContent:
    """Store an artifact as a referrer of an image; returns the artifact's manifest.

    Attaching the same artifact again changes nothing.

    Args:
        artifact_type: of the manifest, where it is not the media type of its content.
    """
    artifact_type = artifact_type or artifact.media_type
    notes: dict[str, JsonValue] = dict(annotations)
    described: dict[str, JsonValue] = {**artifact.descriptor, "annotations": notes}
    manifest = manifest_of(
        OCI_MANIFEST,
        artifactType=artifact_type,
        config=_EMPTY.descriptor,
        layers=[described],
        subject=image.descriptor,
        annotations=notes,
    )
    for blob in (_EMPTY, artifact):
        registry.put_blob(blob)
    if not registry.put_manifest(manifest):
        _list_by_tag(registry, image, {**manifest.descriptor, "artifactType": artifact_type, "annotations": notes})
    return manifest


def artifacts(registry: Registry, image: StoredContent, media_type: str) -> Iterator[StoredContent]:
    """The artifacts of this type that refer to an image, checked against their digests.

    Raises:
        CheckFailed: the registry lists one that it does not have, or that has another subject.
    """
    for row in registry.referrers(image.digest):
        digest = row.get("digest") if row.get("artifactType") == media_type else None
        if not isinstance(digest, str):
            continue
        manifest = registry.manifest(digest)
        subject = manifest.json().get("subject") if manifest else None
        if manifest is None or not isinstance(subject, dict) or subject.get("digest") != image.digest:
            raise CheckFailed(
                f"{digest} is listed as a referrer of {image.digest} and is not", hint="push the image again"
            )
        for layer in manifest.rows("layers"):
            if layer.get("mediaType") == media_type:
                yield _blob(registry, str(layer.get("digest")), media_type)


def _blob(registry: Registry, digest: str, media_type: str) -> StoredContent:
    blob = registry.blob(digest)
    if blob is None:
        raise CheckFailed(f"the registry has no {digest}, which an attestation refers to", hint="push the image again")
    return StoredContent(media_type, blob.digest, blob.data)


def _list_by_tag(registry: Registry, image: StoredContent, described: dict[str, JsonValue]) -> None:
    """Add a referrer to the index of a registry without the referrers API.

    https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#referrers-tag-schema
    """
    tag = fallback_tag(image.digest)
    known = registry.manifest(tag)
    kept = known.rows("manifests") if known else []
    rows: list[JsonValue] = [*(row for row in kept if row.get("digest") != described["digest"]), described]
    registry.put_manifest(manifest_of(OCI_INDEX, manifests=rows), tag)
