"""The bill of materials of an image, in CycloneDX's JSON: what was found installed in it, and the model's files.

https://cyclonedx.org/docs/1.6/json/
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

from mlship import __version__
from mlship.proof.statement import Resource
from mlship.registry.client import JsonValue, StoredContent, json_content

MEDIA_TYPE = "application/vnd.cyclonedx+json"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
Component: TypeAlias = dict[str, JsonValue]


@dataclass(frozen=True)
class Inventory:
    """What `smoke/inside/installed.py` found in an image.

    Attributes:
        system: ID of the distribution, such as "debian"; release: its version; empty if the image does not say.
        wheels: name and version; debs: name, version and architecture.
        expressions: SPDX expressions of wheels, by name; licenses: what other wheels call theirs.
        copyrights: short names of licenses of Debian packages, as their copyright files have them.
    """

    python: str
    system: str
    release: str
    wheels: tuple[tuple[str, str], ...]
    debs: tuple[tuple[str, str, str], ...]
    expressions: Mapping[str, str] = field(default_factory=dict)
    licenses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    copyrights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def make_bom(name: str, version: str, digest: str, installed: Inventory, weights: Iterable[Resource]) -> StoredContent:
    """The bill of materials of a pushed image; the same image gives the same bytes.

    Args:
        name: of the image, without its tag; digest: of its manifest in the registry.
        weights: the model's files.
    """
    purl = f"pkg:oci/{_part(name.rpartition('/')[2])}@{_part(digest)}?repository_url={quote(name, safe='/.')}"
    document: Component = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, purl)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "mlship", "version": __version__}]},
            "component": {"type": "container", "bom-ref": purl, "name": name, "version": version, "purl": purl},
        },
        "components": [*_packages(installed), *map(_model, weights)],
    }
    return json_content(MEDIA_TYPE, document)


def _packages(installed: Inventory) -> Iterator[Component]:
    if installed.system:
        yield {"type": "operating-system", "name": installed.system, "version": installed.release}
    yield {"type": "platform", "name": "python", "version": installed.python}
    for name, version in installed.wheels:
        purl = f"pkg:pypi/{_part(canonicalize_name(name))}@{_part(version)}"
        yield _library(name, version, purl) | _licenses(installed.expressions.get(name), installed.licenses.get(name))
    for name, version, architecture in installed.debs:
        where = f"arch={_part(architecture)}&distro={_part(f'{installed.system}-{installed.release}')}"
        purl = f"pkg:deb/{_part(installed.system or 'debian')}/{_part(name)}@{_part(version)}?{where}"
        yield _library(name, version, purl) | _licenses(None, installed.copyrights.get(name))


def _licenses(expression: str | None, names: Iterable[str] | None) -> Component:
    """An SPDX expression, or names as they are; empty for what is unknown."""
    if expression:
        try:
            return {"licenses": [{"expression": canonicalize_license_expression(expression)}]}
        except InvalidLicenseExpression:
            names = (expression,)
    listed: list[JsonValue] = [{"license": {"name": name}} for name in names or ()]
    return {"licenses": listed} if listed else {}


def _library(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _model(file: Resource) -> Component:
    digest: JsonValue = {"alg": "SHA-256", "content": file.digest.sha256}
    return {"type": "machine-learning-model", "bom-ref": f"model:{file.name}", "name": file.name, "hashes": [digest]}


def _part(text: str) -> str:
    """Encoded by https://github.com/package-url/purl-spec/blob/main/purl-specification.md#character-encoding."""
    return quote(text, safe="._-~:")
