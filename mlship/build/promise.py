"""Attaches to a pushed GPU image where it runs, for Node Feature Discovery."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlship.registry.client import content, opened
from mlship.registry.reference import Reference
from mlship.registry.referrers import attach

if TYPE_CHECKING:
    from mlship.build.prepare import Prepared


def promise_yaml(prepared: "Prepared") -> str | None:
    """NFD's image compatibility of what is locked; None for a CPU image.

    Raises:
        MatchError: where it runs is unknown.
    """
    if prepared.fleet is None:
        return None
    from mlship.cuda.fit.cluster import cluster_yaml
    from mlship.cuda.fit.match import match_lock
    from mlship.cuda.fit.promise import promise_of

    match = match_lock(prepared.config, prepared.lock.pins, prepared.fleet)
    return cluster_yaml(promise_of(match.needs, prepared.config.platform, match.require), "nfd")


def attach_promise(text: str, pushed: Iterable[tuple[str, str]]) -> None:
    """Attach it to every pushed image, given by its name and digest.

    Raises:
        TransientError: a registry does not answer.
        UsageError: a registry refuses.
    """
    from mlship.cuda.fit.cluster import ARTIFACT_TYPE, SPEC_TYPE

    for image, digest in pushed:
        with opened(Reference.parse(image)) as registry:
            found = registry.manifest(digest)
            if found is not None:
                attach(registry, found, content(SPEC_TYPE, text.encode()), {}, ARTIFACT_TYPE)
