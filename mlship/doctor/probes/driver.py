"""NVML and the CUDA driver API, called in a separate process: every code, and the libraries' files."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from mlship.doctor.facts.fact import UNKNOWN, Fact, Unknown, Unreadable, known, mapped
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import (
    ComputeMode,
    CudaApi,
    CudaDevice,
    Library,
    Loader,
    Nvml,
    NvmlDevice,
    Place,
    RemappedRows,
    Virtualization,
)
from mlship.doctor.probes.base import Look, placed
from mlship.doctor.probes.files import live
from mlship.driver.answer import (
    DEVICE_COUNT,
    DEVICE_HANDLE,
    LIBCUDA,
    NVML,
    NVML_CUDA_VERSION,
    NVML_INIT,
    DriverAnswer,
    DriverCall,
    LoadedLibrary,
)
from mlship.driver.child import ask_driver
from mlship.driver.codes import code_tables

T = TypeVar("T")

_NOT_FOUND = 12
_INSTANCE = "uuid of a MIG instance"
_ORDINARY = frozenset({NVML_INIT, _INSTANCE, "nvmlDeviceGetMigDeviceHandleByIndex"})
_COMPUTE_MODES: dict[int, ComputeMode] = {0: "Default", 1: "Exclusive_Thread", 2: "Prohibited", 3: "Exclusive_Process"}
_VIRTUAL: dict[int, Virtualization] = {0: "none", 1: "passthrough", 2: "vgpu", 3: "host-vgpu", 4: "host-vsga"}
_ACTIONS = dict(enumerate(("None", "Reset", "Reboot", "Drain P2P", "Drain and Reset", "IMEX", "Bus Reset", "Reboot")))
_ADDRESSING = {0: "None", 1: "HMM", 2: "ATS"}
# Libraries of the driver that CUDA opens when it needs them.
SONAMES = ("libnvidia-ptxjitcompiler.so.1",)
_RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")


def read_nvml(look: Look) -> Facts:
    """Calls NVML as this user."""
    only = _simulated_only(look)
    answer = ask_driver(("nvml", *only), 4.5)
    if answer.refused or (only and NVML in answer.libraries and not answer.libraries[NVML].simulated):
        return Facts()
    return _facts(look, answer, Place(nvml=nvml_facts(answer)))


def read_cuda(look: Look) -> Facts:
    """Calls libcuda as this user; if it reports no device, again without CUDA_VISIBLE_DEVICES."""
    only = _simulated_only(look)
    answer = ask_driver(("cuda", *only, *SONAMES), 5.0)
    if only and not answer.simulated:
        return Facts()
    cuda = cuda_facts(answer)
    if known(cuda.init) and "CUDA_VISIBLE_DEVICES" in os.environ:
        cuda = with_all_devices(cuda, ask_driver(("cuda", "--all-devices", *only), 2.0))
    return _facts(look, answer, Place(cuda=cuda, loader=Loader(resolves=UNKNOWN if only else resolved_files(answer))))


def _simulated_only(look: Look) -> tuple[str, ...]:
    """For another system's folder: only simulated libraries count, because real ones are this machine's."""
    return () if live(look.root) else ("--simulated-only",)


def _facts(look: Look, answer: DriverAnswer, place: Place) -> Facts:
    return replace(placed(look.root, place), simulated=True if answer.simulated else UNKNOWN)


@dataclass(frozen=True)
class DriverFacts:
    """Facts from a driver's answer; each says why it is missing."""

    answer: DriverAnswer

    def call(self, name: str, device: int | None = None) -> DriverCall | Unreadable | Unknown:
        """An answered call, or why it has no answer: it hung, crashed or was not made."""
        answer = self.answer
        if (found := answer.call(name, device)) is not None:
            return found
        if answer.silent:
            return Unreadable(answer.stderr or "the program that asks did not run")
        if answer.pending != (name, device):
            return UNKNOWN
        ended = f"it ended the program that asked: {answer.crashed}"
        return Unreadable("no answer in time" if answer.timed_out else ended)

    def code(self, name: str, device: int | None = None) -> Fact[int]:
        """The return code of a call."""
        return mapped(self.call(name, device), lambda call: call.code)

    def text(self, name: str, device: int | None = None) -> Fact[str]:
        said = self.answer.text(name, device)
        return said if said is not None else mapped(self.call(name, device), _failed)

    def number(self, name: str, device: int | None = None, place: int = 0) -> Fact[int]:
        """One of the numbers that a call gave."""
        number = self.answer.number(name, device, place)
        return number if number is not None else mapped(self.call(name, device), _failed)

    @property
    def hangs_at(self) -> Fact[str]:
        return self._pending if self.answer.timed_out else None

    @property
    def crashes_at(self) -> Fact[str]:
        crashed = self.answer.crashed and not self.answer.silent
        return f"{self._pending} ({self.answer.crashed})" if crashed else None

    @property
    def _pending(self) -> str:
        return self.answer.pending_call or "loading it"


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
        devices=tuple(_nvml_device(found, index) for index in range(count)) if isinstance(count, int) else UNKNOWN,
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


