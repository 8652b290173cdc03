"""This host as a Kubernetes node, through kubectl, within a time limit."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mlship import plain
from mlship.doctor.facts.fact import UNKNOWN, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kubernetes import Kubernetes, Pod, Role
from mlship.doctor.probes import files
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.tables import probe_tables

_KUBECTL = (("kubectl",), ("k3s", "kubectl"), ("microk8s", "kubectl"), ("k0s", "kubectl"))
_CONFIGS = ("/etc/rancher/k3s/k3s.yaml", "/etc/rancher/rke2/rke2.yaml", "/etc/kubernetes/admin.conf")
_KUBELET = ("/var/lib/kubelet", "/var/lib/rancher/k3s/agent", "/var/snap/microk8s/current", "/var/lib/k0s/kubelet")
_LABELS = re.compile(r"nvidia\.com/|feature\.node\.kubernetes\.io/pci-(?:\d+_)?10de|kubernetes\.io/arch$")
_RESOURCES = re.compile(r"nvidia\.com/")
_EVENTS, _LOG_LINES = 20, 20


def read_kubernetes(look: Look) -> Facts:
    return Facts(kubernetes=_node(look.root))


def _node(root: Path) -> Kubernetes | Unreadable | None:
    if not _in_pod() and not any(files.below(root, folder).exists() for folder in _KUBELET):
        return None
    kubectl = kubectl_of(root)
    return _asked(root, kubectl) if kubectl else Unreadable("kubectl is not installed")


def _in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


def kubectl_of(root: Path, seconds: float = 2.0) -> "Kubectl | None":
    """The kubectl of this machine, for this many seconds in all; None if there is none."""
    argv = next((argv for argv in _KUBECTL if files.program(root, argv[0])), None)
    if argv is None or not files.live(root):
        return None
    return Kubectl((*argv, *_config(root)), time.monotonic() + seconds, seconds)


def _config(root: Path) -> tuple[str, ...]:
    """Options for kubectl: none if the user or a pod's service account has a configuration, else the node's own."""
    if _in_pod() or "KUBECONFIG" in os.environ or Path("~/.kube/config").expanduser().exists():
        return ()
    found = next((path for path in _CONFIGS if os.access(files.below(root, path), os.R_OK)), None)
    return ("--kubeconfig", found) if found else ()


@dataclass(frozen=True)
class Kubectl:
    """Run kubectl within the remaining time."""

    argv: tuple[str, ...]
    until: float
    seconds: float

    def get(self, *arguments: str) -> object:
        """The object that `kubectl get` prints; Unreadable if it fails."""
        said = self.run("get", *arguments, "-o", "json")
        return said if isinstance(said, Unreadable) else plain.json_of(said) or Unreadable("kubectl printed no JSON")

    def run(self, *arguments: str) -> str | Unreadable:
        left = self.until - time.monotonic()
        argv = [*self.argv, f"--request-timeout={max(1, int(left))}s", *arguments]
        done = files.run_here(files.HERE, argv, left) if left > 0.05 else None
        if done is None:
            return Unreadable(f"the cluster did not answer within {self.seconds:g} s")
        return done.stdout if done.ok else Unreadable(done.stderr.strip().rpartition("\n")[2][:300] or "kubectl failed")


def _asked(root: Path, kubectl: Kubectl) -> Kubernetes | Unreadable:
    name = os.environ.get("NODE_NAME") or os.uname().nodename
    selector = (name.lower(),) if "NODE_NAME" in os.environ else ("-l", f"kubernetes.io/hostname={name.lower()}")
    found = kubectl.get("nodes", *selector)
    if isinstance(found, Unreadable):
        return found
    nodes = [found] if plain.text(found, "kind") == "Node" else list(plain.items(found, "items"))
    node = next((one for one in nodes if is_this_node(root, one)), None)
    if node is None:
        return Unreadable(f"kubectl's cluster has no node {name}")
    return with_pods(kubectl, node_of(node))


def is_this_node(root: Path, node: object) -> bool:
    """Compare boot IDs if readable, because another cluster may have a node of the same name."""
    boot = files.text_at(root, "/proc/sys/kernel/random/boot_id")
    boot_id = plain.text(node, "status", "nodeInfo", "bootID")
    return not boot_id or not isinstance(boot, str) or boot_id == boot.strip()


def node_of(node: object) -> Kubernetes:
    """A node, from `kubectl get node -o json`."""
    labels = {key: value for key, value in plain.table(node, "metadata", "labels").items() if _LABELS.match(key)}
    info = plain.at(node, "status", "nodeInfo")
    return Kubernetes(
        node=plain.text(node, "metadata", "name"),
        labels={key: str(value) for key, value in sorted(labels.items())},
        allocatable=resources_of(node, "status", "allocatable"),
        capacity=resources_of(node, "status", "capacity"),
        container_runtime=plain.text(info, "containerRuntimeVersion"),
        kubelet_version=plain.text(info, "kubeletVersion"),
    )


def has_gpu(node: object) -> bool:
    """The node offers GPUs, or a label says that it has one."""
    found = node_of(node)
    return bool(found.capacity) or any("arch" not in label for label in known(found.labels) or ())


def resources_of(tree: object, *keys: str) -> dict[str, int]:
    found = plain.table(tree, *keys).items()
    return {key: int(str(count)) for key, count in sorted(found) if _RESOURCES.match(key) and str(count).isdigit()}


def with_pods(kubectl: Kubectl, node: Kubernetes) -> Kubernetes:
    """The remaining facts, as far as time and permissions allow."""
    classes = kubectl.get("runtimeclasses")
    pods = kubectl.get("pods", "-A", "--field-selector", f"spec.nodeName={node.node}")
    events = kubectl.get("events", "-A", "--field-selector", "type=Warning")
    found = pods if isinstance(pods, Unreadable) else tuple(_with_log(kubectl, pod) for pod in gpu_pods(pods))
    return replace(
        node,
        runtime_classes=classes if isinstance(classes, Unreadable) else classes_of(classes),
        pods=found,
        events=events if isinstance(events, Unreadable) else tuple(events_of(events, node, found)),
        operator_version=pods if isinstance(pods, Unreadable) else operator_of(pods) or UNKNOWN,
    )


def classes_of(found: object) -> dict[str, str]:
    """RuntimeClasses: name to handler."""
    classes = plain.items(found, "items")
    return {plain.text(one, "metadata", "name") or "": plain.text(one, "handler") or "" for one in classes}


def gpu_pods(found: object) -> Iterator[Pod]:
    """NVIDIA's pods, and pods that request or claim GPUs."""
    for pod in plain.items(found, "items"):
        name = plain.text(pod, "metadata", "name") or ""
        requests = gpu_requests(pod)
        role = next((role for role, pattern in probe_tables().pods.items() if re.search(pattern, name)), None)
        if role is not None or requests or _claims_gpu(pod):
            yield _pod(pod, name, role or "workload", requests)


