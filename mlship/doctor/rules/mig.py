"""Rules about MIG."""

from collections.abc import Iterator
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_known, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import places, reported_line, variable
from mlship.doctor.rules.base import computes

_NOT_FOUND = 6
_ONE_SEEN = (
    r"device_count\(\).*\b(one|1)\b|device >= 0 && device < num_gpus|[Ii]nvalid device ordinal|"
    r"\bonly (shows |sees |see |finds )?(one|1) (gpu|GPU|device)"
)
_FIRST_BROKEN, _LAST_BROKEN = (570, 124, 6), (570, 158, 1)


def _is_on(device: NvmlDevice) -> bool:
    return known(device.mig_current) == 1


def _is_empty(device: NvmlDevice) -> bool:
    """MIG is on, but NVML shows no instance here."""
    codes_of = known(device.codes) or {}
    return _is_on(device) and (
        device.mig_devices == ()
        or (not known(device.mig_devices) and codes_of.get("nvmlDeviceGetMigDeviceHandleByIndex") == _NOT_FOUND)
    )


def _nothing_usable(place: Place) -> bool:
    """Every GPU here is in MIG mode without an instance, and CUDA does not show otherwise."""
    devices = each(place.nvml.devices)
    works = known(place.cuda.init) == 0 and (known(place.cuda.device_count) or 0) > 0
    return bool(devices) and all(_is_empty(device) for device in devices) and not works


def _on_host(facts: Facts) -> list[str]:
    """The host's MIG instances on the GPUs that the container sees."""
    inside = {uuid for device in each(facts.container.nvml.devices) if (uuid := known(device.uuid))}
    return [
        instance
        for device in each(facts.host.nvml.devices)
        if not inside or known(device.uuid) in {*inside, None}
        for instance in each(device.mig_devices)
    ]


def _is_lxc(facts: Facts) -> bool:
    return known(facts.container.lxc) is not None or known(facts.container.engine) == "lxc"


def _empty(where: Where, place: Place) -> Values:
    """The GPUs without instances, for the texts."""
    devices = tuple(f"GPU {known(one.index)}" for one in each(place.nvml.devices) if _is_empty(one))
    return {"where": where, "empty": devices}


@computes("mig-enabled-no-instances")
def _no_instances(facts: Facts) -> Iterator[Values]:
    for where, place in places(facts):
        if _nothing_usable(place):
            first = known(each(place.nvml.devices)[0].index)
            sure = where == "host" or is_known(facts.host.nvml.devices)
            yield {**_empty(where, place), "first": first, "certain": sure, "sure": sure}


def _lacks_instances_in_lxc(facts: Facts) -> bool:
    """An LXC container with a GPU in MIG mode but no instance."""
    if not _is_lxc(facts):
        return False
    if each(facts.container.nvml.devices):
        return _nothing_usable(facts.container)
    lxc = known(facts.container.lxc)
    whole = lxc is not None and known(lxc.gpu_type) == "physical"
    devices = each(facts.host.nvml.devices)
    return whole and bool(devices) and all(map(_is_on, devices)) and bool(known(facts.container.cuda.init))


@computes("gpu-passed-lxd-mig-on")
def _passed_without(facts: Facts) -> Values | None:
    """Under LXC, or under another engine if the host is known to have instances."""
    on_host, lxc = tuple(_on_host(facts)), known(facts.container.lxc)
    without = bool(on_host) and _nothing_usable(facts.container)
    if not (_lacks_instances_in_lxc(facts) if _is_lxc(facts) else without):
        return None
    nodes, uuid = known(facts.container.device_nodes) or {}, on_host[0] if on_host else "MIG-UUID"
    lacks = any(path.startswith("/dev/nvidia-caps") and known(one) is None for path, one in nodes.items())
    return {
        **_empty("container", facts.container),
        "docker": commands.engine(facts) == "docker",
        "by_device": f"device={uuid}",
        "by_cdi": f"nvidia.com/gpu={uuid}",
        "uuid": uuid,
        "name": known(facts.container.name) or "CONTAINER",
        "tool": ("incus" if lxc and known(lxc.manager) == "incus" else "lxc") if _is_lxc(facts) else None,
        "host_count": len(on_host),
        "on_host_uuids": on_host,
        "lacks_caps": lacks,
    }


@computes("mig-single-instance-per-process")
def _one_of_several(facts: Facts) -> Values | None:
    for where, place in reversed(places(facts)):
        devices = each(place.nvml.devices) or each(facts.host.nvml.devices)
        instances = [uuid for device in devices if _is_on(device) for uuid in each(device.mig_devices)]
        wants = _wants_several(facts, place, where)
        if len(instances) > 1 and known(place.cuda.device_count) == 1 and wants:
            starts = tuple(f"CUDA_VISIBLE_DEVICES={quote(uuid)} PROGRAM &" for uuid in instances[:2])
            return {"where": where, "wants": wants, "starts": starts, "count": len(instances)}
    return None


def _wants_several(facts: Facts, place: Place, where: Where) -> Evidence | None:
    """Evidence that more than one instance is wanted; otherwise one per process is fine."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        value = known(variable(place, name)) or ""
        if value.count("MIG-") > 1:
            return Evidence(f"{where}.env", f"{name}={value}")
    return reported_line(facts, _ONE_SEEN)


@computes("vgpu-driver-regression-570-mig-mixed")
def _mixed(facts: Facts) -> Values:
    cluster = known(facts.kubernetes)
    modes = {known(device.mig_current) == 1 for _, place in places(facts) for device in each(place.nvml.devices)}
    waiting = [str(known(pod.name)) for pod in (each(cluster.pods) if cluster else ()) if known(pod.phase) == "Pending"]
    return {"mixed": modes == {True, False}, "waiting": tuple(waiting[:1])}
