"""Questions that several rules ask of the facts. Pure; unknown facts answer None, False or an empty value."""

import re
from collections.abc import Iterator
from functools import cache
from shlex import quote
from typing import TypeAlias

from mlship.cuda.tables.lookup import tables
from mlship.doctor.facts.fact import UNKNOWN, Fact, each, entry, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import ToolkitConfig
from mlship.doctor.facts.kernel import PciDevice
from mlship.doctor.facts.kubernetes import Kubernetes, Pod
from mlship.doctor.facts.place import DeviceNode, NvmlDevice, Place
from mlship.doctor.finding import Evidence, Where
from mlship.driver import codes
from mlship.versioned import data_table

Places: TypeAlias = tuple[tuple[Where, Place], ...]

NVIDIA = "10de"
_DRIVER_ROOTS = ("/run/nvidia/driver", "/home/kubernetes/bin/nvidia", "/run/opengl-driver/lib")
_PASSES_ON = frozenset({"vfio-pci", "pci-stub", "xen-pciback", "pciback"})
SAYS_WHY = re.compile(r"(?i)fail|error|cannot|unable|denied|lost|unhealthy|panic")
_DRIVER_PACKAGE = re.compile(
    r"nvidia-(driver|dkms|kernel|open|headless|utils|compute|gfx|lts|drivers)|libnvidia-(compute|ml)|libcuda1$|"
    r"(akmod|kmod|xorg-x11-drv)-nvidia|cuda-drivers|linux-modules-nvidia|nvidia$"
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "amd64": "amd64", "arm64": "arm64"}
# Codes of nvmlInit that come before it reaches the GPUs: permissions, no driver, no library, version mismatch.
_BEFORE_GPUS = frozenset({4, 9, 12, 18})
PRE_TURING = frozenset({"Fermi or older", "Fermi", "Kepler", "Maxwell", "Pascal", "Volta"})


def places(facts: Facts) -> Places:
    """The host and the container, to ask both the same question."""
    return (("host", facts.host), ("container", facts.container))


def kernel_driver(facts: Facts) -> str | None:
    """The version of the loaded nvidia module."""
    module = known(looked_up(facts.kernel.modules, "nvidia"))
    return known(facts.kernel.nvidia.version) or (known(module.version) if module else None)


def driver_cuda(facts: Facts) -> str | None:
    """The CUDA version that the host's driver reports, such as "12.2"."""
    version = known(facts.host.cuda.driver_version) or known(facts.host.nvml.cuda_driver_version)
    return f"{version // 1000}.{version % 1000 // 10}" if version else None


def module_is_loaded(facts: Facts) -> bool | None:
    """The nvidia module is loaded; None if that is unknown."""
    module = looked_up(facts.kernel.modules, "nvidia")
    if known(module) or known(facts.kernel.nvidia.version):
        return True
    return False if is_absent(module) or is_absent(facts.kernel.nvidia.version) else None


def gpus(facts: Facts) -> tuple[PciDevice, ...]:
    """NVIDIA GPUs on the PCI bus that this host uses (no NVSwitches, audio devices, or GPUs passed to VMs)."""
    return tuple(device for device in _nvidia(facts) if known(device.driver) not in _PASSES_ON)


@cache
def needs_open_module() -> frozenset[str]:
    """The generations that only the open kernel module supports."""
    return frozenset(row.name for row in tables().gpus.architectures if row.open_modules == "required")


def only_displays(facts: Facts, gpu: PciDevice) -> bool:
    """A card that no driver of today supports, or none that drives the GPUs beside it."""
    name, used = architecture(gpu) or "", [architecture(one) for one in gpus(facts) if known(one.driver) == "nvidia"]
    barred = name in PRE_TURING and not needs_open_module().isdisjoint(used)
    return bool(used) and (name.startswith(("Fermi", "Kepler")) or barred)


def describe(gpu: PciDevice) -> str:
    return f"{known(gpu.name) or 'NVIDIA GPU'} at {known(gpu.address) or 'an unknown address'}"


def nvml_counts_all(facts: Facts) -> bool | None:
    """NVML on the host counts every GPU on the bus; None if that is unknown."""
    nvml, code = facts.host.nvml, known(facts.host.nvml.init)
    count = known(nvml.device_count)
    if count is None:
        return None if code in {None, 0, 12, 18} else False
    return count >= len(gpus(facts)) - excluded(facts) > 0


