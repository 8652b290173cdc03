"""How an image was built, as SLSA provenance: an in-toto statement that other tools read.

https://slsa.dev/spec/v1.0/provenance. It is not signed, so it is evidence only for those who trust who can push.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mlship import __version__, plain
from mlship.errors import CheckFailed
from mlship.proof.statement import MEDIA_TYPE, STATEMENT, Resource
from mlship.registry.client import JsonValue, StoredContent, json_content

SLSA: Final = "https://slsa.dev/provenance/v1"
BUILDER = "mlship:build"  # a URI without a host: no service builds, and PyPI's mlship is another project
BUILD_TYPE = f"{BUILDER}/v1"


@dataclass(frozen=True)
class BuildInputs:
    """What a build was given; empty or None for what is unknown.

    Attributes:
        source: address of the git repository; commit: full hash.
        changed: files differed from the commit.
        platform: such as linux/amd64.
        parameters: other values that decide what is built, such as the version of Python.
        images: images in a registry that files were taken from, the base image first.
        files: locks, configuration and weights.
    """

    source: str | None
    commit: str | None
    changed: bool | None
    platform: str
    parameters: Mapping[str, JsonValue]
    images: tuple[Resource, ...]
    files: tuple[Resource, ...]


def make_provenance(name: str, digest: str, inputs: BuildInputs) -> StoredContent:
    """The statement about a pushed image; the same build gives the same bytes, so it has no times.

    Args:
        name: of the image, without its tag; digest: of its manifest in the registry.
    """
    code, resources = _code(inputs), (*inputs.images, *inputs.files)
    files: list[JsonValue] = [{"name": one.name, "digest": {"sha256": one.digest.sha256}} for one in resources]
    definition: JsonValue = {
        "buildType": BUILD_TYPE,
        "externalParameters": {**({"source": code} if code else {}), "platform": inputs.platform},
        "internalParameters": {
            **inputs.parameters,
            **({} if inputs.changed is None else {"uncommittedChanges": inputs.changed}),
        },
        "resolvedDependencies": [*([code] if code else []), *files],
    }
    subject: JsonValue = {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    statement: JsonValue = {
        "_type": STATEMENT,
        "subject": [subject],
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": definition,
            "runDetails": {"builder": {"id": BUILDER, "version": {"mlship": __version__}}},
        },
    }
    return json_content(MEDIA_TYPE, statement)


def read_provenance(attached: StoredContent, digest: str) -> Mapping[str, JsonValue]:
    """The predicate of provenance about the image with this digest.

    Raises:
        CheckFailed: it is about another image, or is no provenance.
    """
    found = attached.json()
    predicate = found.get("predicate")
    digests = [plain.text(one, "digest", "sha256") for one in plain.items(found, "subject")]
    if not isinstance(predicate, dict) or digest.removeprefix("sha256:") not in digests:
        raise CheckFailed(
            f"the provenance {attached.digest} is not about {digest}", hint="build and push the image again"
        )
    return predicate


def _code(inputs: BuildInputs) -> dict[str, JsonValue]:
    """The git repository as a resource; empty without a commit."""
    if not inputs.commit:
        return {}
    named: dict[str, JsonValue] = {"uri": f"git+{inputs.source}"} if inputs.source else {"name": "source"}
    return {**named, "digest": {"gitCommit": inputs.commit}}
