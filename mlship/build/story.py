"""Attaches to a pushed image what is in it: its bill of materials, and the record of the training."""

from collections.abc import Callable, Iterable, Iterator

from mlship.build.preflight import split_tag
from mlship.build.prepare import Prepared
from mlship.engine.base import Engine, RunRequest, started
from mlship.errors import TransientError
from mlship.files import sha256_file
from mlship.proof.bom import Inventory, make_bom
from mlship.proof.statement import Resource, resource
from mlship.proof.story import TRAINING
from mlship.registry.client import content, opened
from mlship.registry.reference import Reference
from mlship.registry.referrers import attach
from mlship.resources import read_package_file
from mlship.versioned import adapter

_SECONDS = 60.0


def attach_story(
    prepared: Prepared, engine: Engine, pushed: Iterable[tuple[str, str]], watch: Callable[[str], None]
) -> None:
    """Attach both to every pushed image, given by its name and digest.

    Raises:
        EngineError, TransientError: from the engine and the registries.
        UsageError: a registry refuses.
    """
    pushed = tuple(pushed)
    watch("attaching the bill of materials")
    installed = installed_in(engine, pushed[0][0])
    weights = tuple(_weights(prepared))
    record = prepared.config.model.metadata
    for image, digest in pushed:
        reference, version = Reference.parse(image), split_tag(image)[1]
        with opened(reference) as registry:
            found = registry.manifest(digest)
            if found is None:
                continue
            name = f"{reference.host}/{reference.repository}"
            attach(registry, found, make_bom(name, version, digest, installed, weights), {})
            if record:
                attach(registry, found, content(TRAINING, (prepared.repo / record).read_bytes()), {})


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


def _weights(prepared: Prepared) -> Iterator[Resource]:
    for path in (path for weights in prepared.plan.weights for path in weights.files):
        yield resource(path, sha256_file(prepared.repo / path))