def excluded(facts: Facts) -> int:
    """How many GPUs NVreg_ExcludedGpus keeps from NVML, which counts others: that is intended and no failure."""
    named = (known(facts.kernel.nvidia.params) or {}).get("ExcludedGpus", known(facts.kernel.cmdline) or "")
    listed = {known(device.uuid) for device in each(facts.host.nvml.devices)}
    return len({*re.findall(r"GPU-[\w-]+", named)} - listed) if known(facts.host.nvml.device_count) else 0


def passed_on(facts: Facts) -> tuple[PciDevice, ...]:
    """NVIDIA GPUs that this host reserves for virtual machines, which is intended and no failure."""
    return tuple(device for device in _nvidia(facts) if known(device.driver) in _PASSES_ON)


def _nvidia(facts: Facts) -> tuple[PciDevice, ...]:
    return tuple(
        device
        for device in each(facts.kernel.pci)
        if known(device.vendor) == NVIDIA and (known(device.class_code) or "03").startswith("03")
    )


@cache
def _chips() -> tuple[tuple[int, str], ...]:
    """First PCI device id and generation of each range of chips, in ascending order."""
    rows = data_table(dict[str, list[dict[str, int | str]]], "pci")["chips"]
    return tuple((int(row["first"]), str(row["generation"])) for row in rows)


def architecture(device: PciDevice) -> str | None:
    """The generation of a GPU on the bus, from the facts or its device id."""
    recorded, device_id = known(device.architecture), known(device.device)
    if recorded or device_id is None or not re.fullmatch("[0-9a-fA-F]{4}", device_id):
        return recorded
    return [name for first, name in _chips() if first <= int(device_id, 16)][-1]


def is_wsl(facts: Facts) -> bool:
    """This is WSL2, where the driver is in Windows."""
    wsl = facts.host.wsl
    return known(wsl if is_known(wsl) else node(facts.host, "/dev/dxg")) is not None


def is_ubuntu(facts: Facts) -> bool:
    """Ubuntu or a distribution made from it, or unknown."""
    return "ubuntu" in f"{known(facts.host.os.id) or 'ubuntu'} {known(facts.host.os.like) or ''}"


def is_tegra(facts: Facts) -> bool:
    """This is a Jetson, which has neither PCI GPUs nor, on older releases, NVML."""
    return known(facts.host.tegra) is not None


def driver_is_contained(facts: Facts) -> bool:
    """The driver's user space is outside the host's loader path by design (GPU Operator, GKE, NixOS)."""
    roots = (known(looked_up(facts.host.paths, path)) for path in _DRIVER_ROOTS)
    return any(roots) or known(toolkit_config(facts).root) == "/run/nvidia/driver"


def gpu_is_known_absent(facts: Facts) -> bool:
    """The PCI bus was read and has no NVIDIA GPU, and nothing else points to one."""
    if is_wsl(facts):
        return wsl_lacks_nvidia(facts) and known(facts.host.cuda.init) != 0
    if gpus(facts) or not isinstance(known(facts.kernel.pci), tuple) or is_tegra(facts):
        return False
    answers = (place.nvml.init for _, place in places(facts))
    return module_is_loaded(facts) is not True and all(known(answer) != 0 for answer in answers)


def node(place: Place, path: str) -> Fact[DeviceNode]:
    return looked_up(place.device_nodes, path)


def variable(place: Place, name: str) -> Fact[str]:
    """An environment variable; absent if it is unset."""
    return entry(place.env, name)


def log_line(facts: Facts, pattern: str) -> str | None:
    """The last line of the kernel log that matches."""
    return next((line for line in reversed(each(facts.kernel.log)) if re.search(pattern, line)), None)


def logged(facts: Facts, pattern: str) -> Evidence | None:
    """The last line of the kernel log that matches, as evidence."""
    return _last((("kernel.log", line) for line in each(facts.kernel.log)), pattern)


def log_match(facts: Facts, pattern: str) -> Evidence | None:
    """The first match in the whole kernel log, as evidence: a pattern with "(?m)" may look at later lines."""
    found = re.search(pattern, "\n".join(each(facts.kernel.log)))
    return Evidence("kernel.log", found[0].strip()) if found else None


def brands(facts: Facts) -> tuple[str, ...]:
    """Brands of the GPUs as NVML reports them on the host or in the container, sorted."""
    listed = (known(device.brand) for _, place in places(facts) for device in each(place.nvml.devices))
    return tuple(sorted({brand for brand in listed if brand is not None}))


