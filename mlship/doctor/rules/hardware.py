"""Rules about the GPU: it answers, has power and memory, its fabric is up; and how it is shared (MIG, modes, MPS)."""

import re
from collections.abc import Iterator
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import is_lxc
from mlship.doctor.facts.container import Lxc
from mlship.doctor.facts.fact import Unknown, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Service
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import (
    NVIDIA,
    cuda_codes,
    excluded,
    gpu_label,
    gpus,
    kernel_driver,
    logged,
    node,
    places,
    pods,
    reported_line,
    variable,
)
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, same
from mlship.driver import codes

# Modules soldered to a board, which connects them by NVSwitch if it holds eight.
_ON_BOARD = re.compile(r"SXM|HBM3|\bH200\b|\bB[23]00\b")
_FABRIC_STATES = {1: "not started", 2: "in progress"}
_SWITCH_CONTROL = "/dev/nvidia-nvswitchctl"
_FULL = 0.9
_PENDING = "a row remap or page retirement is pending"
_PIPES = "/tmp/nvidia-mps"  # noqa: S108  the daemon's default
_MPS = {805, 806, 807, 808, 809, 810}
_NOT_FOUND = 6
_ONE_SEEN = (
    r"device_count\(\).*\b(one|1)\b|device >= 0 && device < num_gpus|[Ii]nvalid device ordinal|"
    r"\bonly (shows |sees |see |finds )?(one|1) (gpu|GPU|device)"
)


@computes("gpu-fallen-off-the-bus")
def _lost(facts: Facts) -> Values:
    line = logged(facts, r"Xid.*: 79\b|fallen off the bus")
    dead = tuple(known(gpu.address) for gpu in gpus(facts) if known(gpu.revision) == "ff")
    named = re.search(r"PCI:([0-9a-fA-F:.]+)\)", line.value if line else "")
    count, on_bus = known(facts.host.nvml.device_count), len(gpus(facts)) - excluded(facts)
    fewer = Evidence("host.nvml.device_count", f"{count}, but the PCI bus has {on_bus}")
    return {
        "dead": dead,
        "line": line,
        "address": named[1] if named else next(iter(dead), None),
        "fewer": fewer if count is not None and count < on_bus else None,
    }


@computes("gpu-requires-reset")
def _to_reset(facts: Facts) -> Values:
    of_host, pending, failed = each(facts.host.nvml.devices), [], []
    for where, place in places(facts):
        for one in each(place.nvml.devices):
            fact, label, rows = f"{where}.nvml.devices", gpu_label(one), known(one.remapped_rows)
            pending += [Evidence(fact, f"{label}: {_PENDING}")] if _is_pending(one) else []
            failed += [Evidence(fact, f"{label}: row remapping failed")] if rows and known(rows.failure) else []
    waits = (one for one in of_host if _is_pending(one) or known(one.recovery_action) not in {None, "None"})
    faulty = (*(one for one in of_host if 16 in (known(one.codes) or {}).values()), *waits)
    asked = (is_known(one.retired_pages_pending) and is_known(one.remapped_rows) for one in of_host)
    return {
        "pending": tuple(pending),
        "failed": tuple(failed),
        "clean": bool(of_host) and all(asked),  # a log without NVML's answers is what a reset has already fixed
        "number": next((str(index) for one in faulty if (index := known(one.index)) is not None), "N"),
    }


def _is_pending(device: NvmlDevice) -> bool:
    rows = known(device.remapped_rows)
    return bool((rows and known(rows.pending)) or known(device.retired_pages_pending))


@computes("fabric-manager-not-running")
def _without_fabric(facts: Facts) -> Values:
    devices = each(facts.host.nvml.devices)
    waiting = ((gpu_label(one), known(one.fabric_state)) for one in devices)
    states = (f"{label}: fabric state {_FABRIC_STATES[state]}" for label, state in waiting if state in _FABRIC_STATES)
    service = known(looked_up(facts.host.services, "nvidia-fabricmanager"))
    return {
        "waiting": next((Evidence("host.nvml.devices", state) for state in states), None),
        "on_board": any(_ON_BOARD.search(known(one.name) or "") and not is_known(one.fabric_state) for one in devices),
        "switches": _switches(facts),
        "shown": _wrong_with(service, kernel_driver(facts)) if service else "not installed",
        "log": each(service.log)[-1:] if service else (),
        "install_version": _install_fabric_manager(facts),
    }


def _switches(facts: Facts) -> Evidence | None:
    on_bus = [
        device
        for device in each(facts.kernel.pci)
        if known(device.vendor) == NVIDIA and (known(device.class_code) or "").startswith("0680")
    ]
    if on_bus:
        return Evidence("kernel.pci", f"{len(on_bus)} NVSwitch")
    control = known(node(facts.host, _SWITCH_CONTROL))
    return Evidence("host.device_nodes", f"{_SWITCH_CONTROL}: present") if control else None


