"""The CUDA driver API, called in a process of its own: codes, a context, and the file of libcuda."""

import os
from dataclasses import replace

from mlship.doctor.facts.fact import UNKNOWN, Fact, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaApi, CudaDevice, Loader, Place
from mlship.doctor.probes.base import Look, Probe
from mlship.doctor.probes.driver_facts import DriverFacts, library_fact
from mlship.doctor.probes.where import live, placed
from mlship.driver.answer import LIBCUDA, DriverAnswer
from mlship.driver.child import ask_driver

# Libraries of the driver that CUDA opens when it needs them.
SONAMES = ("libnvidia-ptxjitcompiler.so.1",)
_RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_CONTEXT = "cuDevicePrimaryCtxRetain"


class CudaProbe(Probe):
    """Calls libcuda as this user; if it reports no device, again without CUDA_VISIBLE_DEVICES."""

    name = "cuda"
    seconds = 8.0
    limit = 5.0

    def read(self, look: Look) -> Facts:
        only = () if live(look.root) else ("--simulated-only",)
        answer = ask_driver(("cuda", *only, *SONAMES), self.limit)
        if only and not answer.simulated:
            return Facts()
        cuda = self._without_hiding(cuda_facts(answer), only)
        resolves = resolved_files(answer) if not only else UNKNOWN
        facts = placed(look.root, Place(cuda=cuda, loader=Loader(resolves=resolves)))
        simulated = True if answer.simulated else UNKNOWN
        return Facts(simulated=simulated, host=facts.host, container=facts.container)

    def _without_hiding(self, cuda: CudaApi, only: tuple[str, ...]) -> CudaApi:
        if not known(cuda.init) or "CUDA_VISIBLE_DEVICES" not in os.environ:
            return cuda
        return with_all_devices(cuda, ask_driver(("cuda", "--all-devices", *only), 2.0))


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
        devices=tuple(_device(found, index) for index in range(count)) if isinstance(count, int) else UNKNOWN,
        runtime_code=found.code("cudaGetDeviceCount") if runtime else UNKNOWN,
        hangs_at=found.hangs_at,
        crashes_at=found.crashes_at,
    )


def resolved_files(answer: DriverAnswer) -> Fact[dict[str, Fact[str]]]:
    """The file of each library that was loaded; null if the loader finds none. Pure."""
    if answer.timed_out or answer.crashed or answer.silent:
        return UNKNOWN
    return {name: None if one.error else one.path or UNKNOWN for name, one in sorted(answer.libraries.items())}


def _device(found: DriverFacts, ordinal: int) -> CudaDevice:
    call = "cuDeviceGetAttribute"
    major, minor = found.number(call, ordinal), found.number(call, ordinal, 1)
    return CudaDevice(
        ordinal=ordinal,
        name=found.text("cuDeviceGetName", ordinal),
        uuid=found.text("cuDeviceGetUuid_v2", ordinal),
        compute_capability=f"{major}.{minor}" if isinstance(major, int) else major,
        context_code=found.code(_CONTEXT, ordinal),
    )
