"""Attaches to a pushed image its bill of materials, its provenance, the record of the training, and where it runs."""

from collections.abc import Callable, Iterable, Sequence

from mlship.build.preflight import split_tag
from mlship.build.prepare import Prepared
from mlship.engine.base import Engine, RunRequest, started
from mlship.errors import TransientError
from mlship.files import sha256_file
from mlship.project.base import record_name
from mlship.project.load import FILE_NAME as CONFIG
from mlship.proof.bom import Inventory, make_bom
from mlship.proof.provenance import SLSA, BuildInputs, make_provenance
from mlship.proof.statement import PREDICATE_TYPE, Resource, resource
from mlship.proof.story import TRAINING
from mlship.registry.client import content, opened
from mlship.registry.reference import Reference
from mlship.registry.referrers import attach
from mlship.resources import read_package_file
from mlship.versioned import adapter

_SECONDS = 60.0


def attach_story(
    prepared: Prepared,
    engine: Engine,
    pushed: Sequence[tuple[str, str]],
    weights: tuple[Resource, ...],
    watch: Callable[[str], None],
) -> None:
    """Attach them to every pushed image, given by its name and digest.

    Args:
        weights: the model's files.

    Raises:
        EngineError, TransientError: from the engine and the registries.
        UsageError: a registry refuses.
    """
    watch("attaching the bill of materials")
    installed = installed_in(engine, pushed[0][0])
    inputs, record = build_inputs(prepared, weights), prepared.config.model.metadata
    for image, digest in pushed:
        reference, version = Reference.parse(image), split_tag(image)[1]
        with opened(reference) as registry:
            found = registry.manifest(digest)
            if found is None:
                continue
            name = f"{reference.host}/{reference.repository}"
            attach(registry, found, make_bom(name, version, digest, installed, weights), {})
            attach(registry, found, make_provenance(name, digest, inputs), {PREDICATE_TYPE: SLSA})
            if record:
                attach(registry, found, content(TRAINING, (prepared.repo / record).read_bytes()), {})


def build_inputs(prepared: Prepared, weights: tuple[Resource, ...]) -> BuildInputs:
    """What determined an image, for its provenance."""
    plan, revision = prepared.plan, prepared.revision
    gpu = plan.gpu
    taken = [image for image in (gpu.runtime, gpu.compat, gpu.devel) if image] if gpu else []
    own = (CONFIG, record_name(prepared.config))
    return BuildInputs(
        source=revision.source,
        commit=revision.commit,
        changed=None if revision.describe is None else revision.describe.endswith("-dirty"),
        platform=plan.platform,
        parameters={"python": plan.python, "epoch": plan.epoch, **({"cuda": gpu.cuda} if gpu else {})},
        images=(
            resource(plan.base.reference, plan.base.digest),
            *(resource(image.reference, image.digest) for image in taken),
        ),
        files=(
            resource(plan.lock, prepared.lock.record.requirements),
            *(resource(path, sha256_file(prepared.repo / path)) for path in own),
            *weights,
        ),
    )


def installed_in(engine: Engine, image: str) -> Inventory:
    """What is installed in a local image, asked of its own Python.

    Raises:
        EngineError, TransientError: from the engine; or the image does not answer.
    """
    command = ("python", "-c", read_package_file("smoke/inside/installed.py"))
    with started(engine, RunRequest(image, command)) as container:
        lines = list(engine.output(container))
        ended = engine.wait(container, _SECONDS)
        if not lines or ended is None or ended.code != 0:
            last = engine.errors(container).strip().splitlines()[-1:]
            raise TransientError(
                f"`{image}` does not list its packages: {'; '.join(last) or 'no output'}",
                hint="run the same command again",
            )
    return adapter(Inventory).validate_json(lines[-1])


def promise_yaml(prepared: Prepared) -> str | None:
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