def nvml_returns(facts: Facts, pattern: str) -> tuple[Evidence, ...]:
    """Where NVML returns a code that matches, for one device or for all."""
    found = []
    for where, place in places(facts):
        if (code := known(place.nvml.init)) and re.fullmatch(pattern, str(code)):
            found.append(Evidence(f"{where}.nvml.init", codes.nvml(code)))
        for device in each(place.nvml.devices):
            answers = sorted((known(device.codes) or {}).items())
            first = next(((call, code) for call, code in answers if re.fullmatch(pattern, str(code))), None)
            if first:
                value = f"{gpu_label(device)}: {first[0]} = {codes.nvml(first[1])}"
                found.append(Evidence(f"{where}.nvml.devices", value))
    return tuple(found)


def upgrades(facts: Facts) -> tuple[Evidence, ...]:
    """The driver's packages that changed after boot."""
    boot = known(facts.kernel.boot_time)
    changes = [
        f"{known(change.at)} {known(change.package)} {known(change.old)} -> {known(change.new)}"
        for change in each(facts.host.packages.history)
        if boot and (known(change.at) or "") > boot and "nvidia" in (known(change.package) or "")
    ]
    return tuple(Evidence("host.packages.history", line) for line in changes[-2:])


def host_architecture(facts: Facts) -> str | None:
    """The processor as images name it; None if it is unknown."""
    return _ARCHITECTURES.get(known(facts.host.os.arch) or "")


def packages_of_driver(facts: Facts) -> tuple[str, ...]:
    """The installed packages of NVIDIA's driver, sorted."""
    return tuple(sorted(filter(_DRIVER_PACKAGE.match, known(facts.host.packages.installed) or {})))


def gpu_label(device: NvmlDevice) -> str:
    return f"GPU {known(device.pci_bus_id) or known(device.uuid) or known(device.index)}"


def cuda_returns(facts: Facts, pattern: str) -> tuple[Evidence, ...]:
    """Where CUDA returns a code that matches."""
    fitting = ((fact, code) for fact, code in cuda_codes(facts) if re.fullmatch(pattern, str(code)))
    return tuple(Evidence(fact, codes.cuda(code)) for fact, code in fitting)


def all_answer(facts: Facts) -> bool | None:
    """NVML on the host counts every GPU on the bus and lost none; None if it did not get that far, or is unknown."""
    nvml = facts.host.nvml
    count, code = known(nvml.device_count), known(nvml.init)
    if code in _BEFORE_GPUS or (count is None and not code):
        return None
    if count is None or code:
        return False
    lost = any(15 in (known(device.codes) or {}).values() for device in each(nvml.devices))
    return not lost and count >= len(gpus(facts)) - excluded(facts)


def cuda_codes(facts: Facts) -> tuple[tuple[str, int], ...]:
    """Every CUDA return code other than 0, with the name of its fact."""
    found: list[tuple[str, Fact[int]]] = []
    for where, place in places(facts):
        found += [(f"{where}.cuda.init", place.cuda.init), (f"{where}.cuda.runtime_code", place.cuda.runtime_code)]
        for device in each(place.cuda.devices):
            found += [(f"{where}.cuda.devices", device.context_code), (f"{where}.cuda.devices", device.kernel_code)]
    return tuple((name, code) for name, fact in found if (code := known(fact)))


def wsl_lacks_nvidia(facts: Facts) -> bool:
    """WSL2 with adapters, none of which is from NVIDIA."""
    wsl = known(facts.host.wsl)
    folders = known(wsl.drivers) if wsl else None
    return folders is not None and not any(folder.lower().startswith("nv") for folder in folders)


def cluster(facts: Facts) -> Kubernetes:
    """This node of a cluster; everything is unknown if it is none."""
    return known(facts.kubernetes) or Kubernetes()


def toolkit_config(facts: Facts) -> ToolkitConfig:
    """The toolkit's config.toml; everything is unknown without it."""
    return known(facts.host.toolkit.config) or ToolkitConfig()


def pods(facts: Facts) -> tuple[Pod, ...]:
    return each(cluster(facts).pods)


def pods_of(facts: Facts, role: str) -> tuple[Pod, ...]:
    """The pods of this node that have a role, such as "driver"."""
    return tuple(pod for pod in pods(facts) if known(pod.role) == role)


