"""The story of an image, from its registry alone: what it was built from, where it is proven and where it runs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mlship import plain
from mlship.proof.attach import proofs_of
from mlship.proof.bom import MEDIA_TYPE as BOM
from mlship.proof.provenance import SLSA, read_provenance
from mlship.proof.statement import MEDIA_TYPE, Predicate
from mlship.registry.client import Registry, StoredContent, opened
from mlship.registry.images import found_image, layer_sizes
from mlship.registry.reference import Reference
from mlship.registry.referrers import artifacts

TRAINING = "application/vnd.mlship.training.v1+json"


@dataclass(frozen=True)
class Story:
    """What the registry knows of an image; None and empty for what nothing says.

    Attributes:
        image: its name with the digest that the name has now.
        layers: compressed bytes of each layer, lowest first.
        labels: of the image.
        proofs: oldest first.
        contents: components of the bill of materials by type, each as name and version, or name and sha256.
        training: the record of the training.
        provenance: how it was built, as SLSA's predicate.
    """

    image: str
    platform: str
    layers: tuple[int, ...]
    labels: Mapping[str, str]
    proofs: tuple[Predicate, ...]
    contents: Mapping[str, tuple[str, ...]]
    training: Mapping[str, JsonValue]
    provenance: Mapping[str, JsonValue]

    @property
    def largest(self) -> float | None:
        """The largest layer's share of a pull."""
        return max(self.layers) / sum(self.layers) if sum(self.layers) else None


def read_story(image: str) -> Story:
    """Read everything that is attached to an image, and its labels.

    Raises:
        CheckFailed: something attached is not about this image, or is not what its type says.
        UsageError: the registry has no such image, or refuses.
        TransientError: the registry does not answer.
    """
    reference = Reference.parse(image)
    with opened(reference) as registry:
        found, manifest, config = found_image(registry, reference, image)
        about = tuple({one.digest: one for one in (found, manifest)}.values())  # an index of one image, and the image
        return Story(
            image=str(reference.at(found.digest)),
            platform=config.platform,
            layers=layer_sizes(manifest),
            labels=config.labels,
            proofs=tuple(sorted((p for one in about for p in proofs_of(registry, one)), key=lambda p: p.mlship.date)),
            contents=_contents(_attached(registry, about, BOM)),
            training=_attached(registry, about, TRAINING),
            provenance=_provenance(registry, about),
        )


def _contents(bom: Mapping[str, JsonValue]) -> dict[str, tuple[str, ...]]:
    rows = [(str(plain.text(row, "type")), _component(row)) for row in plain.items(bom, "components")]
    return {kind: tuple(shown for of, shown in rows if of == kind) for kind in sorted({of for of, _ in rows})}


def _component(row: object) -> str:
    first = next(plain.items(row, "hashes"), None)
    digest = f" sha256:{plain.text(first, 'content')}" if plain.text(first, "alg") == "SHA-256" else ""
    return f"{plain.text(row, 'name')}{digest or ' ' + str(plain.text(row, 'version'))}"


def _attached(registry: Registry, images: Iterable[StoredContent], media_type: str) -> Mapping[str, JsonValue]:
    """The JSON object of this type that was attached last; empty without any."""
    found = [artifact.json() for image in images for artifact in artifacts(registry, image, media_type)]
    return found[-1] if found else {}


def _provenance(registry: Registry, images: Iterable[StoredContent]) -> Mapping[str, JsonValue]:
    """The provenance that was attached last; empty without any.

    Raises:
        CheckFailed: one is not about this image.
    """
    rows = ((image, one) for image in images for one in artifacts(registry, image, MEDIA_TYPE))
    found = [read_provenance(one, image.digest) for image, one in rows if one.json().get("predicateType") == SLSA]
    return found[-1] if found else {}
