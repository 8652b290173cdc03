"""Rules about GPUs that were requested but not provided, some because this host has none to give."""

import re

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import environment, injection
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import line_of, passed_on, pods_of
from mlship.doctor.rules.base import computes

_FAILS = (
    r"could not select device driver|no known GPU vendor|AMD CDI spec not found|unresolvable CDI devices"
    r"|nvidia-container-cli|unknown or invalid runtime name: nvidia|No devices were found"
    r"|couldn't communicate with the NVIDIA driver|no NVIDIA GPU device is present"
)
_VISIBLE = "NVIDIA_VISIBLE_DEVICES"
_UNKNOWN = r"device error: .*unknown device|unknown device: unknown"
_NAMED = re.compile(r"device error: ([^\s:]+): unknown device")


def _asked(facts: Facts) -> Evidence | None:
    """A container that asked for a GPU and did not get one, or an error that says so."""
    config = facts.container.host_config
    devices = [name for name in each(config.cdi_devices) if name.startswith("nvidia.com/")]
    if line := line_of(facts, _FAILS):
        return line
    if known(facts.container.error) and each(config.gpus):
        return Evidence("container.host_config.gpus", ", ".join(each(config.gpus)))
    return Evidence("container.host_config.cdi_devices", ", ".join(devices)) if devices else None


@computes("gpu-requested-without-one")
def _other_devices(facts: Facts) -> Values:
    others = sorted({known(one.name) or "a display adapter" for one in each(facts.kernel.pci)})
    return {"asked": _asked(facts), "others": ", ".join(others), "listed": "; ".join(("no NVIDIA GPU", *others))}


@computes("gpu-passed-to-virtual-machines")
def _bound_elsewhere(facts: Facts) -> Values | None:
    given = passed_on(facts)
    if not given:
        return None
    line = (known(facts.kernel.cmdline) or "").split()
    option = next((word for word in line if word.startswith(("vfio-pci.ids", "xen-pciback"))), None)
    return {
        "asked": _asked(facts),
        "address": known(given[0].address) or "ADDRESS",
        "driver": known(given[0].driver) or "",
        "count": len(given),
        "one": len(given) == 1,
        "option": option,
        "removal": commands.remove_option(facts, option) if option else (),
        "bound": tuple(f"{known(gpu.address)}: bound to {known(gpu.driver)}" for gpu in given),
    }


@computes("slurm-job-without-gpu")
def _denied_on_host(facts: Facts) -> Values:
    nodes = known(facts.host.device_nodes) or {}
    denied = sorted(path for path, one in nodes.items() if (there := known(one)) and known(there.open) == "EPERM")
    return {"denied": ", ".join(denied), "first_denied": tuple(denied[:3])}


@computes("gpus-option-needs-quotes")
def _numbers(facts: Facts) -> Values:
    asked = ",".join(each(facts.container.host_config.gpus)).replace("device=", "")
    return {"numbers": asked if re.fullmatch(r"[\w,-]+", asked) and asked != "all" else "0,1"}


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