def _wrong_with(service: Service, driver: str | None) -> str | None:
    """What is wrong with the unit; None if it runs and has the driver's version."""
    version, active = known(service.version), known(service.active)
    if version and driver and not same(version, driver):
        return f"version {version}, but the driver is {driver}"
    return None if active == "active" else active


def _install_fabric_manager(facts: Facts) -> str:
    version = kernel_driver(facts)
    if version is None:
        return commands.install_command(facts, "nvidia-fabricmanager-$(modinfo -F version nvidia | cut -d. -f1)")
    of_apt = f"nvidia-fabricmanager-{branch(version)}={version}*"
    package = of_apt if commands.manager(facts) == "apt" else f"nvidia-fabric-manager-{version}"
    return commands.install_command(facts, quote(package))


@computes("gpu-memory-taken")
def _full(facts: Facts) -> Values | None:
    for where, place in places(facts):
        for device in each(place.nvml.devices):
            total, used, count = known(device.memory_total), known(device.memory_used), known(device.compute_processes)
            if total and used and count and used >= _FULL * total:
                figures = f"{used / 1024**3:.1f} of {total / 1024**3:.1f} GiB in use by {count} processes"
                return {"where": where, "number": known(device.index), "figures": figures}
    return None


def _devices(facts: Facts) -> Iterator[NvmlDevice]:
    for _, place in places(facts):
        yield from each(place.nvml.devices)


@computes("compute-mode-prohibited-or-exclusive")
def _closed(facts: Facts) -> Values | None:
    # An exclusive GPU is fine if the MPS server holds and shares it.
    closing = {"Prohibited"} if known(facts.host.mps) else {"Prohibited", "Exclusive_Process", "Exclusive_Thread"}
    devices = [device for device in _devices(facts) if known(device.compute_mode) in closing]
    device = next(filter(_is_full, devices), next(iter(devices), None))
    if device is None:
        return None
    number, mode = known(device.index), known(device.compute_mode) or ""
    return {
        "named": "N" if number is None else str(number),
        "mode": mode,
        "prohibited": mode == "Prohibited",
        "processes": known(device.compute_processes),
        "certain": _is_full(device),
    }


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
            yield {"device": device, "log": lines[-1] if failed else None}


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


def _empty(place: Place) -> tuple[str, ...]:
    """The GPUs without instances."""
    return tuple(f"GPU {known(one.index)}" for one in each(place.nvml.devices) if _is_empty(one))


@computes("mig-enabled-no-instances")
def _no_instances(facts: Facts) -> Iterator[Values]:
    for where, place in places(facts):
        if _nothing_usable(place):
            first = known(each(place.nvml.devices)[0].index)
            sure = where == "host" or is_known(facts.host.nvml.devices)
            yield {"where": where, "empty": _empty(place), "first": first, "certain": sure, "sure": sure}


def _lacks_instances_in_lxc(facts: Facts) -> bool:
    """The container, one of LXC, has a GPU in MIG mode but no instance."""
    if each(facts.container.nvml.devices):
        return _nothing_usable(facts.container)
    devices, whole = each(facts.host.nvml.devices), known((known(facts.container.lxc) or Lxc()).gpu_type) == "physical"
    return whole and bool(devices) and all(map(_is_on, devices)) and bool(known(facts.container.cuda.init))


@computes("gpu-passed-lxd-mig-on")
def _passed_without(facts: Facts) -> Values | None:
    """Under LXC, or under another engine if the host is known to have instances."""
    on_host, lxc = tuple(_on_host(facts)), known(facts.container.lxc)
    without = bool(on_host) and _nothing_usable(facts.container)
    if not (_lacks_instances_in_lxc(facts) if is_lxc(facts) else without):
        return None
    nodes, uuid = known(facts.container.device_nodes) or {}, on_host[0] if on_host else "MIG-UUID"
    lacks = any(path.startswith("/dev/nvidia-caps") and known(one) is None for path, one in nodes.items())
    return {
        "where": "container",
        "empty": _empty(facts.container),
        "docker": commands.engine(facts) == "docker",
        "by_device": f"device={uuid}",
        "by_cdi": f"nvidia.com/gpu={uuid}",
        "uuid": uuid,
        "name": known(facts.container.name) or "CONTAINER",
        "tool": ("incus" if lxc and known(lxc.manager) == "incus" else "lxc") if is_lxc(facts) else None,
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
    modes = {known(device.mig_current) == 1 for device in _devices(facts)}
    waiting = tuple(str(known(pod.name)) for pod in pods(facts) if known(pod.phase) == "Pending")
    return {"mixed": modes == {True, False}, "waiting": waiting[:1]}
