"""Rules about a Kubernetes node and its pods: the runtime's handler, the device plugin, the scheduler."""

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Containerd
from mlship.doctor.facts.kubernetes import GpuNode
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import cluster, device_plugin, nvidia_resources, pod_name, pods, pods_of
from mlship.doctor.rules.base import computes

_NVIDIA = "nvidia"


@computes("k8s-device-plugin-incompatible-strategy")
def _without_runtime(facts: Facts) -> Values:
    plugins, (name, engine), node = pods_of(facts, "device-plugin"), _engine(facts), cluster(facts)
    pod = next((pod for pod in plugins if known(pod.runtime_class) != _NVIDIA), None)
    offered, classes = known(node.allocatable), known(node.runtime_classes)
    offers = any(nvidia_resources(offered).values())
    handlers = known(engine.runtimes)
    return {
        "bare": (known(pod.name) or "POD") if pod and is_absent(pod.runtime_class) else None,
        "has_runtime": bool(plugins) and pod is None,
        "engine_name": name,
        "offers": offers,
        "offers_none": offered is not None and not offers,
        "lacks_handler": handlers is not None and _NVIDIA not in handlers,
        "lacks_class": classes is not None and _NVIDIA not in classes,
    }


@computes("k8s-xid-marks-gpu-unhealthy")
def _taken_out(facts: Facts) -> Values:
    fewer, plugin = _fewer(facts), next(iter(pods_of(facts, "device-plugin")), None)
    by_kubelet = bool(fewer) and fewer[0].fact.endswith("capacity")
    return {
        "fewer": fewer,
        "by_kubelet": by_kubelet,
        "delete": f"kubectl delete pod {device_plugin(facts)}",
        "has_plugin": bool(plugin),
    }


def _fewer(facts: Facts) -> tuple[Evidence, ...]:
    """The node offers fewer GPUs than it has; NVML's count shows that only if no GPU is partitioned."""
    node = cluster(facts)
    offered = known(node.allocatable)
    if offered is None:
        return ()
    for name, number in nvidia_resources(node.capacity).items():
        if offered.get(name, 0) < number:
            return (Evidence("kubernetes.capacity", f"{name}: {number}, allocatable {offered.get(name, 0)}"),)
    count, plain = known(facts.host.nvml.device_count), offered.get("nvidia.com/gpu")
    whole = all(known(device.mig_current) != 1 for device in each(facts.host.nvml.devices))
    if count is None or plain is None or plain >= count or not whole:
        return ()
    return (Evidence("kubernetes.allocatable", f"nvidia.com/gpu: {plain}, NVML counts {count}"),)


@computes("k8s-no-healthy-devices")
def _rejected(facts: Facts) -> Values:
    plugin = next(iter(pods_of(facts, "device-plugin")), None)
    rejected = (pod for pod in pods(facts) if known(pod.phase) == "Failed")
    failed = next((pod for pod in rejected if nvidia_resources(pod.requests)), None)
    return {
        "failed_pod": failed is not None,
        "pod": pod_name(failed) if failed else "-n NAMESPACE POD",
        "logs": f"kubectl logs {pod_name(plugin)} --tail=50" if plugin else "",
    }


