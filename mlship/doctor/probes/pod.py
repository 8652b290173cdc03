"""One pod and the node that it is on, through kubectl, which only reads, within one time limit."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kubernetes import CheckedPod, GpuNode, Kubernetes
from mlship.doctor.probes import files, kubernetes, moments
from mlship.doctor.probes.kubernetes import Kubectl
from mlship.errors import EngineError, MlshipError, TransientError, UsageError
from mlship.known_texts import first_match

_NAME = re.compile(r"([a-z0-9][a-z0-9.-]*/)?[a-z0-9][a-z0-9.-]*")
_GPU = re.compile(r"(?i)nvidia|gpu|cuda")
_DEVICES = re.compile(r"^/$|/dev|nvidia")
_NEVER_STARTED = {"StartError", "ContainerCannotRun"}
_NO_GPU = {None, "void", "none"}


def look_at_pod(name: str, seconds: float) -> Facts:
    """What the cluster knows about a pod, NAME or NAMESPACE/NAME. What kubectl may not read is unreadable.

    Raises:
        UsageError: there is no such pod.
        EngineError: there is no kubectl or no cluster, or it does not allow to read the pod.
        TransientError: the cluster does not answer in time.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{name}` is not the name of a pod", hint="pass NAME or NAMESPACE/NAME, in lower case")
    kubectl = kubernetes.kubectl_of(files.HERE, seconds)
    if kubectl is None:
        hint = "install it (https://kubernetes.io/docs/tasks/tools/), or run `mlship doctor` on the pod's node"
        raise EngineError("kubectl was not found", hint=hint)
    space, _, short = name.rpartition("/")
    pod = kubectl.get("pod", short, *(("-n", space) if space else ()))
    if isinstance(pod, Unreadable):
        raise _failed(pod.unreadable)
    checked = pod_of(pod)
    node = kubectl.get(*(("node", checked.node) if isinstance(checked.node, str) else ("nodes",)))
    listed = [node] if checked.node else filter(kubernetes.has_gpu, plain.items(node, "items"))
    nodes = node if isinstance(node, Unreadable) else tuple(gpu_node(one, pod) for one in listed)
    checked = replace(_with_claims(kubectl, pod, checked), here=_is_here(checked, node), nodes=nodes)
    return Facts(kubernetes=_around(kubectl, pod, checked, node), pod=checked)


def _failed(said: str) -> MlshipError:
    if known := first_match(said, "kubernetes-pod"):
        return known.as_error()
    error = TransientError if "did not answer" in said else EngineError
    return error(f"kubectl cannot read the pod: {said}", hint="check that `kubectl get pods` works, then try again")


def _is_here(pod: CheckedPod, node: object) -> bool:
    names = {pod.node, plain.text(node, "metadata", "labels", "kubernetes.io/hostname")} - {None}
    here = {os.uname().nodename.lower(), os.environ.get("NODE_NAME")}
    return bool(here & names) and kubernetes.is_this_node(files.HERE, node)


def gpu_node(node: object, pod: object) -> GpuNode:
    """A node, with the taints that this pod does not tolerate."""
    states = kubernetes.conditions(node)
    ready, wanted = plain.text(states.get("Ready"), "status"), {"Ready": "True"}
    odd = {kind: one for kind, one in states.items() if plain.text(one, "status") != wanted.get(str(kind), "False")}
    return GpuNode(
        node=plain.text(node, "metadata", "name"),
        ready=ready == "True" if ready else UNKNOWN,
        conditions=tuple(
            f"{'NotReady' if kind == 'Ready' else kind}: {plain.text(one, 'message') or 'no reason given'}"
            for kind, one in odd.items()
        ),
        taints=tuple(
            f"{plain.text(one, 'key')}={plain.text(one, 'value') or ''}:{plain.text(one, 'effect')}"
            for one in plain.items(node, "spec", "taints")
            if plain.text(one, "effect") != "PreferNoSchedule" and not _tolerates(pod, one)
        ),
        allocatable=kubernetes.resources_of(node, "status", "allocatable"),
    )


def _tolerates(pod: object, taint: object) -> bool:
    return any(
        plain.text(one, "key") in {None, plain.text(taint, "key")}
        and (plain.text(one, "operator") == "Exists" or plain.text(one, "value") == plain.text(taint, "value"))
        and plain.text(one, "effect") in {None, plain.text(taint, "effect")}
        for one in plain.items(pod, "spec", "tolerations")
    )


def pod_of(pod: object) -> CheckedPod:
    """The pod, from `kubectl get pod -o json`, without its claims and nodes."""
    states, status = kubernetes.statuses(pod), plain.at(pod, "status")
    running = {plain.text(one, "name") or "": one for one in states if plain.at(one, "state", "running") is not None}
    placed = kubernetes.conditions(pod).get("PodScheduled")
    waits = plain.text(placed, "message") or plain.text(placed, "reason")
    return CheckedPod(
        name=plain.text(pod, "metadata", "name"),
        namespace=plain.text(pod, "metadata", "namespace"),
        node=plain.text(pod, "spec", "nodeName"),
        phase=plain.text(status, "phase"),
        reason=_in_words(None, status) or None,
        runs=bool(running) and plain.text(status, "phase") == "Running" and all(map(_is_well, states)),
        unscheduled=waits if plain.text(placed, "status") == "False" else None,
        requests=kubernetes.gpu_requests(pod),
        other_ways=tuple(dict.fromkeys(_other_ways(pod))),
        not_started=tuple(filter(None, map(_not_started, states))),
        ended=tuple(filter(None, map(_ended, states))),
        containers={name: (plain.text(one, "containerID") or "").rpartition("/")[2] for name, one in running.items()},
    )


def _is_well(status: object) -> bool:
    ended = plain.at(status, "state", "terminated", "exitCode")
    return ended == 0 or plain.at(status, "state", "running") is not None


def _in_words(name: str | None, state: object, *more: str) -> str:
    """Name, reason and message of a state, in one line."""
    reason = ", ".join(filter(None, (plain.text(state, "reason"), *more)))
    return " ".join(": ".join(filter(None, (name, reason, plain.text(state, "message")))).split())[:500]


def _not_started(status: object) -> str | None:
    name, waiting = plain.text(status, "name"), plain.at(status, "state", "waiting")
    ends = (plain.at(status, "state", "terminated"), plain.at(status, "lastState", "terminated"))
    failed = next((one for one in ends if plain.text(one, "reason") in _NEVER_STARTED), None)
    if failed is not None and plain.at(status, "state", "running") is None:
        return _in_words(name, failed)
    return _in_words(name, waiting) if plain.text(waiting, "reason") not in {None, "CrashLoopBackOff"} else None


def _ended(status: object) -> str | None:
    """How a container ended that failed, or that the kubelet restarts."""
    loops = plain.text(status, "state", "waiting", "reason") == "CrashLoopBackOff"
    state = plain.at(status, "lastState" if loops else "state", "terminated")
    code = plain.number_at(state, "exitCode")
    if state is None or (not code and not loops) or plain.text(state, "reason") in _NEVER_STARTED:
        return None
    return _in_words(plain.text(status, "name"), state, f"exit code {code}")


def _other_ways(pod: object) -> Iterator[str]:
    """What may provide a GPU without a request: a sharing scheduler, the runtime, or the host's devices."""
    if runtime := plain.text(pod, "spec", "runtimeClassName"):
        yield f"runtimeClassName {runtime}"
    yield from (f"annotation {name}" for name in plain.table(pod, "metadata", "annotations") if _GPU.search(name))
    paths = (plain.text(one, "hostPath", "path") or "" for one in plain.items(pod, "spec", "volumes"))
    yield from (f"hostPath {path}" for path in paths if _DEVICES.search(path))
    for one in (*plain.items(pod, "spec", "containers"), *plain.items(pod, "spec", "initContainers")):
        if plain.flag(one, "securityContext", "privileged"):
            yield "privileged"
        others = (kind for kind in plain.table(one, "resources", "limits") if not kind.startswith("nvidia.com/"))
        yield from (f"resource {kind}" for kind in others if _GPU.search(kind))
        env = {plain.text(each, "name"): plain.text(each, "value") for each in plain.items(one, "env")}
        if (value := env.get("NVIDIA_VISIBLE_DEVICES")) not in _NO_GPU:
            yield f"NVIDIA_VISIBLE_DEVICES={value}"


def _with_claims(kubectl: Kubectl, pod: object, checked: CheckedPod) -> CheckedPod:
    asked = list(plain.items(pod, "spec", "resourceClaims"))
    if not asked:
        return replace(checked, claims={}, slices={})
    found = kubectl.get("resourceclaims", "-n", str(checked.namespace))
    slices = kubectl.get("resourceslices")
    by_name = {plain.text(one, "metadata", "name"): one for one in plain.items(found, "items")}
    named = (*asked, *plain.items(pod, "status", "resourceClaimStatuses"))
    claims = {plain.text(one, "name") or "": by_name.get(plain.text(one, "resourceClaimName")) for one in named}
    return replace(
        checked,
        claims=found if isinstance(found, Unreadable) else {name: claim_in_words(one) for name, one in claims.items()},
        slices=slices if isinstance(slices, Unreadable) else slices_of(slices),
    )


def claim_in_words(claim: object) -> str:
    """The devices that are allocated to a ResourceClaim."""
    devices = plain.items(claim, "status", "allocation", "devices", "results")
    named = ["/".join(filter(None, (plain.text(one, key) for key in ("driver", "device")))) for one in devices]
    allocated = plain.at(claim, "status", "allocation") is not None
    return ", ".join(named) or ("allocated" if allocated else "pending" if claim else "missing")


def slices_of(found: object) -> dict[str, int]:
    """The number of devices that each DRA driver publishes."""
    specs = [plain.at(one, "spec") for one in plain.items(found, "items")]
    return dict(Counter(plain.text(one, "driver") or "" for one in specs for _ in plain.items(one, "devices")))


def _around(kubectl: Kubectl, pod: object, checked: CheckedPod, node: object) -> Kubernetes:
    """The node, as far as it matters to this pod: for one that runs, not what the node offers to others."""
    fields = f"involvedObject.name={checked.name},type=Warning"
    found = kubectl.get("events", "-n", str(checked.namespace), "--field-selector", fields)
    events = found if isinstance(found, Unreadable) else tuple(dict.fromkeys(current_events(found, pod)))
    around = Kubernetes(node=checked.node, events=events, pods=tuple(kubernetes.gpu_pods({"items": [pod]})))
    if checked.runs or not checked.node:
        return around
    around = kubernetes.with_pods(kubectl, around if isinstance(node, Unreadable) else kubernetes.node_of(node))
    others = around.pods if isinstance(around.pods, tuple) else ()
    mine = (one for one in others if one.role != "workload" or one.name == checked.name)
    return replace(around, events=events, pods=tuple(mine) if isinstance(around.pods, tuple) else around.pods)


def current_events(found: object, pod: object) -> Iterator[str]:
    """The warnings about this pod since it was scheduled or, if it runs, since its containers started."""
    states, placed = kubernetes.statuses(pod), kubernetes.conditions(pod).get("PodScheduled")
    times = [plain.text(one, "state", "running", "startedAt") for one in states if all(map(_is_well, states))]
    if plain.text(placed, "status") == "True":
        times.append(plain.text(placed, "lastTransitionTime"))
    since, uid = max(filter(None, map(moments.moment_of, times)), default=""), plain.text(pod, "metadata", "uid")
    dated = []
    for one in plain.items(found, "items"):
        stamps = (plain.text(one, *key.split(".")) for key in ("series.lastObservedTime", "lastTimestamp", "eventTime"))
        when = moments.moment_of(next(filter(None, stamps), None)) or "9"
        if when > since and plain.text(one, "involvedObject", "uid") in {uid, None}:
            dated.append((when, _in_words(None, one)))
    yield from (line for _, line in sorted(dated))
