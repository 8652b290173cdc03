"""What clusters make of a promise: the semantics of NFD's rules, of node affinity, and of the CEL used here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mlship.cuda.versions import Capability, Driver

GFD = "nvidia.com/"


def labels(driver: Driver, capability: Capability, platform: str) -> dict[str, str]:
    """The labels that GPU Feature Discovery gives a node; the revision of 550.120 is empty."""
    major, minor, *revision = str(driver).split(".")
    return {
        "kubernetes.io/arch": platform.partition("/")[2],
        f"{GFD}cuda.driver-version.major": major,
        f"{GFD}cuda.driver-version.minor": minor,
        f"{GFD}cuda.driver-version.revision": revision[0] if revision else "",
        f"{GFD}gpu.compute.major": str(capability.major),
        f"{GFD}gpu.compute.minor": str(capability.minor),
    }


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _NfdTerm(_Strict):
    op: str
    value: list[str]


class _NfdFeatures(_Strict):
    feature: Literal["local.label"]
    matchExpressions: dict[str, _NfdTerm]  # noqa: N815


class _NfdElement(_Strict):
    matchFeatures: list[_NfdFeatures]  # noqa: N815


class _NfdRule(_Strict):
    name: str
    matchAny: list[_NfdElement]  # noqa: N815


class _NfdSet(_Strict):
    description: str
    rules: list[_NfdRule]


class _NfdSpec(_Strict):
    version: Literal["v1alpha1"]
    compatibilities: list[_NfdSet]


def nfd_matches(document: Mapping[str, object], node: Mapping[str, str]) -> bool:
    """Every rule of every compatibility; each expression is evaluated, as `nfd compat validate-node` does."""
    spec = _NfdSpec.model_validate(document)
    matched = [_nfd_rule(rule, node) for compatibility in spec.compatibilities for rule in compatibility.rules]
    assert matched
    return all(matched)


def _nfd_rule(rule: _NfdRule, node: Mapping[str, str]) -> bool:
    found = []
    for element in rule.matchAny:
        terms = [term for feature in element.matchFeatures for term in feature.matchExpressions.items()]
        matched = [_nfd_term(node.get(name), term.op, term.value) for name, term in terms]
        found.append(all(matched))
    return any(found)


def _nfd_term(seen: str | None, op: str, value: list[str]) -> bool:
    if seen is None:
        return False
    match op:
        case "In":
            return seen in value
        case "InRegexp":
            return any(re.search(pattern, seen, re.ASCII) for pattern in value)
        case "Gt":
            (least,) = value
            return int(seen) > int(least)
        case "GtLt":
            low, high = map(int, value)
            assert low < high
            return low < int(seen) < high
        case _:
            raise AssertionError(op)


class _Expression(_Strict):
    key: str
    operator: Literal["In", "Gt", "Lt"]
    values: list[str]


class _Term(_Strict):
    matchExpressions: list[_Expression]  # noqa: N815


class _Terms(_Strict):
    nodeSelectorTerms: list[_Term]  # noqa: N815


class _NodeAffinity(_Strict):
    requiredDuringSchedulingIgnoredDuringExecution: _Terms  # noqa: N815


class _Affinity(_Strict):
    nodeAffinity: _NodeAffinity  # noqa: N815


def affinity_matches(document: Mapping[str, object], node: Mapping[str, str]) -> bool:
    """One of the terms, and all expressions in it; Gt and Lt match nothing that is not an integer."""
    affinity = _Affinity.model_validate(document["affinity"]).nodeAffinity
    terms = affinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
    return any(all(_expression_matches(each, node) for each in term.matchExpressions) for term in terms)


def _expression_matches(expression: _Expression, node: Mapping[str, str]) -> bool:
    seen = node.get(expression.key)
    if expression.operator == "In":
        return seen in expression.values
    (bound,) = expression.values
    if seen is None or not seen.isdecimal():
        return False
    return int(seen) > int(bound) if expression.operator == "Gt" else int(seen) < int(bound)


@total_ordering
@dataclass(frozen=True)
class Semver:
    """Kubernetes' semver type in CEL."""

    parts: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Semver":
        assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", text), text
        return cls(tuple(map(int, text.split("."))))

    def __lt__(self, other: "Semver") -> bool:
        return self.parts < other.parts

    def compareTo(self, other: "Semver") -> int:  # noqa: N802  CEL's name
        return (self > other) - (self < other)

    def isLessThan(self, other: "Semver") -> bool:  # noqa: N802
        return self < other

    def major(self) -> int:
        return self.parts[0]

    def minor(self) -> int:
        return self.parts[1]


class _Attributes(dict[str, Semver]):
    def __getattr__(self, name: str) -> Semver:
        return self[name]


@dataclass(frozen=True)
class _Device:
    attributes: dict[str, _Attributes]


class _Cel(_Strict):
    cel: dict[Literal["expression"], str]


class _Exactly(_Strict):
    deviceClassName: Literal["gpu.nvidia.com"]  # noqa: N815
    selectors: list[_Cel]


class _Request(_Strict):
    name: str
    exactly: _Exactly


class _Template(BaseModel):
    spec: dict[Literal["spec"], dict[Literal["devices"], dict[Literal["requests"], list[_Request]]]]


def claim_matches(document: Mapping[str, object], driver: Driver | None, capability: Capability) -> bool:
    """The selector on a device as NVIDIA's driver publishes it; no driver: an attribute that is missing."""
    (request,) = _Template.model_validate(document).spec["spec"]["devices"]["requests"]
    (selector,) = request.exactly.selectors
    gpu = _Attributes(cudaComputeCapability=Semver((*capability, 0)))
    if driver:
        gpu["driverVersion"] = Semver.parse(".".join(map(str, driver)))
    expression = selector.cel["expression"].replace("&&", "and").replace("||", "or")
    names = {"device": _Device({"gpu.nvidia.com": gpu}), "semver": Semver.parse}
    return bool(eval(expression, {"__builtins__": {}}, names))
