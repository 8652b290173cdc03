"""Rules about a Kubernetes node and its pods: the runtime's handler, the device plugin, the scheduler."""

import re
from shlex import quote

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Containerd
from mlship.doctor.facts.kubernetes import GpuNode, Pod
from mlship.doctor.finding import Evidence, Step
from mlship.doctor.frameworks import error_line
from mlship.doctor.queries import cuda_codes, driver_is_contained, kernel_driver, pods, pods_of
from mlship.doctor.rules.base import computes

_NVIDIA = "nvidia"
_OUT_OF_MEMORY = r"(?i)CUDA.{0,40}out of memory|OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY"
# Xids that programs cause themselves: the device plugin does not count them against the GPU.
_OF_PROGRAMS = frozenset({"13", "31", "43", "45", "68", "109"})


@computes("k8s-device-plugin-incompatible-strategy")
def _without_runtime(facts: Facts) -> Values:
    plugins, engine, node = pods_of(facts, "device-plugin"), node_engine(facts), known(facts.kubernetes)
    pod = next((pod for pod in plugins if known(pod.runtime_class) != _NVIDIA), None)
    offered, classes = (known(node.allocatable), known(node.runtime_classes)) if node else (None, None)
    offers = any(n for name, n in (offered or {}).items() if name.startswith("nvidia.com/"))
    loaded, handlers = kernel_driver(facts), known(engine.runtimes) if engine else None
    add, by_default = configure(facts), configure(facts, default=True)
    return {
        "bare": (known(pod.name) or "POD") if pod and is_absent(pod.runtime_class) else None,
        "has_runtime": bool(plugins) and pod is None,
        "default": known(engine.default_runtime_name) if engine else None,
        "engine_name": engine_name(facts),
        "offers": offers,
        "offers_none": offered is not None and not offers,
        "usable": loaded and (driver_is_contained(facts) or not known(facts.host.nvml.init)),
        "loaded": loaded or "loaded",
        "lacks_handler": handlers is not None and _NVIDIA not in handlers,
        "lacks_class": classes is not None and _NVIDIA not in classes,
        "say": add.say,
        "commands": add.commands,
        "by_default": by_default.commands,
    }


@computes("k8s-xid-marks-gpu-unhealthy")
def _taken_out(facts: Facts) -> Values:
    fewer, plugin = _fewer(facts), next(iter(pods_of(facts, "device-plugin")), None)
    by_kubelet = bool(fewer) and fewer[0].fact.endswith("capacity")
    delete = f"kubectl delete pod {_pod_name(plugin) if plugin else '-n NAMESPACE DEVICE-PLUGIN-POD'}"
    return {
        "fewer": fewer,
        "by_kubelet": by_kubelet,
        "critical": _critical(facts),
        "delete": delete,
        "has_plugin": bool(plugin),
    }


def _critical(facts: Facts) -> str | None:
    lines = [
        line
        for line in each(facts.kernel.log)
        if (found := re.search(r"Xid.*?\): (\d+)", line)) and found.group(1) not in _OF_PROGRAMS
    ]
    return lines[-1] if lines else None


def _fewer(facts: Facts) -> tuple[Evidence, ...]:
    """The node offers fewer GPUs than it has; NVML's count shows that only if no GPU is partitioned."""
    node = known(facts.kubernetes)
    offered, has = (known(node.allocatable), known(node.capacity)) if node else (None, None)
    if node is None or offered is None:
        return ()
    for name, number in sorted((has or {}).items()):
        if name.startswith("nvidia.com/") and offered.get(name, 0) < number:
            return (Evidence("kubernetes.capacity", f"{name}: {number}, allocatable {offered.get(name, 0)}"),)
    count, plain = known(facts.host.nvml.device_count), offered.get("nvidia.com/gpu")
    whole = all(known(device.mig_current) != 1 for device in each(facts.host.nvml.devices))
    if count is None or plain is None or plain >= count or not whole:
        return ()
    return (Evidence("kubernetes.allocatable", f"nvidia.com/gpu: {plain}, NVML counts {count}"),)


@computes("k8s-no-healthy-devices")
def _rejected(facts: Facts) -> Values:
    cluster, plugin = known(facts.kubernetes), next(iter(pods_of(facts, "device-plugin")), None)
    pods = [pod for pod in (each(cluster.pods) if cluster else ()) if known(pod.phase) == "Failed"]
    failed = next((pod for pod in pods if "nvidia.com/" in " ".join(known(pod.requests) or {})), None)
    return {
        "failed_pod": failed is not None,
        "pod": _pod_name(failed) if failed else "-n NAMESPACE POD",
        "node": (known(cluster.node) if cluster else None) or "NODE",
        "logs": f"kubectl logs {_pod_name(plugin)} --tail=50" if plugin else "",
    }


def _pod_name(pod: Pod) -> str:
    return f"-n {quote(known(pod.namespace) or 'NAMESPACE')} {quote(known(pod.name) or 'POD')}"


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
    return {"shared": _shared(facts), "ran_out": _ran_out(facts), "held": _holder(facts)}