def _nvml_device(found: DriverFacts, index: int) -> NvmlDevice:
    def number(name: str, place: int = 0) -> Fact[int]:
        return found.number(f"nvmlDeviceGet{name}", index, place)

    def text(name: str) -> Fact[str]:
        return found.text(f"nvmlDeviceGet{name}", index)

    def fabric(place: int) -> Fact[int]:
        later = number("GpuFabricInfoV", place)
        return later if isinstance(later, int) else number("GpuFabricInfo", place)

    mig = (call.value for call in found.answer.calls if (call.name, call.device) == (_INSTANCE, index))
    handle = found.call(DEVICE_HANDLE, index)
    if not isinstance(handle, DriverCall):
        return NvmlDevice(index=index, name=handle, codes={})
    return NvmlDevice(
        index=index,
        name=text("Name"),
        uuid=text("UUID"),
        pci_bus_id=text("PciInfo_v3"),
        minor=number("MinorNumber"),
        codes=_codes(found.answer, index),
        compute_capability=_capability(found, index, "nvmlDeviceGetCudaComputeCapability"),
        brand=_named(number("Brand"), code_tables().brand),
        architecture=_named(number("Architecture"), code_tables().architecture),
        memory_total=number("MemoryInfo"),
        memory_used=number("MemoryInfo", 2),
        mig_current=number("MigMode"),
        mig_pending=number("MigMode", 1),
        mig_devices=UNKNOWN if known(number("MigMode")) is None else tuple(one for one in mig if isinstance(one, str)),
        compute_mode=_named(number("ComputeMode"), _COMPUTE_MODES),
        compute_processes=number("ComputeRunningProcesses_v3"),
        persistence_mode=mapped(number("PersistenceMode"), bool),
        ecc_mode=mapped(number("EccMode"), bool),
        uncorrected_ecc=number("TotalEccErrors"),
        remapped_rows=_rows(found, index),
        retired_pages_pending=mapped(number("RetiredPagesPendingStatus"), bool),
        recovery_action=_named(number("FieldValues", 1), _ACTIONS) if number("FieldValues") == 0 else UNKNOWN,
        fabric_state=fabric(0),
        fabric_status=fabric(1),
        virtualization_mode=_named(number("VirtualizationMode"), _VIRTUAL),
        license_status=_licence(found, index),
        gsp_firmware_version=text("GspFirmwareVersion"),
        addressing_mode=_named(number("AddressingMode"), _ADDRESSING),
    )


def _named(fact: Fact[int], names: Mapping[int, T]) -> Fact[T]:
    """The name of a number; unknown if it has none."""
    return mapped(fact, lambda number: names.get(number, UNKNOWN))


def _capability(found: DriverFacts, index: int, call: str) -> Fact[str]:
    return mapped(found.number(call, index), lambda major: f"{major}.{found.number(call, index, 1)}")


