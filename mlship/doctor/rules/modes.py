"""Rules about how a GPU is shared: its compute mode, its license, its number."""

import re
from collections.abc import Iterator

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import Unknown, each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import NvmlDevice, Place
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import cuda_codes, places, reported_line, variable
from mlship.doctor.rules.base import Rule, computes
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


class UnlicensedVgpu(Rule, id="vgpu-unlicensed-46"):
    def look(self, facts: Facts) -> Finding | None:
        device = next((device for device in _devices(facts) if self._is_vgpu(device)), None)
        if device is None or (known(device.license_status) or "").startswith("Licensed"):
            return None
        refused, log, stopped = _refused(facts), self._log(facts), self._stopped(facts)
        status = known(device.license_status) or ""
        restricted = "Unrestricted" not in status  # a grace period or a restriction that is not in force
        unlicensed = status.startswith(("Unlicensed", "Expired")) and (restricted or bool(refused))
        if not unlicensed and not (refused and self._may_be(device)):
            return None
        certain = unlicensed or bool(log and refused)
        return self.found(
            facts,
            {
                "name": known(device.name) or "The vGPU",
                "status": status,
                "is_absent": is_absent(looked_up(facts.host.services, "nvidia-gridd")),
            },
            certain=certain,
            evidence=(
                Evidence("nvml.devices", f"license status {status}") if status else None,
                Evidence(
                    "nvml.devices", f"virtualization mode {known(device.virtualization_mode) or 'vGPU by its name'}"
                ),
                *refused,
                stopped,
                log,
            ),
        )

    @staticmethod
    def _is_vgpu(device: NvmlDevice) -> bool:
        mode = device.virtualization_mode
        named = re.search(r"^GRID |-\d+[QCAB]$", known(device.name) or "") is not None
        return mode == "vgpu" or (isinstance(mode, Unknown) and named)

    @staticmethod
    def _may_be(device: NvmlDevice) -> bool:
        """The license is unknown, and the other cause of the same code is ruled out."""
        return not isinstance(device.license_status, str) and known(device.compute_mode) == "Default"

    @staticmethod
    def _log(facts: Facts) -> Evidence | None:
        service = known(looked_up(facts.host.services, "nvidia-gridd"))
        lines = [line for line in each(service.log) if re.search("(?i)licen[cs]e", line)] if service else []
        failed = [line for line in lines if re.search("(?i)fail|unable|error|expired", line)]
        return Evidence("host.services.nvidia-gridd", failed[-1]) if failed and lines[-1] in failed else None

    @staticmethod
    def _stopped(facts: Facts) -> Evidence | None:
        service = looked_up(facts.host.services, "nvidia-gridd")
        if is_absent(service):
            return Evidence("host.services.nvidia-gridd", "no such service")
        active = known(service.active) if (service := known(service)) else None
        return Evidence("host.services.nvidia-gridd", active) if active not in {"active", None} else None


class DeviceOrder(Rule, id="default-device-order-mismatch"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place in reversed(places(facts)):
            chosen = known(variable(place, "CUDA_VISIBLE_DEVICES")) or ""
            devices = each(place.nvml.devices) or each(facts.host.nvml.devices)
            if not self._is_ambiguous(place, chosen, devices):
                continue
            measured = self._mismatch(place, chosen, devices)
            if measured is None and known(place.cuda.devices) is not None:
                continue
            uuids = self._uuids(chosen, devices)
            return self.found(
                facts,
                {"chosen": chosen, "uuids": uuids},
                where=where,
                certain=bool(measured),
                evidence=(
                    Evidence(f"{where}.env", f"CUDA_VISIBLE_DEVICES={chosen}, CUDA_DEVICE_ORDER not set"),
                    Evidence(
                        f"{where}.nvml.devices",
                        ", ".join(f"{known(device.index)}: {known(device.name)}" for device in devices),
                    ),
                    measured,
                ),
            )
        return None

    @staticmethod
    def _is_ambiguous(place: Place, chosen: str, devices: tuple[NvmlDevice, ...]) -> bool:
        models = {known(device.name) for device in devices} - {None}
        numeric = re.fullmatch(r"\d+(,\d+)*", chosen.replace(" ", "")) is not None
        return len(models) > 1 and numeric and is_absent(variable(place, "CUDA_DEVICE_ORDER"))

    @staticmethod
    def _mismatch(place: Place, chosen: str, devices: tuple[NvmlDevice, ...]) -> Evidence | None:
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

    @staticmethod
    def _uuids(chosen: str, devices: tuple[NvmlDevice, ...]) -> str:
        by_index = {str(known(device.index)): known(device.uuid) for device in devices}
        return ",".join(by_index.get(number) or "GPU-UUID" for number in re.findall(r"\d+", chosen))
