"""Rules about what a container asks for, and how its engine starts it: GPUs, capabilities, runtime, shared memory."""

import re
from collections.abc import Iterator

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import environment, gpus_need_no_hook
from mlship.doctor.facts.fact import each, is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.queries import (
    cluster,
    host_architecture,
    line_of,
    node,
    nvidia_resources,
    passed_on,
    places,
    pods,
    pods_of,
    toolkit_config,
)
from mlship.doctor.rules.base import computes

_UNKNOWN = r"device error: .*unknown device|unknown device: unknown"
_NAMED = re.compile(r"device error: ([^\s:]+): unknown device")
_HOOKS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")
_SHM_DEFAULT = 64 * 1024**2
_TEGRA_NODES = ("/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl", "/dev/nvidia0")
_SUPPORTED = frozenset({"compute", "compat32", "graphics", "utility", "video", "display", "ngx"})
_CAPABILITIES = "NVIDIA_DRIVER_CAPABILITIES"
_CUDA_VISIBLE = "CUDA_VISIBLE_DEVICES"


@computes("gpu-requested-without-one")
def _other_devices(facts: Facts) -> Values:
    others = sorted({known(one.name) or "a display adapter" for one in each(facts.kernel.pci)})
    return {"others": ", ".join(others), "listed": "; ".join(("no NVIDIA GPU", *others))}


