"""The links of the host: from the GPU on the bus to CUDA. Each yields the symptoms that break it, or its state."""

import re
from collections.abc import Iterator
from typing import TypeAlias

from mlship.doctor.chain.link import Answer, Symptom, it_holds, not_applicable, unknown
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import CudaApi, Nvml, NvmlDevice, Place
from mlship.doctor.finding import Where
from mlship.doctor.queries import (
    NVIDIA,
    driver_is_contained,
    excluded,
    gpu_is_known_absent,
    gpus,
    is_tegra,
    is_wsl,
    kernel_driver,
    log_line,
    module_is_loaded,
    node,
    node_offers,
    only_displays,
    passed_on,
    serves_vms,
    variable,
)
from mlship.doctor.versions import same
from mlship.driver import codes
from mlship.units import count_of, few

LinkLook: TypeAlias = Iterator[Symptom | Answer]
# Codes of NVML calls on one device; others, such as 3 (not supported), are normal.
_DEVICE_FAILS = {4, 8, 9, 10, 11, 14, 15, 16, 17, 28, 999}
_NOT_LOADED, LACKS_NVML = 9, 12
_NO_PERMISSION = 4  # in MIG mode, only root may read figures of the whole GPU
_FABRIC_WAITS = {1: "has not started", 2: "is not complete"}
_REFUSES_MODULE = r"is rejected|nvidia\w*: (Unknown|disagrees|version m)|unsigned|NVRM.*not supported by"
_GPU_NODE = re.compile(r"/dev/nvidia[0-9]+")


def and_sees(count: int | None) -> str:
    return "" if count is None else f" and sees {count_of(count, 'GPU')}"


def off_bus(facts: Facts) -> LinkLook:
    """Why the links of the bus and the kernel do not apply, if they do not."""
    if is_wsl(facts):
        yield not_applicable("the driver is in Windows")
    if is_tegra(facts):
        yield not_applicable("a Jetson's GPU is not on the PCI bus")


def gpu_on_bus(facts: Facts) -> LinkLook:
    if (wsl := known(facts.host.wsl)) and known(wsl.drivers) is not None and gpu_is_known_absent(facts):
        yield Symptom("bus.none", "host", "Windows exposes no NVIDIA GPU to WSL")
    if wsl and is_absent(node(facts.host, "/dev/dxg")):
        yield Symptom("bus.none", "host", "/dev/dxg is missing, through which WSL reaches the GPU")
    yield from off_bus(facts)
    here, reserved = gpus(facts), passed_on(facts)
    for gpu in here:
        if known(gpu.revision) == "ff":
            yield Symptom("bus.silent", "host", f"the GPU at {known(gpu.address)} does not answer (revision ff)")
    if known(facts.kernel.pci) is not None and not any(known(one.vendor) == NVIDIA for one in each(facts.kernel.pci)):
        yield Symptom("bus.none", "host", "the PCI bus has no NVIDIA GPU")
    if here or reserved:
        names = sorted({known(gpu.name) or "NVIDIA GPU" for gpu in (*here, *reserved)})
        yield it_holds(f"{count_of(len(here) + len(reserved), 'GPU')}: {', '.join(names)}")


def gpu_bound(facts: Facts) -> LinkLook:
    yield from off_bus(facts)
    here, reserved = gpus(facts), passed_on(facts)
    if reserved and not here:
        drivers = ", ".join(sorted({str(known(gpu.driver)) for gpu in reserved}))
        yield Symptom("bound.reserved", "host", f"every GPU is bound to {drivers}: reserved for virtual machines")
    for gpu in here:
        driver = known(gpu.driver)
        if only_displays(facts, gpu):
            continue
        if driver not in {None, "nvidia"}:
            yield Symptom("bound.other", "host", f"the GPU at {known(gpu.address)} is bound to {driver}")
        elif is_absent(gpu.driver) and module_is_loaded(facts):
            why = log_line(facts, r"probe routine failed|RmInitAdapter|NVRM.*not supported by")
            seen = f"no driver is bound to the GPU at {known(gpu.address)}"
            yield Symptom("bound.none", "host", f"{seen}: {why}" if why else seen)
    bound = [gpu for gpu in here if known(gpu.driver) == "nvidia"]
    if bound:
        yield it_holds(f"{count_of(len(bound), 'GPU')} bound to nvidia")
    elif any(is_absent(gpu.driver) for gpu in here):
        yield unknown("no driver is bound: see the module")


