"""Rules about how a GPU is shared: MIG, its compute mode, its MPS server, its license, its number."""

import re
from collections.abc import Iterator
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import Unknown, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import cuda_codes, places, reported_line, variable
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_BUSY = 46
_IS_BUSY = r"busy or unavailable"
_PIPES = "/tmp/nvidia-mps"  # noqa: S108  the daemon's default
_MPS = {805, 806, 807, 808, 809, 810}
_NOT_FOUND = 6
_ONE_SEEN = (
    r"device_count\(\).*\b(one|1)\b|device >= 0 && device < num_gpus|[Ii]nvalid device ordinal|"
    r"\bonly (shows |sees |see |finds )?(one|1) (gpu|GPU|device)"
)
_FIRST_BROKEN, _LAST_BROKEN = (570, 124, 6), (570, 158, 1)


def _devices(facts: Facts) -> Iterator[NvmlDevice]:
    for _, place in places(facts):
        yield from each(place.nvml.devices)


def _refused(facts: Facts) -> tuple[Evidence, ...]:
    """Evidence that CUDA got no context: measured, or else reported by a user."""
    measured = tuple(Evidence(fact, codes.cuda(code)) for fact, code in cuda_codes(facts) if code in {_BUSY, 102})
    reported = reported_line(facts, _IS_BUSY)
    return measured or ((reported,) if reported else ())


@computes("compute-mode-prohibited-or-exclusive")
def _closed(facts: Facts) -> Values | None:
    shared = bool(known(facts.host.mps))
    devices = [device for device in _devices(facts) if _is_closed(device, mps=shared)]
    if not devices:
        return None
    device = next((device for device in devices if _is_full(device)), devices[0])
    number, mode = known(device.index), known(device.compute_mode) or ""
    return {
        "refused": _refused(facts),
        "named": "N" if number is None else str(number),
        "mode": mode,
        "prohibited": mode == "Prohibited",
        "processes": known(device.compute_processes),
        "certain": _is_full(device),
    }


def _is_closed(device: NvmlDevice, *, mps: bool) -> bool:
    """The mode blocks contexts. An exclusive GPU is fine if the MPS server holds and shares it."""
    mode = known(device.compute_mode)
    return mode == "Prohibited" or (mode in {"Exclusive_Process", "Exclusive_Thread"} and not mps)


def _is_full(device: NvmlDevice) -> bool:
    return known(device.compute_mode) == "Prohibited" or bool(known(device.compute_processes))


@computes("vgpu-unlicensed-46")
def _vgpus(facts: Facts) -> Iterator[Values]:
    service = known(looked_up(facts.host.services, "nvidia-gridd"))
    lines = [line for line in each(service.log) if re.search("(?i)licen[cs]e", line)] if service else []
    failed = bool(lines) and re.search("(?i)fail|unable|error|expired", lines[-1]) is not None
    for device in _devices(facts):
        mode, name = device.virtualization_mode, known(device.name) or ""
        if mode == "vgpu" or (isinstance(mode, Unknown) and re.search(r"^GRID |-\d+[QCAB]$", name)):
            yield {"device": device, "refused": _refused(facts), "log": lines[-1] if failed else None}


@computes("default-device-order-mismatch")
def _ambiguous_orders(facts: Facts) -> Iterator[Values]:
    for where, place in reversed(places(facts)):
        chosen = known(variable(place, "CUDA_VISIBLE_DEVICES")) or ""
        devices = each(place.nvml.devices) or each(facts.host.nvml.devices)
        measured = _wrong_number(place, chosen, devices)
        if _is_ambiguous(place, chosen, devices) and (measured or known(place.cuda.devices) is None):
            by_index = {str(known(device.index)): known(device.uuid) for device in devices}
            yield {
                "where": where,
                "chosen": chosen,
                "uuids": ",".join(by_index.get(number) or "GPU-UUID" for number in re.findall(r"\d+", chosen)),
                "listed": tuple(f"{known(device.index)}: {known(device.name)}" for device in devices),
                "measured": measured,
            }


def _is_ambiguous(place: Place, chosen: str, devices: tuple[NvmlDevice, ...]) -> bool:
    models = {known(device.name) for device in devices} - {None}
    numeric = re.fullmatch(r"\d+(,\d+)*", chosen.replace(" ", "")) is not None
    return len(models) > 1 and numeric and is_absent(variable(place, "CUDA_DEVICE_ORDER"))


def _wrong_number(place: Place, chosen: str, devices: tuple[NvmlDevice, ...]) -> Evidence | None:
    """The first device whose number means another GPU in CUDA than in nvidia-smi."""
    by_index = {known(device.index): device for device in devices}
    given = {known(device.ordinal): device for device in each(place.cuda.devices)}
    for ordinal, number in enumerate(re.findall(r"\d+", chosen)):
        meant, got = by_index.get(int(number)), given.get(ordinal)
        if meant is None or got is None:
            continue
        by_uuid = known(meant.uuid) and known(got.uuid) and known(meant.uuid) != known(got.uuid)
        by_name = known(meant.name) and known(got.name) and known(meant.name) != known(got.name)
        if by_uuid or by_name:
            return Evidence("cuda.devices", f"{number} is {known(got.name)}; nvidia-smi's is {known(meant.name)}")
    return None


@computes("mps-not-reached")
def _mps_refuses(facts: Facts) -> Values | None:
    found = next(((name, code) for name, code in cuda_codes(facts) if code in _MPS), None)
    if found is None:
        return None
    where, code = found[0].partition(".")[0], codes.cuda(found[1])
    folder = known(variable(facts.container if where == "container" else facts.host, "CUDA_MPS_PIPE_DIRECTORY"))
    volume = f"{_PIPES}:{folder or _PIPES}"
    return {"where": where, "code": code, "failed": Evidence(found[0], code), "folder": folder, "volume": volume}


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