def _rows(found: DriverFacts, index: int) -> Fact[RemappedRows]:
    numbers = [found.number("nvmlDeviceGetRemappedRows", index, place) for place in range(4)]
    pending, failure = (mapped(number, bool) for number in numbers[2:])
    return mapped(numbers[0], lambda correctable: RemappedRows(correctable, numbers[1], pending, failure))


def _licence(found: DriverFacts, index: int) -> Fact[str]:
    """Only a virtual GPU is licensed."""
    call = "nvmlDeviceGetGridLicensableFeatures_v4"
    if found.number(call, index) == 0:
        return None
    return mapped(found.number(call, index, 1), lambda state: "Licensed" if state else "Unlicensed")


def with_all_devices(cuda: CudaApi, answer: DriverAnswer) -> CudaApi:
    """The facts, with the answer of a second run that hid no device."""
    return replace(cuda, init_without_visible_devices=DriverFacts(answer).code("cuInit"))


def cuda_facts(answer: DriverAnswer) -> CudaApi:
    """What CUDA reported, wherever `mlship.driver.ask cuda` ran. Pure."""
    found = DriverFacts(answer)
    count = found.number("cuDeviceGetCount")
    runtime = any(name in answer.libraries and not answer.libraries[name].error for name in _RUNTIMES)
    return CudaApi(
        library=library_fact(answer.libraries.get(LIBCUDA)),
        init=found.code("cuInit"),
        driver_version=found.number("cuDriverGetVersion"),
        device_count=count,
        devices=tuple(_cuda_device(found, index) for index in range(count)) if isinstance(count, int) else UNKNOWN,
        runtime_code=found.code("cudaGetDeviceCount") if runtime else UNKNOWN,
        hangs_at=found.hangs_at,
        crashes_at=found.crashes_at,
    )


def resolved_files(answer: DriverAnswer) -> Fact[dict[str, Fact[str]]]:
    """The file of each library that was loaded; null if the loader finds none. Pure."""
    if answer.timed_out or answer.crashed or answer.silent:
        return UNKNOWN
    return {name: None if one.error else one.path or UNKNOWN for name, one in sorted(answer.libraries.items())}


def _cuda_device(found: DriverFacts, ordinal: int) -> CudaDevice:
    return CudaDevice(
        ordinal=ordinal,
        name=found.text("cuDeviceGetName", ordinal),
        uuid=found.text("cuDeviceGetUuid_v2", ordinal),
        compute_capability=_capability(found, ordinal, "cuDeviceGetAttribute"),
        context_code=found.code("cuDevicePrimaryCtxRetain", ordinal),
    )


def _failed(call: DriverCall) -> Unreadable | Unknown | None:
    """Absent if the GPU lacks the feature (3), unknown if the driver lacks the call (13, 500)."""
    if call.code == 3:
        return None
    return UNKNOWN if call.code in {13, 500} else Unreadable(f"{call.name} returns {call.code}")


def library_fact(loaded: LoadedLibrary | None, version: str | None = None) -> Fact[Library]:
    """The file that a name resolved to; absent if the loader finds none.

    Args:
        version: of the driver, as the library itself reports it; used if the file name has none.
    """
    if loaded is None:
        return UNKNOWN
    if not loaded.error:
        if loaded.path is None:
            return Unreadable("its file was not found")
        return _library(loaded.path, loaded.mounted, loaded.version or version)
    # The loader names a file that it found and could not use: a broken one, or one for another processor.
    found = re.match(r"(/[^:]+): (?!cannot open shared object file: No such file)", loaded.error)
    return _library(found[1], None, None) if found else None


def driver_version_of(path: str) -> str | None:
    """The driver's version in a file name: 550.54.15 in libcuda.so.550.54.15, none in libnvidia-egl.so.1.1.13."""
    found = re.search(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$", path)
    return found[1] if found else None


def _library(path: str, mounted: bool | None, version: str | None) -> Library:
    named = driver_version_of(path) or version
    return Library(path, named or UNKNOWN, UNKNOWN if mounted is None else mounted)
