"""All facts as one frozen value with JSON both ways; each probe fills its part and leaves the rest unknown."""

import json
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from typing import TypeVar

from mlship.doctor.facts.container import Container, Image
from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup, known
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.kernel import Kernel
from mlship.doctor.facts.kubernetes import CheckedPod, Kubernetes
from mlship.versioned import adapter

SCHEMA = 1
_OF_CLUSTER = ("mlship", "kubernetes", "pod", "messages", "probes", "schema")
T = TypeVar("T")


class ProbeRun(FactGroup):
    name: str
    seconds: Fact[float] = UNKNOWN
    problem: Fact[str] = UNKNOWN


class Facts(FactGroup):
    mlship: Fact[str] = UNKNOWN
    simulated: Fact[bool] = UNKNOWN
    kernel: Kernel = Kernel()
    host: Host = Host()
    container: Container = Container()
    image: Image = Image()
    kubernetes: Fact[Kubernetes] = UNKNOWN
    pod: Fact[CheckedPod] = UNKNOWN
    messages: Fact[tuple[str, ...]] = UNKNOWN
    probes: Fact[tuple[ProbeRun, ...]] = UNKNOWN
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The text of a facts file without unknown facts; the same facts give the same bytes."""
        plain: object = adapter(Facts).dump_python(self, mode="json", exclude_defaults=True)
        assert isinstance(plain, dict)  # noqa: S101  for mypy: a dataclass dumps to a dict
        return json.dumps({"schema": self.schema, **plain}, indent=2, ensure_ascii=False) + "\n"


def without_other_machine(facts: Facts) -> Facts:
    """The facts without those of this machine if the pod in question is on another one: they show nothing about it."""
    pod = known(facts.pod)
    if pod is None or known(pod.here) is True:
        return facts
    return replace(Facts(), **{name: getattr(facts, name) for name in _OF_CLUSTER})


def merge(parts: tuple[Facts, ...]) -> Facts:
    """All known facts. If two parts know the same fact, the earlier one wins; tables are merged."""
    return reduce(merged, parts, Facts())


def merged(one: T, other: T) -> T:
    """Two groups of the same kind, field by field."""
    if not is_dataclass(one) or isinstance(one, type):
        return one
    changes: dict[str, object] = {}
    for field in fields(one):
        left: object = getattr(one, field.name)
        right: object = getattr(other, field.name)
        changes[field.name] = _either(left, right)
    return replace(one, **changes)


def _either(left: object, right: object) -> object:
    if left in (UNKNOWN, right):
        return right
    if isinstance(left, dict) and isinstance(right, dict):
        return {**right, **left, **{key: _either(left[key], right[key]) for key in left.keys() & right.keys()}}
    if is_dataclass(left) and type(left) is type(right):
        return merged(left, right)
    return left
