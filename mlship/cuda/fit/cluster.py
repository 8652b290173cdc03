"""A promise in the languages of clusters: Node Feature Discovery, node affinity, and dynamic resource allocation. Pure.

https://kubernetes-sigs.github.io/node-feature-discovery/stable/usage/image-compatibility.html
https://github.com/NVIDIA/k8s-device-plugin (labels of GPU Feature Discovery)
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.fit.promise import Promise, Reach
from mlship.cuda.versions import Capability
from mlship.yaml_text import Yaml, yaml_text

ARTIFACT_TYPE = "application/vnd.nfd.image-compatibility.v1alpha1"
SPEC_TYPE = "application/vnd.nfd.image-compatibility.spec.v1alpha1+yaml"
ClusterForm: TypeAlias = Literal["nfd", "affinity", "claim"]
Terms: TypeAlias = dict[str, Yaml]

_BRANCH = "nvidia.com/cuda.driver-version.major"
_MINOR = "nvidia.com/cuda.driver-version.minor"
_REVISION = "nvidia.com/cuda.driver-version.revision"
_CC_MAJOR = "nvidia.com/gpu.compute.major"
_CC_MINOR = "nvidia.com/gpu.compute.minor"
_END = 100_000  # more than any part of a driver's version


@dataclass(frozen=True)
class _Between:
    """A number, both ends excluded, or the exact texts of a label."""

    label: str
    above: int = -1
    below: int = _END
    texts: tuple[str, ...] = ()


def cluster_document(promise: Promise, form: ClusterForm) -> Terms:
    """The promise in a cluster's language."""
    return {"nfd": _nfd, "affinity": _affinity, "claim": _claim}[form](promise)


def cluster_yaml(promise: Promise, form: ClusterForm) -> str:
    """The same as YAML."""
    return yaml_text(cluster_document(promise, form))


def _alternatives(promise: Promise) -> Iterator[tuple[_Between, ...]]:
    """Conditions on labels of GPU Feature Discovery, of which one list must hold as a whole."""
    for reach in promise.reaches:
        for major, minors in _by_major(reach.capabilities):
            gpu = (_Between(_CC_MAJOR, texts=(str(major),)), _Between(_CC_MINOR, texts=tuple(map(str, minors))))
            yield from ((*driver, *gpu) for driver in _drivers(reach))


def _by_major(capabilities: tuple[Capability, ...]) -> list[tuple[int, list[int]]]:
    majors = sorted({capability.major for capability in capabilities})
    return [(major, [each.minor for each in capabilities if each.major == major]) for major in majors]


def _drivers(reach: Reach) -> Iterator[tuple[_Between, ...]]:
    """A driver version is three labels, so "this one or newer" is up to three alternatives."""
    (major, minor, patch), below = reach.drivers.first, reach.drivers.below or _END
    yield (_Between(_BRANCH, major if minor or patch else major - 1, below),)
    same = _Between(_BRANCH, texts=(str(major),))
    if patch:
        yield same, _Between(_MINOR, minor)
        yield same, _Between(_MINOR, minor - 1, minor + 1), _Between(_REVISION, patch - 1)
    elif minor:
        yield same, _Between(_MINOR, minor - 1)


# Node Feature Discovery


def _nfd(promise: Promise) -> Terms:
    any_of: list[Yaml] = [
        {"matchFeatures": [{"feature": "local.label", "matchExpressions": {c.label: _nfd_term(c) for c in conditions}}]}
        for conditions in _alternatives(promise)
    ]
    text = f"GPUs and drivers that run {', '.join(promise.packages)} ({promise.platform})"
    rule: Terms = {"name": "NVIDIA driver and compute capability", "matchAny": any_of}
    return {"version": "v1alpha1", "compatibilities": [{"description": text, "rules": [rule]}]}


def _nfd_term(condition: _Between) -> Terms:
    """On an empty label, as the revision of 550.120 is, NFD's numeric operators are errors; patterns are not."""
    if condition.texts:
        return {"op": "In", "value": [*condition.texts]}
    if condition.label == _REVISION:
        return {"op": "InRegexp", "value": [_at_least(condition.above + 1)]}
    if condition.below == _END:
        return {"op": "Gt", "value": [str(condition.above)]}
    return {"op": "GtLt", "value": [str(condition.above), str(condition.below)]}


def _at_least(number: int) -> str:
    """A pattern for numbers of one or two digits from `number` on, with or without leading zeros, and longer ones."""
    tens, ones = divmod(number, 10)
    higher = f"[{tens + 1}-9][0-9]|" if tens < 9 else ""
    same = f"{tens}[{ones}-9]" if tens else f"[{ones}-9]"
    return f"^0*({same}|{higher}[1-9][0-9]{{2,}})$"


# Node affinity


def _affinity(promise: Promise) -> Terms:
    arch = _Between("kubernetes.io/arch", texts=(promise.platform.partition("/")[2],))
    terms: list[Yaml] = [
        {"matchExpressions": [each for condition in (arch, *conditions) for each in _expressions(condition)]}
        for conditions in _alternatives(promise)
    ]
    selector: Terms = {"nodeSelectorTerms": terms}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def _expressions(condition: _Between) -> Iterator[Terms]:
    if condition.texts:
        yield {"key": condition.label, "operator": "In", "values": [*condition.texts]}
        return
    yield {"key": condition.label, "operator": "Gt", "values": [str(condition.above)]}
    if condition.below != _END:
        yield {"key": condition.label, "operator": "Lt", "values": [str(condition.below)]}


# Dynamic resource allocation

_GPU = 'device.attributes["gpu.nvidia.com"]'


def _claim(promise: Promise) -> Terms:
    # A missing attribute would fail the whole allocation, so it is looked for first.
    known = " && ".join(f'"{name}" in {_GPU}' for name in ("driverVersion", "cudaComputeCapability"))
    reaches = " || ".join(map(_reach_cel, promise.reaches))
    selector: Terms = {"cel": {"expression": f"{known} && ({reaches})"}}
    exactly: Terms = {"deviceClassName": "gpu.nvidia.com", "selectors": [selector]}
    requests: list[Yaml] = [{"name": "gpu", "exactly": exactly}]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "gpu"},
        "spec": {"spec": {"devices": {"requests": requests}}},
    }


def _reach_cel(reach: Reach) -> str:
    """The driver's version is published as a semantic version, which has no leading zeros: 580.65.6."""
    driver, capability = f"{_GPU}.driverVersion", f"{_GPU}.cudaComputeCapability"
    parts = [f'{driver}.compareTo(semver("{".".join(map(str, reach.drivers.first))}")) >= 0']
    if reach.drivers.below:
        parts.append(f'{driver}.isLessThan(semver("{reach.drivers.below}.0.0"))')
    gpus = [
        f"({capability}.major() == {major} && {capability}.minor() in {minors})"
        for major, minors in _by_major(reach.capabilities)
    ]
    return f"({' && '.join(parts)} && ({' || '.join(gpus)}))"
