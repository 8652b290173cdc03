"""Rules about a GPU that answers, but not as it should: its firmware hangs, its memory is full, its card is faulty."""

from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import cuda_codes, line_of, logged, places
from mlship.doctor.rules.base import computes
from mlship.driver import codes

_FULL = 0.9
_NO_INTERRUPTS, _BAD_INFOROM = 11, 14
_INFOROM_WARNING = r"(?i)infoROM.{0,40}corrupt|corrupt.{0,40}infoROM"


@computes("gsp-firmware-timeout")
def _faulty_now(facts: Facts) -> Values | None:
    """The GPU is faulty now, not only before an earlier reset."""
    fails = bool(cuda_codes(facts)) or any(
        known(place.nvml.init) or known(place.nvml.hangs_at) or known(place.cuda.hangs_at) or _faulty(place, None)
        for _, place in places(facts)
    )
    hangs = ((f"{where}.nvml.hangs_at", known(place.nvml.hangs_at)) for where, place in places(facts))
    return {"hangs": tuple(Evidence(fact, call) for fact, call in hangs if call)} if fails else None


def _faulty(place: Place, code: int | None) -> tuple[NvmlDevice, ...]:
    """Devices whose calls return this code, or any code that means that the GPU is faulty."""
    wanted = {code} if code else {10, 15, 16, 999}
    return tuple(one for one in each(place.nvml.devices) if wanted & set((known(one.codes) or {}).values()))


@computes("gpu-hardware-fault")
def _reported_fault(facts: Facts) -> Iterator[Values]:
    for code in (_NO_INTERRUPTS, _BAD_INFOROM):
        for where, place in places(facts):
            devices = _faulty(place, code)
            shown = ", ".join(str(known(one.pci_bus_id) or known(one.index)) for one in devices)
            if devices:
                yield _fault(code, Evidence(f"{where}.nvml.devices", f"GPU {shown}: {codes.nvml(code)}"))
            if known(place.nvml.init) == code:
                yield _fault(code, Evidence(f"{where}.nvml.init", codes.nvml(code)))
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
