"""The result of a build; JSON one way."""

from dataclasses import dataclass, field

from mlship.build.largest import LargestLayer
from mlship.engine.base import Manifest
from mlship.smoke.result import SmokeReport


@dataclass(frozen=True)
class BuildReport:
    """The result of a build.

    Attributes:
        tag: first of `tags`, the names of the image: the requested ones, or the unproven one.
        requested: the names that the image gets once it is proven.
        proven: it passed the smoke test.
        size: bytes of the image, as the engine counts them.
        image_id: id of the tagged image: the tested one (`smoke.image_id`); a GPU image has one more label.
        smoke: None if the smoke test was skipped.
        digest: digest of the pushed image in its registry; attestation: of the proof attached to it.
        pushed: the digest by name.
        build_s: seconds of the image build; smoke_s: of the smoke test.
        manifest: digest of the image in the engine, the same in a registry; None if the engine keeps no digest.
        built: manifest of a reproducible build; for a GPU image, before the proof label was added.
        largest: None if the engine reports no sizes of layers.
    """

    tag: str
    tags: tuple[str, ...]
    requested: tuple[str, ...]
    proven: bool
    image_id: str
    platform: str
    base: str
    size: int
    build_s: float
    smoke_s: float | None
    smoke: SmokeReport | None
    digest: str | None
    attestation: str | None = None
    pushed: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None
    built: Manifest | None = None
    largest: LargestLayer | None = None
