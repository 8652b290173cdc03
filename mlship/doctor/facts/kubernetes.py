"""This host as a Kubernetes node."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup, Number

Role: TypeAlias = Literal["device-plugin", "driver", "toolkit", "gfd", "validator", "dcgm", "dra", "workload"]


class Pod(FactGroup):
    name: Fact[str] = UNKNOWN
    namespace: Fact[str] = UNKNOWN
    role: Fact[Role] = UNKNOWN
    phase: Fact[str] = UNKNOWN
    ready: Fact[bool] = UNKNOWN
    reason: Fact[str] = UNKNOWN
    runtime_class: Fact[str] = UNKNOWN
    image: Fact[str] = UNKNOWN
    requests: Fact[dict[str, Number]] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


class Kubernetes(FactGroup):
    node: Fact[str] = UNKNOWN
    labels: Fact[dict[str, str]] = UNKNOWN
    allocatable: Fact[dict[str, Number]] = UNKNOWN
    capacity: Fact[dict[str, Number]] = UNKNOWN
    runtime_classes: Fact[dict[str, str]] = UNKNOWN
    pods: Fact[tuple[Pod, ...]] = UNKNOWN
    events: Fact[tuple[str, ...]] = UNKNOWN
    operator_version: Fact[str] = UNKNOWN
    container_runtime: Fact[str] = UNKNOWN
    kubelet_version: Fact[str] = UNKNOWN