def _shared(facts: Facts) -> tuple[Evidence, ...]:
    node = known(facts.kubernetes)
    labels = (known(node.labels) if node else None) or {}
    strategy, product = labels.get("nvidia.com/gpu.sharing-strategy"), labels.get("nvidia.com/gpu.product", "")
    replicas = labels.get("nvidia.com/gpu.replicas", "1")
    several = product.endswith("-SHARED") or (replicas.isdecimal() and int(replicas) > 1)
    names = ("nvidia.com/gpu.product", "nvidia.com/gpu.replicas", "nvidia.com/gpu.sharing-strategy")
    if strategy != "time-slicing" and not (strategy is None and several):
        return ()
    return tuple(Evidence("kubernetes.labels", f"{name}={labels[name]}") for name in names if name in labels)


def _ran_out(facts: Facts) -> Evidence | None:
    measured = next((fact for fact, code in cuda_codes(facts) if code == 2), None)
    return Evidence(measured, "2 (out of memory)") if measured else error_line(facts, _OUT_OF_MEMORY)


def _holder(facts: Facts) -> Evidence | None:
    """The memory is used, but by no process of the container in question."""
    for device in each(facts.container.nvml.devices):
        used, total = known(device.memory_used), known(device.memory_total)
        if used and total and used > total // 4 and known(device.compute_processes) == 0:
            percent = used * 100 // total
            return Evidence("container.nvml.devices", f"{percent} % of the memory is used, by no process here")
    return None


def node_engine(facts: Facts) -> Containerd | None:
    containerd = known(facts.host.containerd)
    if containerd is not None:
        return containerd
    return known(facts.host.crio)


def engine_name(facts: Facts) -> str:
    crio = known(facts.host.crio)
    return "crio" if crio is not None and known(facts.host.containerd) is None else "containerd"


def configure(facts: Facts, *, default: bool = False) -> Step:
    """How to add the handler to the runtime's configuration on this distribution."""
    engine = node_engine(facts)
    distribution = (known(engine.distribution) if engine else None) or ""
    if distribution in {"k3s", "rke2"}:
        service = "k3s" if distribution == "k3s" else "rke2-server"
        config = f"echo 'default-runtime: nvidia' | sudo tee -a /etc/rancher/{distribution}/config.yaml"
        return Step(
            f"Restart {distribution}, which finds nvidia-container-runtime when it starts:",
            (*((config,) if default else ()), f"sudo systemctl restart {service}"),
        )
    if distribution == "microk8s":
        return Step("Enable its GPU add-on:", ("sudo microk8s enable nvidia",))
    name = engine_name(facts)
    option = " --set-as-default" if default else ""
    return Step(
        "On the node, add the runtime handler and restart:",
        (f"sudo nvidia-ctk runtime configure --runtime={name}{option}", f"sudo systemctl restart {name}"),
    )


@computes("k8s-no-runtime-nvidia")
def _no_handler(facts: Facts) -> Values:
    engine, node, add = node_engine(facts), known(facts.kubernetes), configure(facts)
    handlers = known(engine.runtimes) if engine else None
    name = (known(node.runtime_classes) or {}).get(_NVIDIA) if node else None
    has = None if handlers is None else (name or _NVIDIA) in handlers
    pod = next((pod for pod in pods(facts) if known(pod.runtime_class) == _NVIDIA), None)
    before = [pod for role in ("driver", "toolkit") for pod in pods_of(facts, role) if known(pod.ready) is False]
    return {
        "runtime": engine_name(facts),
        "why": f" because {known(before[0].name)} is not ready" if before else "" if has is False else " in use",
        "logs": tuple(f"kubectl logs {_pod_name(pod)}" for pod in before),
        "driver": kernel_driver(facts),
        "configured": has,
        "lacks": has is False,
        "handlers": ", ".join(sorted(handlers or {})) or "none",
        "asks": (known(pod.name) or "POD") if pod else None,
        "ready": pod and known(pod.ready),
        "waits": tuple(Evidence("kubernetes.pods", f"{known(pod.name)}: not ready") for pod in before),
        "operator": node and known(node.operator_version),
        "say": add.say,
        "commands": add.commands,
    }


@computes("containerd-runtime-name-must-be-set")
def _untyped(facts: Facts) -> Values:
    containerd = known(facts.host.containerd)
    handlers = (known(containerd.runtimes) if containerd else None) or {}
    ours = (name for name, one in handlers.items() if _NVIDIA in (known(one.binary) or name))
    broken = tuple(sorted(name for name in ours if is_absent(handlers[name].runtime_type)))
    source = next((known(handlers[name].source) for name in broken), None)
    return {
        "broken": broken,
        "typed": bool(handlers) and all(known(one.runtime_type) for one in handlers.values()),
        "source": source or "/etc/containerd/conf.d/99-nvidia.toml",
        "handler": broken[0] if broken else _NVIDIA,
    }
