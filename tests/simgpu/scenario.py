"""What a simulated GPU host answers: a value, written as the file that scenario.h reads."""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

MIB = 1024**2
SOURCES = Path(__file__).parent
LIBRARIES = {"libnvidia-ml.so": "nvml.c", "libcuda.so": "cuda.c"}
_EXPORTED = re.compile(r"^(?:EXPORT )?int (nvml\w+|cu[A-Z]\w+)\(", re.MULTILINE)
_FAULT = re.compile(r"(?:return|exit) (\w+)(?:/\d+)? \d+|(?:hang|abort) (\w+)(?:/\d+)?")


def calls(source: str) -> frozenset[str]:
    """The calls with a result that a library of LIBRARIES has, by its source file."""
    return frozenset(_EXPORTED.findall((SOURCES / source).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Instance:
    """A MIG device, a part of the GPU that lists it."""

    name: str
    uuid: str
    memory: int
    gpu_instance: int
    compute_instance: int = 0


@dataclass(frozen=True)
class Device:
    """A GPU. None stands for what it does not have: NVML then answers "not supported".

    Attributes:
        memory: bytes, `reserved` included, which cannot be allocated.
        pci_device_id: PCI's device and vendor numbers as NVML has them: device first.
        compute_mode: 0 default, 2 prohibited, 3 one process.
        fabric_state: 1 not started, 2 in progress, 3 completed.
        mig: Multi-Instance GPU is on or off.
    """

    name: str
    cc_major: int
    cc_minor: int
    architecture: int
    brand: int
    memory: int
    pci_device_id: int
    uuid: str = "GPU-00000000-0000-4000-8000-000000000000"
    pci: str = "00000000:00:04.0"
    pci_subsystem_id: int = 0
    minor: int = 0
    reserved: int = 256 * MIB
    persistence: int | None = 1
    compute_mode: int | None = 0
    ecc: int | None = None
    ecc_corrected: int = 0
    ecc_uncorrected: int = 0
    retired_pending: int | None = None
    remapped_correctable: int = 0
    remapped_uncorrectable: int = 0
    remapped_pending: int | None = None
    remapped_failed: int = 0
    fabric_state: int | None = None
    fabric_status: int = 0
    fabric_health: int = 0
    virtualization: int | None = 0
    mig: bool | None = None
    most_instances: int = 7
    instances: tuple[Instance, ...] = ()

    def numbered(self, index: int) -> "Device":
        """The same kind of GPU in another place: uuid, PCI bus and minor number of its own."""
        uuid = f"{self.uuid[:-4]}{index:04d}"
        return replace(self, uuid=uuid, pci=f"00000000:{index:02X}:04.0", minor=index)


@dataclass(frozen=True)
class Scenario:
    """A GPU host.

    Attributes:
        cuda: what libcuda says, such as 12020; NVML asks it, as the real one does.
        nvml_cuda: what NVML says of its own accord.
        branch: of the driver; NVML of drivers before 560 cannot tell.
        faults: "return CALL CODE", "exit CALL CODE", "hang CALL" or "abort CALL"; "CALL/1" is the call for GPU 1 only.
    """

    driver: str
    cuda: int
    devices: tuple[Device, ...]
    branch: str = ""
    nvml_cuda: int | None = None
    faults: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = frozenset[str]().union(*map(calls, LIBRARIES.values()))
        for fault in self.faults:
            match = _FAULT.fullmatch(fault)
            if match is None or (match[1] or match[2]) not in known:
                raise ValueError(f"not a fault: {fault}")

    def but(self, *faults: str) -> "Scenario":
        """The same host with faults."""
        return replace(self, faults=self.faults + faults)

    def only(self, index: int) -> "Scenario":
        """What a container sees that is given one GPU."""
        return replace(self, devices=(self.devices[index],))

    def text(self) -> str:
        """The scenario file."""
        head = [f"driver {self.driver}", f"cuda {self.cuda}", f"nvml_cuda {self.nvml_cuda or 0}"]
        branch = [f"branch {self.branch}"] if self.branch else []
        lines = [line for device in self.devices for line in _device_lines(device)]
        return "\n".join([*head, *branch, *lines, *self.faults]) + "\n"


def _device_lines(device: Device) -> list[str]:
    parts = [line for part in device.instances for line in ("instance", *_lines(part))]
    return ["device", *_lines(device), *parts]


def _lines(described: Device | Instance) -> list[str]:
    values = {field.name: getattr(described, field.name) for field in fields(described) if field.name != "instances"}
    return [f"{key} {_word(value)}" for key, value in values.items()]


def _word(value: str | int | None) -> str:
    if value is None:
        return "-1"
    return value if isinstance(value, str) else str(int(value))


# Names, capabilities, memory and PCI numbers are those of the real products; uuids and places are made up.
_DATACENTER, _GEFORCE = 14, 5
T4 = Device("Tesla T4", 7, 5, 6, _DATACENTER, 15360 * MIB, 0x1EB810DE, ecc=1, retired_pending=0)
A100 = Device(
    "NVIDIA A100-SXM4-40GB", 8, 0, 7, _DATACENTER, 40960 * MIB, 0x20B010DE, ecc=1, remapped_pending=0, mig=False
)
H100 = Device(
    *("NVIDIA H100 80GB HBM3", 9, 0, 9, _DATACENTER, 81559 * MIB, 0x233010DE),
    ecc=1,
    remapped_pending=0,
    fabric_state=3,
    mig=False,
)
L40S = Device("NVIDIA L40S", 8, 9, 8, _DATACENTER, 46068 * MIB, 0x26B910DE, ecc=1, remapped_pending=0)
RTX_5090 = Device("NVIDIA GeForce RTX 5090", 12, 0, 10, _GEFORCE, 32607 * MIB, 0x2B8510DE)
GTX_1080_TI = Device("NVIDIA GeForce GTX 1080 Ti", 6, 1, 4, _GEFORCE, 11264 * MIB, 0x1B0610DE)
H100_MIG = replace(
    H100,
    mig=True,
    instances=tuple(
        Instance(
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb", f"MIG-00000000-0000-5000-8000-00000000000{n}", 9984 * MIB, 7 + 2 * n
        )
        for n in range(2)
    ),
)

T4_HOST = Scenario("535.183.01", 12020, (T4,))
A100_HOST = Scenario("550.54.15", 12040, (A100.numbered(0), A100.numbered(1)))
H100_HOST = Scenario("580.95.05", 13000, (H100,), branch="r580_00")
H100_MIG_HOST = Scenario("580.95.05", 13000, (H100_MIG,), branch="r580_00")
L40S_HOST = Scenario("550.90.07", 12040, (L40S,))
RTX_5090_HOST = Scenario("570.86.15", 12080, (RTX_5090,), branch="r570_00")
GTX_1080_TI_HOST = Scenario("580.65.06", 13000, (GTX_1080_TI,), branch="r580_00")
HOSTS = {
    "t4": T4_HOST,
    "a100": A100_HOST,
    "h100": H100_HOST,
    "h100-mig": H100_MIG_HOST,
    "l40s": L40S_HOST,
    "rtx-5090": RTX_5090_HOST,
    "gtx-1080-ti": GTX_1080_TI_HOST,
}
