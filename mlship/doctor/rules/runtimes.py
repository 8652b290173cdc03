"""Rules about containerd and CRI-O: their nvidia handler, and what its hook runs."""

from shlex import quote

from mlship.doctor.conditions import Values
from mlship.doctor.facts.engine import Containerd
from mlship.doctor.facts.fact import is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Step
from mlship.doctor.queries import kernel_driver, pods, pods_of
from mlship.doctor.rules.base import computes

_NVIDIA = "nvidia"


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
        "logs": tuple(
            f"kubectl logs -n {quote(known(pod.namespace) or 'gpu-operator')} {quote(known(pod.name) or 'POD')}"
            for pod in before
        ),
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
