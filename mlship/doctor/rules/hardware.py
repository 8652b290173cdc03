"""Rules about the GPU itself: it answers as it should, has power and working memory, and its fabric is up."""

import re
from collections.abc import Iterator
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Service
from mlship.doctor.facts.place import NvmlDevice
from mlship.doctor.finding import Evidence, Where
from mlship.doctor.queries import NVIDIA, cuda_codes, gpus, kernel_driver, line_of, logged, node, places
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import branch, same
from mlship.driver import codes

# Modules soldered to a board, which connects them by NVSwitch if it holds eight.
_ON_BOARD = re.compile(r"SXM|HBM3|\bH200\b|\bB[23]00\b")
# Codes of nvmlInit that come before it reaches the GPUs: permissions, no driver, no library, version mismatch.
_SAYS_NOTHING = {4, 9, 12, 18}
_FABRIC_STATES = {1: "not started", 2: "in progress"}
_SWITCH_CONTROL = "/dev/nvidia-nvswitchctl"
_FULL = 0.9
_NO_INTERRUPTS, _BAD_INFOROM = 11, 14
_INFOROM_WARNING = r"(?i)infoROM.{0,40}corrupt|corrupt.{0,40}infoROM"


def _devices(facts: Facts) -> Iterator[tuple[Where, NvmlDevice]]:
    return ((where, device) for where, place in places(facts) for device in each(place.nvml.devices))


def _label(device: NvmlDevice) -> str:
    return f"GPU {known(device.pci_bus_id) or known(device.uuid) or known(device.index)}"


def _answers_with(facts: Facts, code: int) -> tuple[Evidence, ...]:
    """Where NVML returns this code, for one device or for all."""
    found = []
    for where, place in places(facts):
        if known(place.nvml.init) == code:
            found.append(Evidence(f"{where}.nvml.init", codes.nvml(code)))
        for device in each(place.nvml.devices):
            calls = sorted(call for call, answer in (known(device.codes) or {}).items() if answer == code)
            if calls:
                found.append(Evidence(f"{where}.nvml.devices", f"{_label(device)}: {calls[0]} = {codes.nvml(code)}"))
    return tuple(found)


def _refused_with(facts: Facts, wanted: int) -> tuple[Evidence, ...]:
    """Where CUDA returns this code."""
    return tuple(Evidence(fact, codes.cuda(code)) for fact, code in cuda_codes(facts) if code == wanted)


def _all_answer(facts: Facts) -> bool | None:
    """NVML on the host counts every GPU on the bus without errors; None if that is unknown."""
    nvml = facts.host.nvml
    count, code = known(nvml.device_count), known(nvml.init)
    if code in _SAYS_NOTHING or (count is None and not code):
        return None
    if count is None or code:
        return False
    lost = any(15 in (known(device.codes) or {}).values() for device in each(nvml.devices))
    return not lost and count >= len(gpus(facts))


@computes("gpu-fallen-off-the-bus")
def _lost(facts: Facts) -> Values:
    line = logged(facts, r"Xid.*: 79\b|fallen off the bus")
    dead = tuple(known(gpu.address) for gpu in gpus(facts) if known(gpu.revision) == "ff")
    named = re.search(r"PCI:([0-9a-fA-F:.]+)\)", line.value if line else "")
    count, on_bus = known(facts.host.nvml.device_count), len(gpus(facts))
    fewer = Evidence("host.nvml.device_count", f"{count}, but the PCI bus has {on_bus}")
    return {
        "lost": _answers_with(facts, 15),
        "dead": dead,
        "line": line,
        "address": named[1] if named else next(iter(dead), None),
        "all_answer": _all_answer(facts),
        "fewer": fewer if count is not None and count < on_bus else None,
    }


@computes("power-cable-missing")
def _without_power(facts: Facts) -> Values:
    return {"answers": _answers_with(facts, 8), "all_answer": _all_answer(facts) is True}


@computes("gpu-requires-reset")
def _to_reset(facts: Facts) -> Values:
    failing = (
        (where, one) for where, one in _devices(facts) if (rows := known(one.remapped_rows)) and known(rows.failure)
    )
    return {
        "answers": _answers_with(facts, 16),
        "pending": tuple(
            Evidence(f"{where}.nvml.devices", f"{_label(one)}: a row remap or page retirement is pending")
            for where, one in _devices(facts)
            if _is_pending(one)
        ),
        "failed": tuple(
            Evidence(f"{where}.nvml.devices", f"{_label(one)}: row remapping failed") for where, one in failing
        ),
        "refused": _refused_with(facts, 214),
        "clean": _is_clean(facts),
        "number": _number_to_reset(facts),
    }