@computes("pod-gpu-offered-nowhere")
@computes("pod-gpus-in-use")
@computes("pod-taint-not-tolerated")
@computes("pod-node-not-ready")
@computes("pod-node-selector-fits-none")
def _scheduling(facts: Facts) -> Values | None:
    """The nodes that have as many GPUs as the pod asks for, and what keeps it from all of them."""
    pod = known(facts.pod)
    if pod is None or not isinstance(pod.nodes, tuple):
        return None
    asks, has = known(pod.requests) or {}, [(node, known(node.allocatable) or {}) for node in pod.nodes]
    placed = known(pod.node) is not None
    fitting = [node for node, offers in has if placed or all(offers.get(kind, 0) >= n for kind, n in asks.items())]
    taints = [{one for one in each(node.taints) if not one.startswith("node.kubernetes.io/")} for node in fitting]
    name = next(iter(sorted(asks)), "")
    return {
        "asks": _listed(asks) if asks else "",
        "gpu": name,
        "offered": tuple(sorted({kind for _, offers in has for kind, count in offers.items() if count})),
        "most": max((offers.get(name, 0) for _, offers in has), default=0),
        "fits": bool(fitting),
        "nodes": tuple(f"{known(node.node)}: {_listed(offers)}" for node, offers in has),
        "taints": tuple(sorted(set().union(*taints))) if all(taints) else (),
        "keys": tuple(sorted({one.partition("=")[0] for one in set().union(*taints)})),
        "closed": tuple(f"{known(node.node)}: {why}" for node in fitting if (why := _closed(node, placed=placed))),
        "all_closed": all(_closed(node, placed=placed) for node in fitting),
    }


def _listed(resources: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(resources.items()) if count) or "no GPU"


def _closed(node: GpuNode, *, placed: bool) -> str:
    """Why a node takes no pods; a cordoned one keeps those that it has."""
    if known(node.ready) is False:
        return ", ".join(each(node.conditions)).rstrip(".") or "not ready"
    cordoned = any(one.startswith("node.kubernetes.io/unschedulable") for one in each(node.taints))
    return "cordoned" if cordoned and not placed else ""


@computes("time-slicing-no-memory-isolation")
def _sliced(facts: Facts) -> Values:
    return {"held": _holder(facts)}


def _holder(facts: Facts) -> Evidence | None:
    """The memory is used, but by no process of the container in question."""
    for device in each(facts.container.nvml.devices):
        used, total = known(device.memory_used), known(device.memory_total)
        if used and total and used > total // 4 and known(device.compute_processes) == 0:
            percent = used * 100 // total
            return Evidence("container.nvml.devices", f"{percent} % of the memory is used, by no process here")
    return None


def _engine(facts: Facts) -> tuple[str, Containerd]:
    """The runtime of the node, with its configuration."""
    containerd, crio = known(facts.host.containerd), known(facts.host.crio)
    return ("containerd", containerd or Containerd()) if containerd or crio is None else ("crio", crio)


@computes("k8s-no-runtime-nvidia")
def _no_handler(facts: Facts) -> Values:
    (name, engine), node = _engine(facts), cluster(facts)
    handlers, classes = known(engine.runtimes), known(node.runtime_classes) or {}
    has = None if handlers is None else classes.get(_NVIDIA, _NVIDIA) in handlers
    pod = next((pod for pod in pods(facts) if known(pod.runtime_class) == _NVIDIA), None)
    before = [pod for role in ("driver", "toolkit") for pod in pods_of(facts, role) if known(pod.ready) is False]
    return {
        "runtime": name,
        "why": f" because {known(before[0].name)} is not ready" if before else "" if has is False else " in use",
        "logs": tuple(f"kubectl logs {pod_name(pod)}" for pod in before),
        "configured": has,
        "lacks": has is False,
        "handlers": ", ".join(sorted(handlers or {})) or "none",
        "asks": (known(pod.name) or "POD") if pod else None,
        "ready": pod and known(pod.ready),
        "waits": tuple(Evidence("kubernetes.pods", f"{known(pod.name)}: not ready") for pod in before),
    }


@computes("containerd-runtime-name-must-be-set")
def _untyped(facts: Facts) -> Values:
    handlers = known((known(facts.host.containerd) or Containerd()).runtimes) or {}
    ours = (name for name, one in handlers.items() if _NVIDIA in (known(one.binary) or name))
    broken = tuple(sorted(name for name in ours if is_absent(handlers[name].runtime_type)))
    source = next((known(handlers[name].source) for name in broken), None)
    return {
        "broken": broken,
        "typed": bool(handlers) and all(known(one.runtime_type) for one in handlers.values()),
        "source": source or "/etc/containerd/conf.d/99-nvidia.toml",
        "handler": broken[0] if broken else _NVIDIA,
    }