def pod_name(pod: Pod) -> str:
    """The pod, for a command of kubectl."""
    return f"-n {quote(known(pod.namespace) or 'NAMESPACE')} {quote(known(pod.name) or 'POD')}"


def device_plugin(facts: Facts) -> str:
    """The device plugin's pod on this node, for a command of kubectl."""
    return next(map(pod_name, pods_of(facts, "device-plugin")), "-n NAMESPACE DEVICE-PLUGIN-POD")


def nvidia_resources(resources: Fact[dict[str, int]]) -> dict[str, int]:
    """NVIDIA's among the resources of a pod or a node, sorted."""
    return {name: count for name, count in sorted((known(resources) or {}).items()) if name.startswith("nvidia.com/")}


def node_offers(facts: Facts) -> dict[str, int]:
    """What the node offers to pods; empty if that is unknown."""
    return known(cluster(facts).allocatable) or {}


def trouble_of(pod: Pod) -> str:
    """Why a pod does not do its work: Kubernetes' reason, and the last line of its log that says why."""
    why = next((line for line in reversed(each(pod.log)) if SAYS_WHY.search(line)), "")
    state = known(pod.reason) or ("" if known(pod.ready) else "not ready")
    return ": ".join(filter(None, (state, why.strip())))


def failing_pod(facts: Facts, role: str) -> str | None:
    """The first pod of this role with trouble, in words."""
    found = ((known(pod.name), trouble_of(pod)) for pod in pods_of(facts, role))
    return next((f"pod {name}: {trouble}" for name, trouble in found if trouble), None)


def fact_at(facts: Facts, path: str) -> object:
    """The value at a path such as "host.nvml.init"; UNKNOWN if a group on the way is unknown."""
    value: object = facts
    for part in path.split("."):
        value = value.get(part, UNKNOWN) if isinstance(value, dict) else getattr(value, part, UNKNOWN)
    return value


def has_fact(facts: Facts, path: str) -> bool:
    """The fact is known, even if absent. "place." is the host or the container; " | " separates alternatives."""
    if " | " in path:
        return any(has_fact(facts, one) for one in path.split(" | "))
    if path.startswith("place."):
        return any(has_fact(facts, f"{where}{path[5:]}") for where in ("host", "container"))
    return is_known(fact_at(facts, path))


def serves_vms(facts: Facts) -> bool:
    """The driver is that of vGPU hosts, which has no CUDA: it gives parts of the GPUs to virtual machines."""
    return any(known(device.virtualization_mode) == "host-vgpu" for device in each(facts.host.nvml.devices))


def offers_passed_gpus(facts: Facts) -> bool:
    """All GPUs are for virtual machines, and the node offers them to pods that are such (Kata, KubeVirt).

    Their resource has the GPU's name, or is nvidia.com/pgpu; nvidia.com/gpu and MIG's need the driver here.
    """
    passed = any(count and not re.match(r"nvidia\.com/(gpu|mig-)", name) for name, count in node_offers(facts).items())
    return passed and bool(passed_on(facts)) and not gpus(facts)


def recorded_line(facts: Facts, pattern: str) -> Evidence | None:
    """The last matching line of the engine's error, pod logs, Kubernetes events and the toolkit's log."""
    return _last(_recorded(facts), pattern)


def reported_line(facts: Facts, pattern: str) -> Evidence | None:
    """The last matching line that a user reported."""
    return _last((("messages", line) for line in each(facts.messages)), pattern)


def line_of(facts: Facts, pattern: str) -> Evidence | None:
    """A recorded line if one matches, otherwise a reported one."""
    return recorded_line(facts, pattern) or reported_line(facts, pattern)


def _last(lines: Iterator[tuple[str, str]], pattern: str) -> Evidence | None:
    fits = [Evidence(fact, line.strip()) for fact, line in lines if re.search(pattern, line)]
    return fits[-1] if fits else None


def _recorded(facts: Facts) -> Iterator[tuple[str, str]]:
    yield from (("host.toolkit.log", line) for line in each(facts.host.toolkit.log))
    for pod in pods(facts):
        yield from ((f"kubernetes.pods {known(pod.name) or ''}".strip(), line) for line in each(pod.log))
    yield from (("kubernetes.events", line) for line in each(cluster(facts).events))
    if asked := known(facts.pod):
        yield from (("pod", line) for line in (*each(asked.not_started), *each(asked.ended), known(asked.reason) or ""))
    if error := known(facts.container.error):
        yield "container.error", error
