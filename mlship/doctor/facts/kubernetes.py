"""This host as a Kubernetes node, and one pod with the node that it is on."""

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


class GpuNode(FactGroup):
    node: Fact[str] = UNKNOWN
    ready: Fact[bool] = UNKNOWN
    conditions: Fact[tuple[str, ...]] = UNKNOWN
    taints: Fact[tuple[str, ...]] = UNKNOWN
    allocatable: Fact[dict[str, Number]] = UNKNOWN


class CheckedPod(FactGroup):
    name: Fact[str] = UNKNOWN
    namespace: Fact[str] = UNKNOWN
    node: Fact[str] = UNKNOWN
    here: Fact[bool] = UNKNOWN
    phase: Fact[str] = UNKNOWN
    reason: Fact[str] = UNKNOWN
    runs: Fact[bool] = UNKNOWN
    unscheduled: Fact[str] = UNKNOWN
    requests: Fact[dict[str, Number]] = UNKNOWN
    other_ways: Fact[tuple[str, ...]] = UNKNOWN
    claims: Fact[dict[str, str]] = UNKNOWN
    slices: Fact[dict[str, Number]] = UNKNOWN
    not_started: Fact[tuple[str, ...]] = UNKNOWN
    ended: Fact[tuple[str, ...]] = UNKNOWN
    containers: Fact[dict[str, str]] = UNKNOWN
    nodes: Fact[tuple[GpuNode, ...]] = UNKNOWN
