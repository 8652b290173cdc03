"""Rules about how a GPU is shared: its compute mode, its license, its number."""

import re
from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import Unknown, each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import cuda_codes, places, reported_line, variable
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_BUSY = 46
_IS_BUSY = r"busy or unavailable"


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