def module_loaded(facts: Facts) -> LinkLook:
    yield from off_bus(facts)
    version, flavour = kernel_driver(facts), known(facts.kernel.nvidia.flavour)
    loaded = module_is_loaded(facts)
    if loaded is False or (loaded is None and known(facts.host.nvml.init) == _NOT_LOADED):
        why = log_line(facts, _REFUSES_MODULE) or log_line(facts, "routine failed")
        yield Symptom("module.none", "host", f"the nvidia module is not loaded{f': {why}' if why else ''}")
    for name in ("nvidia_uvm", "nvidia_modeset", "nvidia_drm"):
        module = known(looked_up(facts.kernel.modules, name))
        other = known(module.version) if module else None
        if other and version and not same(other, version):
            yield Symptom("module.mixed", "host", f"{name} has version {other}, nvidia {version}")
    if loaded:
        yield it_holds(f"nvidia {version or ''} is loaded{f' ({flavour} module)' if flavour else ''}")


def device_nodes(facts: Facts) -> LinkLook:
    yield from off_bus(facts)
    yield from nodes_of("host", facts.host)


def nodes_of(where: Where, place: Place) -> LinkLook:
    """The nodes that every GPU needs, and whether they open."""
    table = known(place.device_nodes) or {}
    elsewhere = denied_gpus(place)
    for path, fact in sorted(table.items()):
        node = known(fact)
        if is_absent(fact) and path in {"/dev/nvidiactl", "/dev/nvidia-uvm"}:
            yield Symptom("node.missing", where, f"{path} is missing")
        answer = known(node.open) if node and path.startswith("/dev/nvidia") and path not in elsewhere else None
        if answer not in {None, "ok"}:
            yield Symptom(f"node.{answer}", where, f"opening {path} fails: {answer}")
    cards = [fact for path, fact in table.items() if _GPU_NODE.fullmatch(path)]
    if cards and all(is_absent(fact) for fact in cards):
        yield Symptom("node.missing", where, "there is no node of a GPU, such as /dev/nvidia0")
    there = [path for path, fact in table.items() if known(fact)]
    if there:
        yield it_holds(few(there, 2))


def denied_gpus(place: Place) -> tuple[str, ...]:
    """GPUs that are not this job's: their nodes are denied, but another GPU's opens (Slurm)."""
    answers = _opened(place)
    return tuple(path for path, answer in answers.items() if answer == "EPERM") if "ok" in answers.values() else ()


def _opened(place: Place) -> dict[str, str | None]:
    """What opening each GPU's node answers."""
    nodes = {path: node for path, fact in (known(place.device_nodes) or {}).items() if (node := known(fact))}
    return {path: known(node.open) for path, node in nodes.items() if _GPU_NODE.fullmatch(path)}


def nvml_answers(facts: Facts) -> LinkLook:
    nvml = facts.host.nvml
    if not _nvml_is_elsewhere(facts):
        yield from nvml_symptoms("host", facts.host)
        yield from _other_version(facts, "nvml", nvml)
    if known(nvml.init) == 0:
        yield it_holds("NVML answers")
    elif _nvml_is_elsewhere(facts):
        yield not_applicable("the driver's libraries are not on the host's path here")


def _nvml_is_elsewhere(facts: Facts) -> bool:
    """NVML is missing by design: Jetson, a driver in a container, no host in view."""
    nvml = facts.host.nvml
    found = known(nvml.library) is not None or known(nvml.hangs_at) is not None
    if found or known(nvml.init) not in {None, LACKS_NVML}:
        return False
    reached = known(facts.container.nvml.init) == 0 or known(facts.container.cuda.init) == 0
    reached = reached or any(node_offers(facts).values())
    lacks = known(nvml.init) == LACKS_NVML
    return is_tegra(facts) or (lacks and (reached or driver_is_contained(facts)))


