"""Pods as clusters report them, for `mlship doctor --pod`: each failure that a rule names, and pods that are well."""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import cast

from pydantic import JsonValue

from tests.helpers.pod_cluster import Object, PodCluster

GPU = "nvidia.com/gpu"
TOLERATION: Object = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
TAINT: Object = {"key": GPU, "value": "present", "effect": "NoSchedule"}
_STARTED = "2026-11-20T10:00:30Z"
_PLACED = "2026-11-20T10:00:00Z"
_UID = "0f0e5a0c-0000-4000-8000-000000000001"


def node(
    name: str = "gpu-1",
    gpus: int = 1,
    *,
    kind: str = GPU,
    taints: tuple[Object, ...] = (),
    ready: str = "True",
    **spec: JsonValue,
) -> Object:
    """A node that has a GPU by its labels; with `gpus` below 0, one without."""
    labels: Object = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64"}
    offers: Object = {"cpu": "16", "memory": "64Gi"}
    if gpus >= 0:
        labels["nvidia.com/gpu.present"] = "true"
    if gpus > 0:
        offers[kind] = str(gpus)
    conditions: list[JsonValue] = [
        {"type": "MemoryPressure", "status": "False", "message": "kubelet has sufficient memory available"},
        {
            "type": "Ready",
            "status": ready,
            "message": "Kubelet stopped posting node status." if ready != "True" else "",
        },
    ]
    info: Object = {"containerRuntimeVersion": "containerd://2.1.4", "kubeletVersion": "v1.34.1", "bootID": ""}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [*taints], **spec},
        "status": {"allocatable": offers, "capacity": offers, "conditions": conditions, "nodeInfo": info},
    }


def pod(status: Object, *, gpus: int = 1, on: str | None = "gpu-1", **spec: JsonValue) -> Object:
    """The pod "vllm-0" in the namespace "ml"."""
    limits: Object = {"memory": "8Gi", **({GPU: str(gpus)} if gpus else {})}
    container: Object = {"name": "main", "image": "registry.example/vllm:1", "resources": {"limits": limits}}
    placed: Object = {"nodeName": on} if on else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vllm-0", "namespace": "ml", "uid": _UID},
        "spec": {"containers": [container], **placed, **spec},
        "status": status,
    }


def state(kind: str, reason: str = "", message: str = "", **more: JsonValue) -> Object:
    inside: Object = {key: value for key, value in (("reason", reason), ("message", message)) if value}
    return {kind: {**inside, **more}}


def status(phase: str, now: Object, last: Object | None = None) -> Object:
    """The status of a pod that has a node."""
    container: Object = {"name": "main", "state": now, "lastState": last or {}, "containerID": "containerd://abc123"}
    scheduled: Object = {"type": "PodScheduled", "status": "True", "lastTransitionTime": _PLACED}
    return {"phase": phase, "conditions": [scheduled], "containerStatuses": [container]}


def pending(message: str) -> Object:
    """The status of a pod for which the scheduler finds no node."""
    why: Object = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [why]}


def event(reason: str, message: str, at: str = "2026-11-20T10:01:00Z") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "type": "Warning",
        "metadata": {"name": f"{reason.lower()}-{at}", "namespace": "ml"},
        "involvedObject": {"kind": "Pod", "name": "vllm-0", "namespace": "ml", "uid": _UID},
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


def claim(*devices: str) -> Object:
    results: list[JsonValue] = [{"driver": "gpu.nvidia.com", "pool": "gpu-1", "device": one} for one in devices]
    held: Object = {"allocation": {"devices": {"results": results}}} if devices else {}
    meta: Object = {"name": "vllm-0-gpu-x7k2p", "namespace": "ml"}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "status": held}


def published(count: int) -> Object:
    devices: list[JsonValue] = [{"name": f"gpu-{number}"} for number in range(count)]
    spec: Object = {"driver": "gpu.nvidia.com", "nodeName": "gpu-1", "devices": devices}
    return {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec}


