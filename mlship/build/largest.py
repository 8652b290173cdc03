"""The largest layer of a built image: a pull has one stream per layer, so no host is faster than this one. Pure."""

from dataclasses import dataclass

from mlship.image.plan import BuildPlan
from mlship.image.steps import shipped_layers


@dataclass(frozen=True)
class LargestLayer:
    """The layer with the most unpacked bytes.

    Attributes:
        what: its packages, or what else is in it.
        share: of the unpacked bytes that mlship adds to the base image, from 0 to 1.
    """

    what: str
    bytes: int
    share: float


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
