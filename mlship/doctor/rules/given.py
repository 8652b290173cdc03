"""Rules about GPUs that were requested but not provided."""

import re

from mlship.doctor.conditions import Values
from mlship.doctor.container import environment, injection
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import line_of, pods_of
from mlship.doctor.rules.base import computes

_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_UNKNOWN = r"device error: .*unknown device|unknown device: unknown"
_NAMED = re.compile(r"device error: ([^\s:]+): unknown device")


@computes("visible-devices-unknown-gpu")
def _unknown_name(facts: Facts) -> Values | None:
    line = line_of(facts, _UNKNOWN)
    if line is None or "tegra" in line.value:
        return None
    named = _NAMED.search(line.value)
    name = named.group(1) if named else environment(facts).get(_VISIBLE, "")
    here = tuple(uuid for one in each(facts.host.nvml.devices) if (uuid := known(one.uuid)))
    count = known(facts.host.nvml.device_count)
    parts = tuple(mig for one in each(facts.host.nvml.devices) for mig in each(one.mig_devices))
    if name and _is_here(name, (*here, *parts), count):
        return None
    certain = bool(name) and (name.isdigit() or len(here) == count) and count is not None
    return {
        "line": line,
        "name": name or "names",
        "count": count,
        "count_known": count is not None,
        "uuids": (*here, *parts)[:4],
        "certain": certain,
    }


def _is_here(name: str, uuids: tuple[str, ...], count: int | None) -> bool:
    if re.fullmatch(r"[0-9]{1,6}", name):
        return count is not None and int(name) < count
    return any(uuid.startswith(name) for uuid in uuids)


@computes("gpu-node-not-in-container")
def _without_node(facts: Facts) -> Values | None:
    nodes = known(facts.container.device_nodes) or {}
    gpus = sorted(path for path in nodes if re.fullmatch(r"/dev/nvidia[0-9]+", path))
    if not all(is_absent(nodes[path]) for path in gpus):
        return None
    return {"gpus": ", ".join(gpus), "gpus_absent": tuple(gpus[:2]), "how": injection(facts)}


@computes("k8s-resource-not-offered")
def _not_offered(facts: Facts) -> Values | None:
    cluster = known(facts.kubernetes)
    offered = known(cluster.capacity) or known(cluster.allocatable) if cluster else None
    if cluster is None or offered is None:
        return None
    there = {kind: count for kind, count in sorted(offered.items()) if count and kind.startswith("nvidia.com/")}
    plugin = next(iter(pods_of(facts, "device-plugin")), None)
    for pod in each(cluster.pods):
        asks = {kind: n for kind, n in (known(pod.requests) or {}).items() if kind.startswith("nvidia.com/")}
        short = [(kind, n) for kind, n in sorted(asks.items()) if offered.get(kind, 0) < n]
        if known(pod.role) == "workload" and known(pod.phase) == "Pending" and short:
            return {
                "asks": True,
                "pod": known(pod.name) or "POD",
                "wants": short[0][1],
                "name": short[0][0],
                "listed": ", ".join(f"{kind}: {count}" for kind, count in there.items()) or "no GPU",
                "there": there,
                "offered": short[0][0] in there,
                "names": ", ".join(there),
                "plugin": plugin and (known(plugin.name) or "POD"),
                "space": plugin and (known(plugin.namespace) or "kube-system"),
            }
    return None