def _is_pending(device: NvmlDevice) -> bool:
    rows = known(device.remapped_rows)
    return bool((rows and known(rows.pending)) or known(device.retired_pages_pending))


def _is_clean(facts: Facts) -> bool:
    """NVML was asked about every GPU, so that a log without its answers is what a reset has already fixed."""
    devices = each(facts.host.nvml.devices)
    return bool(devices) and all(is_known(one.retired_pages_pending) and is_known(one.remapped_rows) for one in devices)


def _number_to_reset(facts: Facts) -> str:
    devices = each(facts.host.nvml.devices)
    faulty = (one for one in devices if 16 in (known(one.codes) or {}).values() or _is_pending(one))
    return next((str(index) for one in faulty if (index := known(one.index)) is not None), "N")


@computes("fabric-manager-not-running")
def _without_fabric(facts: Facts) -> Values:
    devices = each(facts.host.nvml.devices)
    waiting = (one for one in devices if known(one.fabric_state) in _FABRIC_STATES)
    service = known(looked_up(facts.host.services, "nvidia-fabricmanager"))
    names = (*(known(gpu.name) for gpu in gpus(facts)), *(known(one.name) for one in devices))
    return {
        "refused": _refused_with(facts, 802),
        "waiting": next(map(_waits, waiting), None),
        "waits": any(known(one.fabric_state) in {1, 2, 3} for one in devices),
        "on_board": any(_ON_BOARD.search(known(one.name) or "") and not is_known(one.fabric_state) for one in devices),
        "switches": _switches(facts),
        "grace": any(re.search(r"\bG[BH]\d", name or "") for name in names),
        "b200": any(re.search(r"\bB\d", known(one.name) or "") for one in devices),
        "shown": _wrong_with(service, kernel_driver(facts)) if service else "not installed",
        "log": each(service.log)[-1:] if service else (),
        "install_version": _install_fabric_manager(facts),
    }


def _waits(device: NvmlDevice) -> Evidence:
    state = _FABRIC_STATES[known(device.fabric_state) or 1]
    return Evidence("host.nvml.devices", f"{_label(device)}: fabric state {state}")


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


@computes("gsp-firmware-timeout")
def _faulty_now(facts: Facts) -> Values | None:
    """The GPU is faulty now, not only before an earlier reset."""
    fails = bool(cuda_codes(facts)) or any(
        known(place.nvml.init)
        or known(place.nvml.hangs_at)
        or known(place.cuda.hangs_at)
        or any(map(_is_faulty, each(place.nvml.devices)))
        for _, place in places(facts)
    )
    hangs = ((f"{where}.nvml.hangs_at", known(place.nvml.hangs_at)) for where, place in places(facts))
    return {"hangs": tuple(Evidence(fact, call) for fact, call in hangs if call)} if fails else None


def _is_faulty(device: NvmlDevice) -> bool:
    return not {10, 15, 16, 999}.isdisjoint((known(device.codes) or {}).values())


@computes("gpu-hardware-fault")
def _reported_fault(facts: Facts) -> Iterator[Values]:
    for code in (_NO_INTERRUPTS, _BAD_INFOROM):
        yield from (_fault(code, seen) for seen in _answers_with(facts, code))
    yield _fault(_BAD_INFOROM, logged(facts, _INFOROM_WARNING) or line_of(facts, _INFOROM_WARNING), certain=False)


def _fault(code: int, seen: Evidence | None, *, certain: bool = True) -> Values:
    return {"seen": seen, "inforom": code == _BAD_INFOROM, "certain": certain}


@computes("gpu-memory-taken")
def _full(facts: Facts) -> Values | None:
    failed = next((Evidence(name, codes.cuda(code)) for name, code in cuda_codes(facts) if code == 2), None)
    for where, place in places(facts):
        for device in each(place.nvml.devices):
            total, used, count = known(device.memory_total), known(device.memory_used), known(device.compute_processes)
            if total and used and count and used >= _FULL * total:
                figures = f"{used / 1024**3:.1f} of {total / 1024**3:.1f} GiB in use by {count} processes"
                return {"where": where, "number": known(device.index), "figures": figures, "failed": failed}
    return None