def _claims_gpu(pod: object) -> bool:
    """The pod has a resource claim (DRA) that is for a GPU by its name; a claim may be for any kind of device."""
    claims = plain.items(pod, "spec", "resourceClaims")
    keys = ("name", "resourceClaimName", "resourceClaimTemplateName")
    return any(re.search(r"(?i)gpu|nvidia|imex|mig", plain.text(one, key) or "") for one in claims for key in keys)


def _pod(pod: object, name: str, role: Role, requests: dict[str, int]) -> Pod:
    reasons = (plain.text(one, "state", "waiting", "reason") for one in statuses(pod))
    images = (plain.text(one, "image") for one in plain.items(pod, "spec", "containers"))
    return Pod(
        name=name,
        namespace=plain.text(pod, "metadata", "namespace"),
        role=role,
        phase=plain.text(pod, "status", "phase"),
        ready=plain.text(conditions(pod).get("Ready"), "status") == "True",
        reason=next(filter(None, reasons), None),
        runtime_class=plain.text(pod, "spec", "runtimeClassName"),
        image=next(filter(None, images), None),
        requests=requests,
    )


def statuses(pod: object) -> tuple[object, ...]:
    """The status of each container of a pod; init containers come first."""
    names = ("initContainerStatuses", "containerStatuses")
    return tuple(one for name in names for one in plain.items(pod, "status", name))


def conditions(one: object) -> dict[str | None, object]:
    """The conditions of a pod or a node, by type."""
    return {plain.text(each, "type"): each for each in plain.items(one, "status", "conditions")}


def gpu_requests(pod: object) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in plain.items(pod, "spec", "containers"):
        for name, count in resources_of(container, "resources", "limits").items():
            total[name] = total.get(name, 0) + count
    first = (resources_of(one, "resources", "limits") for one in plain.items(pod, "spec", "initContainers"))
    alone = [item for one in (*first, resources_of(pod, "spec", "resources", "limits")) for item in one.items()]
    return {name: max(total.get(name, 0), count) for name, count in (*total.items(), *alone) if count}


def _with_log(kubectl: Kubectl, pod: Pod) -> Pod:
    """The last log lines of an NVIDIA pod that is not ready."""
    if pod.role == "workload" or pod.ready is True or pod.phase == "Succeeded":
        return pod
    said = kubectl.run("logs", "-n", str(pod.namespace), str(pod.name), "--all-containers", f"--tail={_LOG_LINES}")
    return replace(pod, log=tuple(said.splitlines()) if isinstance(said, str) else UNKNOWN)


def events_of(found: object, node: Kubernetes, pods: tuple[Pod, ...] | Unreadable) -> Iterator[str]:
    """The last messages about this node and its pods."""
    names = {node.node, *(pod.name for pod in (pods if isinstance(pods, tuple) else ()))}
    events = [one for one in plain.items(found, "items") if plain.text(one, "involvedObject", "name") in names]
    messages = (plain.text(one, "message") for one in events[-_EVENTS:])
    yield from dict.fromkeys(" ".join(message.split()) for message in messages if message)


def operator_of(found: object) -> str | None:
    """The GPU Operator's version, from a label on its objects."""
    for pod in plain.items(found, "items"):
        labels = plain.table(pod, "metadata", "labels")
        is_managed = labels.get("app.kubernetes.io/managed-by") == "gpu-operator"
        if is_managed or "nvidia-operator" in str(labels.get("app", "")):
            return str(labels.get("helm.sh/chart", "")).removeprefix("gpu-operator-") or None
    return None