def with_claim(one: Object) -> Object:
    """The same pod with a claim instead of a request."""
    made = deepcopy(one)
    spec, of = cast("Object", made["spec"]), cast("Object", made["status"])
    spec["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}]
    of["resourceClaimStatuses"] = [{"name": "gpu", "resourceClaimName": "vllm-0-gpu-x7k2p"}]
    return made


RUNNING = status("Running", state("running", startedAt=_STARTED))
_LOOPS = state("waiting", "CrashLoopBackOff", "back-off 5m0s restarting failed container")
_CREATING = state("waiting", "ContainerCreating")
_CDI = (
    "failed to generate container spec: CDI device injection failed: unresolvable CDI devices "
    "k8s.device-plugin.nvidia.com/gpu=GPU-5d1c9a3e-0000-4000-8000-000000000001"
)
_NO_GPU = "0/{} nodes are available: {} Insufficient nvidia.com/gpu. preemption: 0/{} nodes are available."
_DENIED = 'Failed to pull image "registry.example/vllm:1": failed to authorize: 401 Unauthorized'
_NO_TAG = (
    'Failed to pull image "registry.example/vllm:1": failed to resolve reference: registry.example/vllm:1: not found'
)


@dataclass(frozen=True)
class PodCase:
    """A cluster with the pod `ml/vllm-0`."""

    objects: tuple[Object, ...]
    forbids: tuple[str, ...] = ()
    logs: dict[str, str] = field(default_factory=dict)

    def cluster(self) -> PodCluster:
        return PodCluster([*self.objects], self.forbids, logs=self.logs)


def _unscheduled(message: str, *nodes: Object, gpus: int = 1, **spec: JsonValue) -> PodCase:
    return PodCase((pod(pending(message), on=None, gpus=gpus, **spec), *nodes, event("FailedScheduling", message)))


# Named after the rule that names it; a part after "--" tells variants apart. Recorded in tests/doctor/hosts.
BROKEN = {
    "pod-requests-no-gpu": PodCase((pod(RUNNING, gpus=0), node())),
    "pod-gpu-offered-nowhere": _unscheduled(_NO_GPU.format(2, 2, 2), node(gpus=0), node("cpu-1", -1)),
    "pod-gpu-offered-nowhere--more-than-a-node-has": _unscheduled(
        _NO_GPU.format(2, 2, 2), node(gpus=4), node("gpu-2", 8), gpus=16
    ),
    "pod-gpu-offered-nowhere--mig": _unscheduled(_NO_GPU.format(1, 1, 1), node(kind="nvidia.com/mig-1g.10gb", gpus=7)),
    "pod-gpu-offered-nowhere--no-gpu-node": _unscheduled(_NO_GPU.format(1, 1, 1), node("cpu-1", -1)),
    "pod-gpus-in-use": _unscheduled(_NO_GPU.format(2, 2, 2), node(), node("gpu-2", 2)),
    "pod-gpus-in-use--some-not-selected": _unscheduled(
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector.",
        node(),
        node("gpu-2", 2),
    ),
    "pod-taint-not-tolerated": _unscheduled(
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, "
        "1 node(s) had untolerated taint {nvidia.com/gpu: present}.",
        node(taints=(TAINT,)),
        node("cpu-1", -1),
    ),
    "pod-node-not-ready": PodCase((pod(RUNNING), node(ready="Unknown"))),
    "pod-node-not-ready--cordoned": _unscheduled(
        "0/1 nodes are available: 1 node(s) were unschedulable.",
        node(taints=({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},), unschedulable=True),
    ),
    "pod-node-selector-fits-none": _unscheduled(
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.", node(), node("gpu-2")
    ),
    "pod-claim-not-allocated": PodCase(
        (
            with_claim(pod(pending("0/1 nodes are available: 1 cannot allocate all claims."), on=None, gpus=0)),
            *(node(gpus=0), claim(), published(1)),
        )
    ),
    "pod-claim-not-allocated--no-driver": PodCase(
        (
            with_claim(pod(pending("0/1 nodes are available: 1 cannot allocate all claims."), on=None, gpus=0)),
            *(node(gpus=0), claim()),
        )
    ),
    "pod-image-not-pulled": PodCase(
        (pod(status("Pending", state("waiting", "ImagePullBackOff", "Back-off"))), node(), event("Failed", _NO_TAG))
    ),
    "pod-image-not-pulled--denied": PodCase(
        (pod(status("Pending", state("waiting", "ErrImagePull", _DENIED))), node()), forbids=("events", "nodes")
    ),
    "pod-cdi-device-unresolved": PodCase(
        (
            pod(status("Pending", state("waiting", "CreateContainerError", _CDI))),
            *(node(), event("Failed", f"Error: {_CDI}")),
        )
    ),
    "k8s-no-runtime-nvidia--pod": PodCase(
        (
            pod(status("Pending", _CREATING), runtimeClassName="nvidia"),
            *(node(), event("FailedCreatePodSandBox", 'no runtime for "nvidia" is configured')),
        )
    ),
    "pod-container-config-missing": PodCase(
        (pod(status("Pending", state("waiting", "CreateContainerConfigError", 'secret "hf-token" not found'))), node())
    ),
    "pod-program-ended": PodCase((pod(status("Running", _LOOPS, state("terminated", "Error", exitCode=1))), node())),
    "pod-program-ended--memory": PodCase(
        (pod(status("Running", _LOOPS, state("terminated", "OOMKilled", exitCode=137))), node())
    ),
}
# The readiness of a server has nothing to do with its GPU.
_PROBE = event("Unhealthy", "Readiness probe failed: connection refused", "2026-11-20T10:05:00Z")
# None of these is a failure.
WELL = {
    "runs": PodCase((pod(RUNNING), node())),
    "runs-though-it-had-trouble": PodCase(
        (
            *(pod(RUNNING), node(), _PROBE),
            event("FailedScheduling", _NO_GPU.format(1, 1, 1), "2026-11-20T09:59:00Z"),
            event("Failed", f"Error: {_CDI}", "2026-11-20T10:00:10Z"),
            event("FailedCreatePodSandBox", 'no runtime for "nvidia" is configured', "2026-11-20T10:00:20Z"),
        )
    ),
    "runs-after-a-restart": PodCase(
        (
            pod(
                status("Running", state("running", startedAt=_STARTED), state("terminated", "OOMKilled", exitCode=137))
            ),
            node(),
        )
    ),
    "runs-on-a-node-that-offers-nothing-now": PodCase((pod(RUNNING), node(gpus=0))),
    "runs-on-a-cordoned-node": PodCase(
        (pod(RUNNING), node(taints=({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},)))
    ),
    "runs-on-a-tainted-node": PodCase((pod(RUNNING, tolerations=[TOLERATION]), node(taints=(TAINT,)))),
    "runs-with-a-claim": PodCase((with_claim(pod(RUNNING, gpus=0)), node(gpus=0), claim("gpu-0"), published(8))),
    "runs-by-runtime-class": PodCase((pod(RUNNING, gpus=0, runtimeClassName="nvidia"), node())),
    "runs-and-nothing-else-may-be-read": PodCase((pod(RUNNING), node()), forbids=("nodes", "events", "resourceslices")),
    "starts": PodCase((pod(status("Pending", _CREATING)), node())),
    "is-new": PodCase((pod({"phase": "Pending"}, on=None), node())),
    "is-done": PodCase((pod(status("Succeeded", state("terminated", "Completed", exitCode=0))), node())),
}
