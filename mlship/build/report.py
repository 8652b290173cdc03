"""The result of a build; JSON one way."""

from dataclasses import dataclass, field

from mlship.engine.base import Manifest
from mlship.image.plan import BuildPlan
from mlship.image.steps import shipped_layers
from mlship.smoke.result import SmokeReport


@dataclass(frozen=True)
class LargestLayer:
    """The layer with the most unpacked bytes: a pull has one stream per layer, so no host is faster than this one.

    Attributes:
        what: its packages, or what else is in it.
        share: of the unpacked bytes that mlship adds to the base image, from 0 to 1.
    """

    what: str
    bytes: int
    share: float


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


def largest_added(plan: BuildPlan, history: tuple[tuple[str, int], ...]) -> LargestLayer | None:
    """Find the largest layer beyond the base image; None if the engine reports no sizes.

    Args:
        history: the image's instructions with the bytes of their layers.
    """
    titles = {layer.path: layer.title.removeprefix("add ") for layer in shipped_layers(plan)}
    titles["/layers/code/"] = "the code"
    sizes = {what: count for step, count in history for path, what in titles.items() if f" {path} " in step}
    total = sum(sizes.values())
    if not total:
        return None
    what = max(sizes, key=lambda one: sizes[one])
    return LargestLayer(what, sizes[what], round(sizes[what] / total, 3))
