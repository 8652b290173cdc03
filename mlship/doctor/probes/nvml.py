"""NVML, called in a process of its own: every code, and the library's file."""

from collections.abc import Mapping
from typing import TypeVar

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import ComputeMode, Nvml, NvmlDevice, Place, RemappedRows, Virtualization
from mlship.doctor.probes.base import Look, Probe
from mlship.doctor.probes.driver_facts import DriverFacts, library_fact
from mlship.doctor.probes.where import live, placed
from mlship.driver.answer import DEVICE_COUNT, DEVICE_HANDLE, NVML, NVML_CUDA_VERSION, NVML_INIT, DriverAnswer
from mlship.driver.child import ask_driver
from mlship.driver.codes import nvml_names

T = TypeVar("T")

_NOT_FOUND = 12
_INSTANCE = "uuid of a MIG instance"
_ORDINARY = frozenset({NVML_INIT, _INSTANCE, "nvmlDeviceGetMigDeviceHandleByIndex"})
_COMPUTE_MODES: dict[int, ComputeMode] = {0: "Default", 1: "Exclusive_Thread", 2: "Prohibited", 3: "Exclusive_Process"}
_VIRTUAL: dict[int, Virtualization] = {0: "none", 1: "passthrough", 2: "vgpu", 3: "host-vgpu", 4: "host-vsga"}
_ADDRESSING = {0: "None", 1: "HMM", 2: "ATS"}


class NvmlProbe(Probe):
    """Calls NVML as this user."""

    name = "nvml"
    seconds = 6.5
    limit = 4.5

    def read(self, look: Look) -> Facts:
        only = () if live(look.root) else ("--simulated-only",)
        answer = ask_driver(("nvml", *only), self.limit)
        if answer.refused or (only and NVML in answer.libraries and not answer.libraries[NVML].simulated):
            return Facts()
        facts = placed(look.root, Place(nvml=nvml_facts(answer)))
        simulated = True if answer.simulated else UNKNOWN
        return Facts(simulated=simulated, host=facts.host, container=facts.container)


def nvml_facts(answer: DriverAnswer) -> Nvml:
    """What NVML reported, wherever `mlship.driver.ask nvml` ran. Pure."""
    found = DriverFacts(answer)
    loaded = answer.libraries.get(NVML)
    missing = loaded is not None and bool(loaded.error)
    version = answer.text("nvmlSystemGetNVMLVersion")
    count = found.number(DEVICE_COUNT)
    return Nvml(
        init=_NOT_FOUND if missing else found.code(NVML_INIT),
        library=library_fact(loaded, version.partition(".")[2] if version else None),
        driver_version=found.text("nvmlSystemGetDriverVersion"),
        cuda_driver_version=found.number(NVML_CUDA_VERSION),
        device_count=count,
        devices=tuple(_device(found, index) for index in range(count)) if isinstance(count, int) else UNKNOWN,
        codes=_codes(answer, None),
        hangs_at=found.hangs_at,
        crashes_at=found.crashes_at,
    )


def _codes(answer: DriverAnswer, device: int | None) -> Fact[dict[str, int]]:
    """Codes other than 0; a call unknown to NVML (13), or made before it has started (1), is no answer."""
    return {
        call.name: call.code
        for call in answer.calls
        if call.device == device and call.code not in {0, 1, 13} and call.name not in _ORDINARY
    }


def _device(found: DriverFacts, index: int) -> NvmlDevice:
    def number(name: str, place: int = 0) -> Fact[int]:
        return found.number(f"nvmlDeviceGet{name}", index, place)

    def text(name: str) -> Fact[str]:
        return found.text(f"nvmlDeviceGet{name}", index)

    if found.answer.call(DEVICE_HANDLE, index) is None:
        return NvmlDevice(index=index, name=found.gap(DEVICE_HANDLE, index), codes={})
    return NvmlDevice(
        index=index,
        name=text("Name"),
        uuid=text("UUID"),
        pci_bus_id=text("PciInfo_v3"),
        minor=number("MinorNumber"),
        codes=_codes(found.answer, index),
        compute_capability=_capability(found, index),
        brand=_named(number("Brand"), nvml_names("brand")),
        architecture=_named(number("Architecture"), nvml_names("architecture")),
        memory_total=number("MemoryInfo"),
        memory_used=number("MemoryInfo", 2),
        mig_current=number("MigMode"),
        mig_pending=number("MigMode", 1),
        mig_devices=tuple(
            call.value
            for call in found.answer.calls
            if (call.name, call.device) == (_INSTANCE, index) and isinstance(call.value, str)
        )
        if known(number("MigMode")) is not None
        else UNKNOWN,
        compute_mode=_named(number("ComputeMode"), _COMPUTE_MODES),
        compute_processes=number("ComputeRunningProcesses_v3"),
        persistence_mode=_yes(number("PersistenceMode")),
        ecc_mode=_yes(number("EccMode")),
        uncorrected_ecc=number("TotalEccErrors"),
        remapped_rows=_rows(found, index),
        retired_pages_pending=_yes(number("RetiredPagesPendingStatus")),
        fabric_state=_fabric(found, index, 0),
        fabric_status=_fabric(found, index, 1),
        virtualization_mode=_named(number("VirtualizationMode"), _VIRTUAL),
        license_status=_licence(found, index),
        gsp_firmware_version=text("GspFirmwareVersion"),
        addressing_mode=_named(number("AddressingMode"), _ADDRESSING),
    )


def _named(fact: Fact[int], names: Mapping[int, T]) -> Fact[T]:
    """The name of a number; unknown if it has none."""
    return names.get(fact, UNKNOWN) if isinstance(fact, int) else fact


def _yes(fact: Fact[int]) -> Fact[bool]:
    return bool(fact) if isinstance(fact, int) else fact


def _capability(found: DriverFacts, index: int) -> Fact[str]:
    call = "nvmlDeviceGetCudaComputeCapability"
    major, minor = found.number(call, index), found.number(call, index, 1)
    return f"{major}.{minor}" if isinstance(major, int) else major


def _rows(found: DriverFacts, index: int) -> Fact[RemappedRows]:
    numbers = [found.number("nvmlDeviceGetRemappedRows", index, place) for place in range(4)]
    first = numbers[0]
    if first is None or not isinstance(first, int):
        return first
    return RemappedRows(numbers[0], numbers[1], _yes(numbers[2]), _yes(numbers[3]))


def _fabric(found: DriverFacts, index: int, place: int) -> Fact[int]:
    later = found.number("nvmlDeviceGetGpuFabricInfoV", index, place)
    return later if isinstance(later, int) else found.number("nvmlDeviceGetGpuFabricInfo", index, place)


def _licence(found: DriverFacts, index: int) -> Fact[str]:
    """Only a virtual GPU is licensed."""
    call = "nvmlDeviceGetGridLicensableFeatures_v4"
    supported, state = found.number(call, index), found.number(call, index, 1)
    if isinstance(supported, Unreadable) or not isinstance(state, int):
        return state if not isinstance(state, int) else UNKNOWN
    if not supported:
        return None
    return "Licensed" if state else "Unlicensed"
