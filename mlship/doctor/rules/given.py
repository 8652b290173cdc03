"""Rules about GPUs that were requested but not provided."""

import re

from mlship.doctor.conditions import Values
from mlship.doctor.container import environment, injection
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import line_of, pods_of
from mlship.doctor.rules.base import Rule, computes

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


class ResourceNotOffered(Rule, id="k8s-resource-not-offered"):
    def look(self, facts: Facts) -> Finding | None:
        node_facts = known(facts.kubernetes)
        offered = known(node_facts.capacity) or known(node_facts.allocatable) if node_facts else None
        if node_facts is None or offered is None or known(facts.host.nvml.init) not in {0, None}:
            return None
        for pod in each(node_facts.pods):
            asks = {k: n for k, n in (known(pod.requests) or {}).items() if k.startswith("nvidia.com/")}
            short = [(k, n) for k, n in sorted(asks.items()) if offered.get(k, 0) < n]
            if known(pod.role) == "workload" and known(pod.phase) == "Pending" and short:
                return self._finding(facts, short[0], offered, known(pod.name) or "POD")
        return None

    def _finding(self, facts: Facts, short: tuple[str, int], offered: dict[str, int], pod: str) -> Finding:
        name, wants = short
        there = {k: n for k, n in offered.items() if n and k.startswith("nvidia.com/")}
        listed = ", ".join(f"{k}: {n}" for k, n in sorted(there.items())) or "no GPU"
        plugin = next(iter(pods_of(facts, "device-plugin")), None)
        return self.found(
            facts,
            {
                "pod": pod,
                "wants": wants,
                "name": name,
                "listed": listed,
                "there": there,
                "offered": name in there,
                "names": ", ".join(sorted(there)),
                "plugin": plugin and (known(plugin.name) or "POD"),
                "space": plugin and (known(plugin.namespace) or "kube-system"),
            },
            evidence=(
                Evidence("kubernetes.pods", f"{pod}: Pending, asks for {name}: {wants}"),
                Evidence("kubernetes.capacity", listed),
            ),
        )
