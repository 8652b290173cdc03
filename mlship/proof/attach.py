"""Attaches the proof of a pushed image to it, and reads it back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mlship.errors import CheckFailed, TransientError, UsageError
from mlship.proof.statement import (
    MEDIA_TYPE,
    PREDICATE_TYPE,
    TEST_RESULT,
    Predicate,
    Resource,
    is_proof,
    make_statement,
    read_statement,
)
from mlship.registry.client import Registry, StoredContent, opened
from mlship.registry.images import found_image, named_content, platforms_in, usual_platform
from mlship.registry.reference import Reference
from mlship.registry.referrers import artifacts, attach
from mlship.smoke.result import SmokeReport
from mlship.smoke.spec import Device


@dataclass(frozen=True)
class Verified:
    """A proven image.

    Attributes:
        image: its name; digest: of its manifest, or of the index, to deploy exactly what was proven.
        proofs: every proof that is attached to it, oldest first; of an index, those of all its platforms.
        platforms: digest of each image of an index; empty for one image.
    """

    image: str
    digest: str
    proofs: tuple[Predicate, ...]
    platforms: Mapping[str, str] = field(default_factory=dict)


def attach_proof(
    image: str, digest: str, report: SmokeReport, materials: Iterable[Resource], engine: str, platform: str = ""
) -> str:
    """Attach the result of a smoke test to an image in its registry; returns the digest of the attestation.

    Args:
        digest: of the pushed image.
        platform: what was tested, if the digest is that of an index.

    Raises:
        TransientError: the registry does not answer, or does not have the image yet.
        UsageError: the registry refuses.
    """
    reference = Reference.parse(image)
    with opened(reference) as registry:
        found = registry.manifest(digest)
        if found is None:
            raise TransientError(
                f"`{image}` was pushed, and {reference.host} has no {digest}",
                hint=f"run `mlship smoke {image} --attest` to attach the proof",
            )
        images = platforms_in(found)
        name = f"{reference.host}/{reference.repository}"
        if len(images) > 1:
            tested = images.get(usual_platform(platform))
            one = registry.manifest(tested) if tested and not any(":" in each for each in images) else None
            if one is None:
                why = f"`{image}` has images for {', '.join(images)}, and which one was tested is unknown"
                raise UsageError(why, hint=f"test each by its digest: `mlship smoke {name}@DIGEST --attest`")
            found = one
        statement = make_statement(name, found.digest, report, materials, engine, datetime.now(UTC))
        return attach(registry, found, statement, {PREDICATE_TYPE: TEST_RESULT}).digest


def verify(image: str, device: Device | None, platform: str | None = None) -> Verified:
    """Read the proofs of an image from its registry.

    Args:
        device: where the image must have been proven; None accepts a CPU and a real GPU.
        platform: of an index, the image that must have been proven; None requires all.

    Raises:
        CheckFailed: there is no such proof, or one that is not true.
        UsageError: the registry has no such image, or refuses.
        TransientError: the registry does not answer.
    """
    reference = Reference.parse(image)
    with opened(reference) as registry:
        found = named_content(registry, reference, image)
        images = platforms_in(found)
        chosen = images
        if platform is not None:
            there = images or {found_image(registry, reference.at(found.digest), image)[2].platform: found.digest}
            chosen = {key: one for key, one in there.items() if ":" in key or key == usual_platform(platform)}
            if usual_platform(platform) not in chosen:
                hint = f"name one that it has: {', '.join(there)}"
                raise UsageError(f"`{image}` has no image for {platform}", hint=hint)
        if not images or (len(images) == 1 and proofs_of(registry, found)):
            return Verified(image, found.digest, _checked(registry, found, image, device))
        proofs: list[Predicate] = []
        for name, digest in chosen.items():
            one = registry.manifest(digest)
            if one is None:
                raise CheckFailed(f"{reference.host} has no {digest}, which `{image}` lists", hint="push it again")
            proofs += _checked(registry, one, str(reference.at(digest)), device, f" ({name})")
    return Verified(image, found.digest, tuple(proofs), chosen)


def _checked(
    registry: Registry, found: StoredContent, image: str, device: Device | None, which: str = ""
) -> tuple[Predicate, ...]:
    """The proofs of one image, oldest first.

    Raises:
        CheckFailed: they do not prove it.
    """
    proofs = tuple(proofs_of(registry, found))
    if not proofs:
        raise CheckFailed(
            f"{image}{which} is not proven: no smoke test is attached to {found.digest}",
            hint=f"run `mlship smoke {image} --attest` where the image should run",
        )
    wanted = device or "cpu or gpu"  # a simulated GPU is neither
    if not any(proof.mlship.device in {*wanted.split(" or "), "gpu"} for proof in proofs):
        seen = ", ".join(sorted({proof.mlship.device for proof in proofs}))
        host = "" if device == "cpu" else " on a host with a GPU"
        hint = f"run `mlship smoke {image} --on {device or 'gpu'} --attest`{host}"
        raise CheckFailed(f"{image}{which} is not proven on {wanted}, only on {seen}", hint=hint)
    return proofs


def proofs_of(registry: Registry, image: StoredContent) -> list[Predicate]:
    """The proofs that are attached to an image, oldest first.

    Raises:
        CheckFailed: one is not valid, or is not about this image.
    """
    attached = artifacts(registry, image, MEDIA_TYPE)
    proofs = [read_statement(statement, image.digest) for statement in attached if is_proof(statement)]
    return sorted(proofs, key=lambda proof: proof.mlship.date)