@computes("gpu-passed-to-virtual-machines")
def _bound_elsewhere(facts: Facts) -> Values | None:
    given = passed_on(facts)
    if not given:
        return None
    line = (known(facts.kernel.cmdline) or "").split()
    option = next((word for word in line if word.startswith(("vfio-pci.ids", "xen-pciback"))), None)
    return {
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
    name = named.group(1) if named else environment(facts).get("NVIDIA_VISIBLE_DEVICES", "")
    here = tuple(uuid for one in each(facts.host.nvml.devices) if (uuid := known(one.uuid)))
    count = known(facts.host.nvml.device_count)
    parts = tuple(mig for one in each(facts.host.nvml.devices) for mig in each(one.mig_devices))
    if name and _names_a_device(facts.host, name):
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


@computes("gpu-node-not-in-container")
def _without_node(facts: Facts) -> Values | None:
    nodes = known(facts.container.device_nodes) or {}
    gpus = sorted(path for path in nodes if re.fullmatch(r"/dev/nvidia[0-9]+", path))
    if not all(is_absent(nodes[path]) for path in gpus):
        return None
    return {"gpus": ", ".join(gpus), "gpus_absent": tuple(gpus[:2])}


@computes("k8s-resource-not-offered")
def _not_offered(facts: Facts) -> Values | None:
    offered = known(cluster(facts).capacity) or known(cluster(facts).allocatable)
    if offered is None:
        return None
    there = {kind: count for kind, count in nvidia_resources(offered).items() if count}
    plugin = next(iter(pods_of(facts, "device-plugin")), None)
    for pod in pods(facts):
        short = [(kind, n) for kind, n in nvidia_resources(pod.requests).items() if offered.get(kind, 0) < n]
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


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@computes("driver-capabilities-without-compute")
@computes("driver-capabilities-without-utility")
def _named(facts: Facts) -> Values:
    value = environment(facts).get(_CAPABILITIES, "")
    has = _tokens(value)
    return {"value": value, "quoted": repr(value), "has": has, "names": ",".join(has)}


@computes("unsupported-capability-in-env")
def _unsupported(facts: Facts) -> Values | None:
    line, value = line_of(facts, "unsupported capabilities found"), environment(facts).get(_CAPABILITIES, "")
    has, allowed = _tokens(value), _allowed(facts)
    wrong = [name for name in has if name not in {*allowed, "all"}]
    mixed = line is not None and "all" in has and len(has) > 1
    if (not wrong or "all" in has) and not mixed:
        return None
    return {
        "line": line,
        "bare": value,
        "value": repr(value),
        "named": ", ".join(wrong) or "all together with other names",
        "allowed": ", ".join(sorted(allowed)),
        "kept": "all" if "all" in has else ",".join(name for name in has if name in allowed) or "compute,utility",
        "supported": set(wrong) & _SUPPORTED,
    }


def _allowed(facts: Facts) -> frozenset[str]:
    named = known(toolkit_config(facts).supported_driver_capabilities)
    return frozenset(_tokens(named)) if named and "all" not in _tokens(named) else _SUPPORTED


@computes("cuda-visible-devices-empty-or-invalid")
def _hidden_by_variable(facts: Facts) -> Iterator[Values]:
    for where, place in places(facts):
        value = (known(place.env) or {}).get(_CUDA_VISIBLE)
        if value is not None and (bad := _bad_entry(place, value)) is not None:
            yield {"where": where, "value": repr(value), "entry": repr(bad) if bad else "an empty entry"}


def _bad_entry(place: Place, value: str) -> str | None:
    """The entry that names no device; None if all name one, if CUDA accepted all, or if that is unknown."""
    code, count = known(place.cuda.init), known(place.cuda.device_count)
    if known(place.nvml.device_count) == 0 or (code and code not in {100, 101}) or (code is None and count is None):
        return None
    tokens = [part.strip() for part in value.split(",")]
    for position, token in enumerate(tokens):
        named = _names_a_device(place, token)
        if named is None and not (code and known(place.cuda.init_without_visible_devices) == 0):
            return None
        if not named:
            hidden = code if position == 0 else (code == 0 and count == position and len(tokens) > position + 1)
            return token if hidden else None
    return None


def _names_a_device(place: Place, token: str) -> bool | None:
    """A number or a UUID, or its beginning, of what NVML lists here; None if that is unknown."""
    count, devices = known(place.nvml.device_count), each(place.nvml.devices)
    if re.fullmatch(r"[0-9]{1,6}", token):
        return None if count is None else int(token) < count
    names = [name for device in devices if (name := known(device.uuid))]
    parts = [mig for device in devices for mig in each(device.mig_devices)]
    if token and any(name.startswith(token) for name in (*names, *parts)):
        return True
    incomplete = not parts if token.startswith("MIG-") else count is None or len(names) < count
    return None if token.startswith(("GPU-", "MIG-")) and incomplete else False


@computes("docker-no-nvidia-driver-registered")
def _no_hook(facts: Facts) -> Values:
    return {"lacking": _lacks(facts)}


def _lacks(facts: Facts) -> tuple[str, ...]:
    """The hooks, if dockerd has none of them; empty if it has one, or if that is unknown."""
    hooks = known(facts.host.docker.daemon_hooks)
    if hooks is None:
        return _HOOKS[:1] if is_absent(facts.host.toolkit.version) else ()
    use = _HOOKS if gpus_need_no_hook(facts) is not False else _HOOKS[:1]
    absent = tuple(name for name in use if name in hooks and hooks[name] is None)
    return absent if absent and not any(known(hooks.get(name)) for name in use) else ()


@computes("jetson-gpus-flag-without-runtime")
def _jetson_nodes(facts: Facts) -> Values:
    nodes = {path: node(facts.container, path) for path in _TEGRA_NODES}
    absent = tuple(path for path, one in nodes.items() if is_absent(one))
    return {"absent": absent[:2], "no_node": bool(absent) and not any(map(known, nodes.values()))}


@computes("wrong-arch-image")
def _other_architecture(facts: Facts) -> Values | None:
    platform = (known(facts.container.platform) or "").split("/")
    image, host = known(facts.image.architecture) or "".join(platform[1:2]), host_architecture(facts)
    if not image or host is None or image == host:
        return None
    reference = known(facts.image.reference) or ""
    return {
        "for_jetson": host != "arm64" and any(word in reference for word in ("l4t", "jetson", "jetpack")),
        "built_for": image,
        "host": host,
        "machine": known(facts.host.os.arch),
        "qemu": ", ".join(name for name in each(facts.host.binfmt) if name.startswith("qemu-")),
    }


@computes("shm-exhausted")
def _shm_size(facts: Facts) -> Values:
    size = known(facts.container.shm)
    size = known(facts.container.host_config.shm_size) if size is None else size
    has = f"{size // 1024**2} MiB" if size is not None else "of unknown size"
    larger, small = "8g" if not size or size < 4 * 1024**3 else "32g", size is not None and size <= _SHM_DEFAULT
    return {"has": has, "measured": size is not None, "larger": larger, "certain": small}
