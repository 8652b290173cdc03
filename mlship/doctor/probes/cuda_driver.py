"""The CUDA driver API, asked in a process of its own: codes, a context, and which file libcuda is."""

import os
from dataclasses import dataclass, replace

from mlship.doctor.facts.fact import UNKNOWN, Fact, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaApi, CudaDevice, Loader, Place
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.child import ChildResult, run_inside
from mlship.doctor.probes.told import Told, library_fact, told
from mlship.doctor.probes.where import live, placed

LIBRARY = "libcuda.so.1"
# Libraries of the driver that CUDA opens when it needs them.
SONAMES = ("libnvidia-ptxjitcompiler.so.1",)
_RUNTIMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_CONTEXT = "cuDevicePrimaryCtxRetain"


@dataclass(frozen=True)
class CudaProbe:
    """Asks libcuda as this user does; where it sees no device, again without CUDA_VISIBLE_DEVICES."""

    name: str = "cuda"
    seconds: float = 8.0
    limit: float = 5.0

    def read(self, look: Look) -> Facts:
        only = () if live(look.root) else ("--simulated-only",)
        found = told(run_inside("gpu", ("cuda", *only, *SONAMES), self.limit))
        if only and not any(library.simulated for library in found.libraries.values()):
            return Facts()
        cuda = self._again(cuda_of(found), only)
        resolves = resolves_of(found) if not only else UNKNOWN
        facts = placed(look.root, Place(cuda=cuda, loader=Loader(resolves=resolves)))
        simulated = any(library.simulated for library in found.libraries.values())
        return Facts(simulated=True if simulated else UNKNOWN, host=facts.host, container=facts.container)

    def _again(self, cuda: CudaApi, only: tuple[str, ...]) -> CudaApi:
        if not known(cuda.init) or "CUDA_VISIBLE_DEVICES" not in os.environ:
            return cuda
        found = told(run_inside("gpu", ("cuda", "--all-devices", *only), 2.0))
        return replace(cuda, init_without_visible_devices=found.code("cuInit"))


def read_cuda(ended: ChildResult) -> tuple[CudaApi, Fact[dict[str, Fact[str]]]]:
    """CUDA and `loader.resolves`, from the program `inside.gpu cuda` wherever it ran."""
    found = told(ended)
    return cuda_of(found), resolves_of(found)


def cuda_of(found: Told) -> CudaApi:
    """What CUDA said. Pure."""
    loaded = found.libraries.get(LIBRARY)
    count = found.number("cuDeviceGetCount")
    runtime = any(name in found.libraries and not found.libraries[name].error for name in _RUNTIMES)
    return CudaApi(
        library=library_fact(loaded),
        init=found.code("cuInit"),
        driver_version=found.number("cuDriverGetVersion"),
        device_count=count,
        devices=UNKNOWN if known(count) is None else tuple(_device(found, index) for index in range(known(count) or 0)),
        runtime_code=found.code("cudaGetDeviceCount") if runtime else UNKNOWN,
        hangs_at=found.hangs_at,
        crashes_at=found.crashes_at,
    )


def resolves_of(found: Told) -> Fact[dict[str, Fact[str]]]:
    """Which file each library is that was to be loaded; null where the loader finds none. Pure."""
    if found.how or found.failure:
        return UNKNOWN
    return {name: None if loaded.error else loaded.path or UNKNOWN for name, loaded in sorted(found.libraries.items())}


def _device(found: Told, ordinal: int) -> CudaDevice:
    call = "cuDeviceGetAttribute"
    major, minor = found.number(call, ordinal), found.number(call, ordinal, 1)
    return CudaDevice(
        ordinal=ordinal,
        name=found.text("cuDeviceGetName", ordinal),
        uuid=found.text("cuDeviceGetUuid_v2", ordinal),
        compute_capability=f"{major}.{minor}" if isinstance(major, int) else major,
        context_code=found.code(_CONTEXT, ordinal),
    )
