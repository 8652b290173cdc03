"""Rules about the GPU itself: it answers, has power and working memory, and its fabric is up."""

import re
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import Fact, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Service
from mlship.doctor.facts.place import NvmlDevice
from mlship.doctor.finding import Decider, Evidence, Finding
from mlship.doctor.queries import (
    NVIDIA,
    cuda_codes,
    driver_is_contained,
    gpus,
    kernel_driver,
    line_of,
    log_line,
    node,
    places,
    reported_line,
)
from mlship.doctor.rules.base import Rule, computes
from mlship.doctor.versions import branch, same
from mlship.driver import codes

# Modules soldered to a board, which connects them by NVSwitch if it holds eight.
_ON_BOARD = re.compile(r"SXM|HBM3|\bH200\b|\bB[23]00\b")
# Codes of nvmlInit that come before it reaches the GPUs: permissions, no driver, no library, version mismatch.
_SAYS_NOTHING = {4, 9, 12, 18}
_NVML_DEVICES = Decider("nvml.devices", "nvidia-smi -q")
_LOG = Decider("kernel.log", "sudo dmesg | grep -iE 'nvrm|xid'")


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


def _label(device: NvmlDevice) -> str:
    return f"GPU {known(device.pci_bus_id) or known(device.uuid) or known(device.index)}"


def _all_answer(facts: Facts) -> bool | None:
    """NVML on the host counts every GPU on the bus without errors; None if that is unknown."""
    nvml = facts.host.nvml
    count, on_bus = known(nvml.device_count), [gpu for gpu in gpus(facts) if known(gpu.driver) != "vfio-pci"]
    code = known(nvml.init)
    if code in _SAYS_NOTHING or (count is None and not code):
        return None
    if count is None or code:
        return False
    lost = any(15 in (known(device.codes) or {}).values() for device in each(nvml.devices))
    return not lost and count >= len(on_bus)


class FallenOffTheBus(Rule, id="gpu-fallen-off-the-bus"):
    def look(self, facts: Facts) -> Finding | None:
        dead = [gpu for gpu in gpus(facts) if known(gpu.revision) == "ff"]
        lost = _answers_with(facts, 15)
        line = log_line(facts, r"Xid.*: 79\b|fallen off the bus")
        reported = line_of(facts, r"(?i)GPU is lost|fallen off the bus")
        answering = _all_answer(facts) if each(facts.host.nvml.devices) or not reported else None
        if not lost and (answering is True or not (dead or line or reported)):
            return None  # a GPU that sleeps (D3cold) reads as ff on the bus, and answers
        certain = bool(dead or lost or (line and answering is False))
        cluster = known(facts.kubernetes)
        address = self._address(line) or next((known(gpu.address) for gpu in dead), None)
        return self.found(
            facts,
            {"address": address, "cluster": cluster, "node": (known(cluster.node) if cluster else None) or "NODE"},
            certain=certain,
            evidence=(
                *lost,
                *(Evidence("kernel.pci", f"{known(gpu.address)}: revision ff, it does not answer") for gpu in dead),
                Evidence("kernel.log", line) if line else None,
                self._count(facts),
                reported,
            ),
        )

    @staticmethod
    def _address(line: str | None) -> str | None:
        found = re.search(r"PCI:([0-9a-fA-F:.]+)\)", line or "")
        return found.group(1) if found else None

    @staticmethod
    def _count(facts: Facts) -> Evidence | None:
        count, on_bus = known(facts.host.nvml.device_count), len(gpus(facts))
        if count is None or count >= on_bus:
            return None
        return Evidence("host.nvml.device_count", f"{count}, but the PCI bus has {on_bus}")


@computes("power-cable-missing")
def _without_power(facts: Facts) -> Values:
    return {"answers": _answers_with(facts, 8), "all_answer": _all_answer(facts) is True}


class RequiresReset(Rule, id="gpu-requires-reset"):
    def look(self, facts: Facts) -> Finding | None:
        pending, failed = self._pending(facts), self._failed(facts)
        measured = (*_answers_with(facts, 16), *pending, *failed)
        signs = self._signs(facts)
        if not measured and (not signs or self._is_clean(facts)):
            return None
        return self.found(
            facts,
            {"failed": failed, "number": self._number(facts)},
            certain=bool(measured),
            cause="A GPU had uncorrectable memory errors and works again only after a reset."
            if pending or signs
            else "A GPU's memory has failed: it has no spare rows left to remap."
            if failed
            else "A GPU is in a state that only a reset can clear.",
            evidence=(*measured, *signs),
        )

    @staticmethod
    def _pending(facts: Facts) -> tuple[Evidence, ...]:
        return tuple(
            Evidence(f"{where}.nvml.devices", f"{_label(device)}: a row remap or page retirement is pending")
            for where, place in places(facts)
            for device in each(place.nvml.devices)
            if ((rows := known(device.remapped_rows)) and known(rows.pending)) or known(device.retired_pages_pending)
        )

    @staticmethod
    def _failed(facts: Facts) -> tuple[Evidence, ...]:
        return tuple(
            Evidence(f"{where}.nvml.devices", f"{_label(device)}: row remapping failed")
            for where, place in places(facts)
            for device in each(place.nvml.devices)
            if (rows := known(device.remapped_rows)) and known(rows.failure)
        )

    @staticmethod
    def _signs(facts: Facts) -> tuple[Evidence, ...]:
        line = log_line(facts, r"Xid.*: (48|63|64|95)\b|GPU Reset Required")
        reported = reported_line(facts, r"(?i)uncorrectable ECC error|requires reset")
        refused = tuple(Evidence(fact, codes.cuda(214)) for fact, code in cuda_codes(facts) if code == 214)
        return (*refused, *((Evidence("kernel.log", line),) if line else ()), *((reported,) if reported else ()))

    @staticmethod
    def _is_clean(facts: Facts) -> bool:
        """NVML reports nothing pending for any GPU: the log describes what a reset has already fixed."""
        devices = each(facts.host.nvml.devices)
        asked = [is_known(device.retired_pages_pending) and is_known(device.remapped_rows) for device in devices]
        refused = any(code == 214 for _, code in cuda_codes(facts))
        return bool(devices) and all(asked) and not refused

    @staticmethod
    def _number(facts: Facts) -> str:
        faulty = [
            known(device.index)
            for device in each(facts.host.nvml.devices)
            if 16 in (known(device.codes) or {}).values()
            or known(device.retired_pages_pending)
            or ((rows := known(device.remapped_rows)) and known(rows.pending))
        ]
        return next((str(index) for index in faulty if index is not None), "N")