def nvml_symptoms(where: Where, place: Place) -> Iterator[Symptom]:
    yield from silence("nvml", where, place.nvml)
    if code := known(place.nvml.init):
        yield Symptom(f"nvml.init={code}", where, f"nvmlInit returns {codes.nvml(code)}")


def silence(library: str, where: Where, asked: Nvml | CudaApi) -> Iterator[Symptom]:
    if call := known(asked.hangs_at):
        yield Symptom(f"{library}.hangs", where, f"{call} does not return")
    if call := known(asked.crashes_at):
        yield Symptom(f"{library}.crashes", where, f"{call} crashes the program that calls it")


def _other_version(facts: Facts, name: str, asked: Nvml | CudaApi) -> Iterator[Symptom]:
    """The host's library has another version than the loaded module."""
    library, module = known(asked.library), kernel_driver(facts)
    version = known(library.version) if library else None
    if library and version and module and not same(version, module) and "/compat/" not in library.path:
        seen = f"{library.path} has version {version}, the module {module}"
        yield Symptom(f"{name}.init=version", "host", seen)


def gpus_counted(facts: Facts) -> LinkLook:
    nvml = facts.host.nvml
    yield from device_symptoms("host", facts.host)
    count, on_bus, left = known(nvml.device_count), len(gpus(facts)), excluded(facts)
    wanted = sum(known(gpu.driver) == "nvidia" for gpu in gpus(facts)) or on_bus
    wanted -= max(len(denied_gpus(facts.host)), left)
    if known(variable(facts.host, "SLURM_JOB_ID")):  # a job has the GPUs whose nodes it can open
        wanted = list(_opened(facts.host).values()).count("ok")
    if known(nvml.init) == 0 and count is not None and count < wanted:
        name = "nvml.count=0" if count == 0 else "nvml.count"
        yield Symptom(name, "host", f"NVML counts {count or 'no'} GPU{'' if count == 1 else 's'}, the bus has {wanted}")
    elif count and count > on_bus > 0 and not list(off_bus(facts)):
        yield Symptom("nvml.count=more", "host", f"NVML counts {count_of(count, 'GPU')}, the bus has {on_bus}")
    listed = len(each(nvml.devices))
    if count and 0 < listed < count:
        yield Symptom("nvml.count", "host", f"NVML counts {count_of(count, 'GPU')}, but describes {listed}")
    if count:
        yield it_holds(f"NVML sees {count_of(count, 'GPU')}{f'; NVreg_ExcludedGpus excludes {left} more' * bool(left)}")
    if is_tegra(facts):
        yield from off_bus(facts)


def device_symptoms(where: Where, place: Place) -> Iterator[Symptom]:
    for call, answer in sorted((known(place.nvml.codes) or {}).items()):
        if answer in _DEVICE_FAILS:
            yield Symptom(f"nvml.device={answer}", where, f"{call} returns {codes.nvml(answer)}")
    for device in each(place.nvml.devices):
        for call, answer in sorted((known(device.codes) or {}).items()):
            if answer in _DEVICE_FAILS and not (answer == _NO_PERMISSION and device.mig_current == 1):
                name = known(device.pci_bus_id) or known(device.index)
                yield Symptom(f"nvml.device={answer}", where, f"{call} of GPU {name} returns {codes.nvml(answer)}")


def gpu_modes(facts: Facts) -> LinkLook:
    devices, cuda = each(facts.host.nvml.devices) or each(facts.container.nvml.devices), facts.host.cuda
    for device in devices:
        yield from _mode(device)
    parts = [device for device in devices if known(device.mig_current) == 1]
    if 0 < len(parts) < len(devices) and known(cuda.init) == 100:
        mixed = f"MIG mode is on for {len(parts)} of {len(devices)} GPUs, and CUDA takes none of them"
        yield Symptom("mode.mig-mixed", "host", mixed)
    if is_absent(cuda.library) and serves_vms(facts):
        yield Symptom("mode.vgpu-host", "host", "the vGPU host driver, which is without CUDA, serves virtual machines")
    if devices:
        yield it_holds("no mode keeps CUDA out")