class NoFabricManager(Rule, id="fabric-manager-not-running"):
    def look(self, facts: Facts) -> Finding | None:
        trouble = self._trouble(facts)
        if not trouble or not self._has_fabric(facts) or self._is_grace(facts):
            return None
        service = looked_up(facts.host.services, "nvidia-fabricmanager")
        if not is_known(service):
            return None
        shown = self._shown(facts, service)
        bare = self._waits(facts) and known(facts.host.virtualization) == "none"  # a guest's may run outside
        certain = (
            (bare or bool(self._switches(facts)))
            and bool(shown)
            and not driver_is_contained(facts)
            and trouble[0].fact != "messages"
        )
        return self.found(
            facts,
            {
                "shown": shown,
                "contained": driver_is_contained(facts),
                "other_version": is_absent(service) or shown.startswith("version"),
                "install_version": self._install(facts),
                "guest": known(facts.host.virtualization) not in {None, "none"} and not self._switches(facts),
                "b200": any(re.search(r"\bB\d", known(device.name) or "") for device in each(facts.host.nvml.devices)),
            },
            certain=certain,
            evidence=(
                *trouble,
                *self._switches(facts),
                Evidence("host.services.nvidia-fabricmanager", shown or "active"),
                self._log(service),
            ),
        )

    @staticmethod
    def _trouble(facts: Facts) -> tuple[Evidence, ...]:
        refused = tuple(Evidence(fact, codes.cuda(802)) for fact, code in cuda_codes(facts) if code == 802)
        states = {1: "not started", 2: "in progress"}
        waiting = tuple(
            Evidence("host.nvml.devices", f"{_label(device)}: fabric state {states[state]}")
            for device in each(facts.host.nvml.devices)
            if (state := known(device.fabric_state)) in states
        )
        reported = reported_line(facts, "system not yet initialized")
        works = any(known(place.cuda.init) == 0 for _, place in places(facts))
        found = (*refused, *waiting[:1], *((reported,) if reported else ()))
        return () if works and not refused else found

    def _has_fabric(self, facts: Facts) -> bool:
        devices = each(facts.host.nvml.devices)
        named = any(
            _ON_BOARD.search(known(device.name) or "") and not is_known(device.fabric_state) for device in devices
        )
        return bool(self._switches(facts)) or self._waits(facts) or named

    @staticmethod
    def _waits(facts: Facts) -> bool:
        return any(known(device.fabric_state) in {1, 2, 3} for device in each(facts.host.nvml.devices))

    @staticmethod
    def _switches(facts: Facts) -> tuple[Evidence, ...]:
        on_bus = [
            device
            for device in each(facts.kernel.pci)
            if known(device.vendor) == NVIDIA and (known(device.class_code) or "").startswith("0680")
        ]
        if on_bus:
            return (Evidence("kernel.pci", f"{len(on_bus)} NVSwitch"),)
        control = "/dev/nvidia-nvswitchctl"
        there = known(node(facts.host, control)) is not None
        return (Evidence("host.device_nodes", f"{control}: present"),) if there else ()

    @staticmethod
    def _is_grace(facts: Facts) -> bool:
        names = [known(gpu.name) or "" for gpu in gpus(facts)]
        names += [known(device.name) or "" for device in each(facts.host.nvml.devices)]
        return known(facts.host.os.arch) in {"aarch64", "arm64"} or any(re.search(r"\bG[BH]\d", n) for n in names)

    @staticmethod
    def _shown(facts: Facts, fact: Fact[Service]) -> str:
        """What is wrong with the unit; empty if it runs and has the driver's version."""
        service, driver = known(fact), kernel_driver(facts)
        if service is None:
            return "not installed"
        version, active = known(service.version), known(service.active)
        if version and driver and not same(version, driver):
            return f"version {version}, but the driver is {driver}"
        return "" if active in {"active", None} else f"{active}"

    @staticmethod
    def _log(fact: Fact[Service]) -> Evidence | None:
        service = known(fact)
        lines = each(service.log) if service else ()
        return Evidence("host.services.nvidia-fabricmanager", lines[-1]) if lines else None

    @staticmethod
    def _install(facts: Facts) -> str:
        version = kernel_driver(facts)
        if version is None:
            return commands.install_command(facts, "nvidia-fabricmanager-$(modinfo -F version nvidia | cut -d. -f1)")
        if commands.manager(facts) == "apt":
            return commands.install_command(facts, quote(f"nvidia-fabricmanager-{branch(version)}={version}*"))
        return commands.install_command(facts, quote(f"nvidia-fabric-manager-{version}"))