def _mode(device: NvmlDevice) -> Iterator[Symptom]:
    state, status, name = known(device.fabric_state), known(device.fabric_status), f"GPU {known(device.index)}"
    if state in _FABRIC_WAITS:
        yield Symptom("mode.fabric", "host", f"{name}: registration with the NVLink fabric {_FABRIC_WAITS[state]}")
    elif state and status:
        yield Symptom("mode.fabric", "host", f"{name}: registration with the NVLink fabric failed (status {status})")
    if known(device.compute_mode) == "Prohibited":
        yield Symptom("mode.prohibited", "host", f"{name}: the compute mode is Prohibited")
    if (license_ := known(device.license_status)) and license_.startswith("Unlicensed (Restricted"):
        yield Symptom("mode.license", "host", f"{name}: {license_}")


def cuda_starts(facts: Facts) -> LinkLook:
    cuda, nvml = facts.host.cuda, facts.host.nvml
    answers = known(nvml.init) == 0 and known(nvml.device_count) != 0
    if is_absent(cuda.library) and (answers or is_tegra(facts)):
        yield Symptom("cuda.library", "host", f"libcuda.so.1 is not found{', but NVML answers' if answers else ''}")
    yield from cuda_symptoms("host", facts.host)
    yield from miscount(facts, "host", facts.host)
    yield from _other_version(facts, "cuda", cuda)
    if known(cuda.init) == 0:
        yield it_holds(f"CUDA starts{and_sees(known(cuda.device_count))}")
    elif _nvml_is_elsewhere(facts) and known(cuda.library) is None:
        yield not_applicable("the driver's libraries are not on the host's path here")


def cuda_symptoms(where: Where, place: Place) -> Iterator[Symptom]:
    cuda = place.cuda
    yield from silence("cuda", where, cuda)
    way = " through MPS" if known(variable(place, "CUDA_MPS_PIPE_DIRECTORY")) else ""
    if code := known(cuda.init):
        yield Symptom(f"cuda.init={code}", where, f"cuInit returns {codes.cuda(code)}{way}")
    if code := known(cuda.runtime_code):
        yield Symptom(f"cuda.runtime={code}", where, f"cudaGetDeviceCount returns {codes.cuda(code)}{way}")
    for device in each(cuda.devices):
        if code := known(device.context_code):
            yield Symptom(f"cuda.context={code}", where, f"creating a context returns {codes.cuda(code)}")
        if code := known(device.kernel_code):
            yield Symptom(f"cuda.kernel={code}", where, f"the first kernel returns {codes.cuda(code)}")


def miscount(facts: Facts, where: Where, place: Place) -> Iterator[Symptom]:
    """CUDA counts other GPUs than NVML, and neither MIG mode nor CUDA_VISIBLE_DEVICES explains it."""
    count, of_nvml = known(place.cuda.device_count), known(place.nvml.device_count)
    of_nvml = len(each(place.nvml.devices)) if of_nvml is None else of_nvml
    devices = (*each(place.nvml.devices), *each(facts.host.nvml.devices))
    parts = any(known(device.mig_current) == 1 for device in devices)
    chosen = known(variable(place, "CUDA_VISIBLE_DEVICES")) is not None
    less = count is not None and (count < of_nvml or count == 0)
    more = count is not None and known(place.nvml.init) == 0 and count > of_nvml > 0 and not parts
    if known(place.cuda.init) == 0 and (more or (less and (count == 0 or not (parts or chosen)))):
        of = f" of {of_nvml}" if of_nvml else ""
        yield Symptom("cuda.count", where, f"CUDA counts {count_of(count or 0, 'GPU')}{of}")
