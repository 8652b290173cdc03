"""Healthy hosts with one link of the chain broken in their facts: what doctor must notice without a rule for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cache

from mlship.doctor.facts.container import Container
from mlship.doctor.facts.fact import UNKNOWN, Unreadable, each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Library
from tests.helpers.doctor_hosts import hosts

Change = Callable[[Facts], Facts | None]
ERRORS = (
    "failed to create task for container: something that no one has seen before",
    "error running prestart hook #0: exit status 3, stdout: , stderr: quux",
    "cannot start a stopped process: unknown",
    "failed to inject devices: device vendor.com/class=name has no edits",
)


@dataclass(frozen=True)
class Break:
    """One break of the facts.

    Attributes:
        links: one of them must be named.
        change: None if the host has no such fact.
        also: links that the change breaks besides.
    """

    name: str
    links: tuple[str, ...]
    change: Change
    also: tuple[str, ...] = ()


def at(facts: Facts, path: str) -> object:
    """The known value at a path, such as "kernel.pci.0.driver"; None if there is none."""
    found: object = facts
    for part in path.split("."):
        if isinstance(found, tuple):
            found = found[int(part)] if int(part) < len(found) else None
        else:
            found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
    return known(found)


def put(facts: Facts, path: str, value: object) -> Facts:
    """The facts with another value at a path."""
    changed = _put(facts, path.split("."), value)
    assert isinstance(changed, Facts)
    return changed


def _put(group: object, path: list[str], value: object) -> object:
    name, rest = path[0], path[1:]
    if isinstance(group, tuple):
        place = int(name)
        return (*group[:place], _put(group[place], rest, value) if rest else value, *group[place + 1 :])
    if isinstance(group, dict):
        return {**group, name: _put(group.get(name), rest, value) if rest else value}
    assert is_dataclass(group)
    assert not isinstance(group, type)
    return replace(group, **{name: _put(getattr(group, name), rest, value) if rest else value})


def changed(facts: Facts, values: Mapping[str, object]) -> Facts:
    for path, value in values.items():
        facts = put(facts, path, value)
    return facts


def is_special(facts: Facts) -> bool:
    """WSL and Jetson have other nodes and libraries."""
    return at(facts, "host.wsl") is not None or at(facts, "host.tegra") is not None


def code(link: str, path: str, new: int, *others: str) -> Break:
    """A call that returned 0 returns another code."""

    def change(facts: Facts) -> Facts | None:
        without_nvml = new == 12 and at(facts, "host.tegra")  # as on a Jetson's older releases
        return put(facts, path, new) if at(facts, path) == 0 and not without_nvml else None

    return Break(f"{path}={new}", (link, *others), change)


def node(place: str, name: str, link: str, new: str | None) -> Break:
    """A device node is gone, or does not open."""

    def change(facts: Facts) -> Facts | None:
        path = f"{place}.device_nodes.{name}"
        if at(facts, path) is None or is_special(facts):
            return None
        return put(facts, path, None) if new is None else put(facts, f"{path}.open", new)

    return Break(f"{place} {name} {new or 'gone'}", (link,), change)


def gpu(name: str, link: str, fact: str, new: object) -> Break:
    """Every GPU of the nvidia driver gets another value."""

    def change(facts: Facts) -> Facts | None:
        pci = each(facts.kernel.pci)
        paths = [f"kernel.pci.{place}.{fact}" for place, one in enumerate(pci) if known(one.driver) == "nvidia"]
        return changed(facts, dict.fromkeys(paths, new)) if paths else None

    return Break(name, (link,), change)


def first(name: str, links: tuple[str, ...], item: str, **values: object) -> Break:
    """The first item of a list gets other values."""

    def change(facts: Facts) -> Facts | None:
        if at(facts, f"{item}.0") is None:
            return None
        return changed(facts, {f"{item}.0.{fact}": new for fact, new in values.items()})

    return Break(name, links, change)


def torch(name: str, **values: object) -> Break:
    """torch, which saw the GPU, answers otherwise."""

    def change(facts: Facts) -> Facts | None:
        path = "container.pythons.0.torch"
        if not at(facts, f"{path}.is_available"):
            return None
        return changed(facts, {f"{path}.{fact}": new for fact, new in values.items()})

    return Break(name, ("framework-works", "image-fits"), change)


def library(place: str, api: str, link: str, path: str, version: str) -> Break:
    """The loader takes another library."""

    def change(facts: Facts) -> Facts | None:
        old = str(at(facts, f"{place}.{api}.library.path") or "/compat/")
        if at(facts, "kernel.nvidia.version") is None or is_special(facts) or "/compat/" in old:
            return None
        return put(facts, f"{place}.{api}.library", Library(path, version=version, mounted=False))

    return Break(f"{place} {api} {path}", (link,), change, also=("toolkit-ready",))  # CDI lists the driver's


def no_library(place: str, link: str) -> Break:
    def change(facts: Facts) -> Facts | None:
        path = f"{place}.cuda.library"
        return None if at(facts, path) is None else put(facts, path, None)

    return Break(f"no libcuda: {place}", (link,), change)


def _nvml_hangs(facts: Facts) -> Facts | None:
    answer = {"host.nvml.init": Unreadable("no answer"), "host.nvml.hangs_at": "nvmlInit_v2"}
    return changed(facts, answer) if at(facts, "host.nvml.init") == 0 else None


def _no_gpu(facts: Facts) -> Facts | None:
    pci = each(facts.kernel.pci)
    left = tuple(one for one in pci if known(one.vendor) != "10de")
    return put(facts, "kernel.pci", left) if left != pci and at(facts, "host.nvml.init") == 0 else None


def _no_module(facts: Facts) -> Facts | None:
    there = at(facts, "kernel.nvidia.version") and at(facts, "kernel.modules")
    if not there or is_special(facts):
        return None
    return changed(facts, {"kernel.modules.nvidia": None, "kernel.nvidia.version": None})


def _one_less(place: str, api: str) -> Change:
    def change(facts: Facts) -> Facts | None:
        count = at(facts, f"{place}.{api}.device_count")
        buses = sum(known(one.driver) == "nvidia" for one in each(facts.kernel.pci))
        full = buses if api == "nvml" else at(facts, f"{place}.nvml.device_count")
        parts = any(known(one.mig_current) == 1 for one in each(facts.host.nvml.devices))  # CUDA counts them otherwise
        if not isinstance(count, int) or not count or count != full or (parts and api == "cuda"):
            return None
        return put(facts, f"{place}.{api}.device_count", count - 1) if at(facts, f"{place}.{api}.init") == 0 else None

    return change


def never_started(facts: Facts) -> Facts | None:
    """The host with a container that asks for its GPUs, as this Docker provides them, and that was not started yet."""
    box = facts.container
    if not at(facts, "host.docker.version") or not at(facts, "host.nvml.device_count") or at(facts, "kubernetes"):
        return None
    made = Container(name="api", engine="docker", status="created", error=None, injection=box.injection)
    by_name = not any(known(hook) for hook in (known(facts.host.docker.daemon_hooks) or {}).values())
    if by_name and not each(facts.host.cdi.specs):
        return None
    gpus, names = ((), ("nvidia.com/gpu=all",)) if by_name else (("all",), ())
    config = replace(box.host_config, gpus=gpus, cdi_devices=names, runtime="runc")
    return replace(facts, container=replace(made, host_config=config))


_NO_HOOKS = {"nvidia-container-runtime-hook": None, "nvidia-cdi-hook": None}


def started_not(**values: object) -> Change:
    """A container that was not started, and other facts of it; "__" stands for "." in their paths."""

    def change(facts: Facts) -> Facts | None:
        made = never_started(facts)
        return made and changed(made, {path.replace("__", "."): new for path, new in values.items()})

    return change


def _no_toolkit(facts: Facts) -> Facts | None:
    made = never_started(facts)
    if made is None or not each(facts.kernel.pci):
        return None
    gone: dict[str, object] = {
        **dict.fromkeys(("host.toolkit.version", "host.toolkit.cli_version")),
        **dict.fromkeys(("host.cdi.specs", "host.docker.discovered_devices"), ()),
        "host.docker.daemon_hooks": _NO_HOOKS,
        "host.docker.runtimes": ("runc",),
        "host.toolkit.binaries": {"nvidia-container-cli": None, **_NO_HOOKS},
    }
    return changed(made, gone)


def _no_request(facts: Facts) -> Facts | None:
    """A container without GPU options, in which nothing of the driver is."""
    without: dict[str, object] = {
        "host_config.gpus": (),
        "host_config.cdi_devices": (),
        "cuda.library": None,
        "env": {},
    }
    made = None if is_special(facts) else never_started(facts)
    state = {"container.status": "running", "container.injection": "none"}
    return made and changed(made, {**state, **{f"container.{path}": new for path, new in without.items()}})


def _more_inside(facts: Facts) -> Facts | None:
    """The container was given fewer GPUs than the ones it names."""
    count, there = at(facts, "container.nvml.device_count"), at(facts, "host.nvml.device_count")
    asks = at(facts, "container.host_config.gpus") is not None and not at(facts, "container.host_config.cdi_devices")
    if not isinstance(count, int) or not isinstance(there, int) or not 0 < count < there or not asks:
        return None
    return put(facts, "container.host_config.gpus", tuple(f"device={index}" for index in range(count + 1)))


def _asks_for(gpus: str) -> Change:
    def change(facts: Facts) -> Facts | None:
        made = None if is_special(facts) else never_started(facts)
        if made is None or each(made.container.host_config.cdi_devices) or not at(facts, "host.nvml.device_count"):
            return None
        return put(made, "container.host_config.gpus", (gpus,))

    return change


def _bad_specs(**values: object) -> Change:
    """A container that gets its GPUs by CDI, and specifications that are of no use."""

    def change(facts: Facts) -> Facts | None:
        made = never_started(facts)
        if made is None or not each(made.container.host_config.cdi_devices) or is_special(facts):
            return None
        for place in range(len(each(made.host.cdi.specs))):
            made = changed(made, {f"host.cdi.specs.{place}.{fact}": new for fact, new in values.items()})
        return put(made, "container.injection", "cdi")

    return change


def _some_in_mig_mode(facts: Facts) -> Facts | None:
    """The first of several GPUs is in MIG mode without an instance, and CUDA takes no GPU at all."""
    if at(facts, f"{_NVML}.1") is None or any(known(one.mig_current) for one in each(facts.host.nvml.devices)):
        return None
    mode: dict[str, object] = {"mig_current": 1, "mig_pending": 1, "mig_devices": ()}
    return changed(facts, {"host.cuda.init": 100, **{f"{_NVML}.0.{name}": new for name, new in mode.items()}})


def _pod_asks_for_more(facts: Facts) -> Facts | None:
    if not at(facts, "kubernetes.pods.0") or not at(facts, "kubernetes.capacity"):
        return None
    pod = {"role": "workload", "phase": "Pending", "reason": None, "requests": {"nvidia.com/gpu": 99}}
    return changed(facts, {f"kubernetes.pods.0.{name}": new for name, new in pod.items()})


def framework(name: str, fact: str, new: object, link: str = "framework-works") -> Break:
    """A framework of the container answers otherwise."""

    def change(facts: Facts) -> Facts | None:
        path = f"{_BOX}.pythons.0.{name}"
        return None if at(facts, path) is None else put(facts, f"{path}.{fact}", new)

    return Break(f"{name}.{fact}", (link, "image-fits", "libraries-resolve"), change)


def _modules_of_two_versions(facts: Facts) -> Facts | None:
    module, version = at(facts, "kernel.modules.nvidia_uvm"), at(facts, "kernel.nvidia.version")
    return (
        None
        if module is None or not version or is_special(facts)
        else put(facts, "kernel.modules.nvidia_uvm.version", "390.1")
    )


def _settings(engine: str, path: str) -> Break:
    def change(facts: Facts) -> Facts | None:
        desktop = "Desktop" in str(at(facts, "host.docker.operating_system"))
        return None if at(facts, path) is None or desktop else put(facts, f"{path}.error", "line 3: not valid")

    return Break(f"settings of {engine}", ("engine-configured",), change)


def _node_offers_nothing(facts: Facts) -> Facts | None:
    cluster = known(facts.kubernetes)
    plugin = cluster is not None and any(known(pod.role) == "device-plugin" for pod in each(cluster.pods))
    if not plugin or not at(facts, "kubernetes.allocatable"):
        return None
    return changed(facts, {"kubernetes.allocatable": {}, "kubernetes.capacity": {}})


def _image_of_another_machine(facts: Facts) -> Facts | None:
    made, machine = never_started(facts), at(facts, "host.os.arch")
    if made is None or machine not in {"x86_64", "aarch64"}:
        return None
    return put(made, "image.architecture", "arm64" if machine == "x86_64" else "amd64")


# Hosts on which something else counts as the cause of whatever fails: a display's old card on nouveau, denied nodes,
# libraries out of sight.
_OTHER_CAUSES = ("without-nvidia-gpu", "nouveau", "slurm", "bottlerocket")
_POD = {"role": "workload", "phase": "Failed", "reason": "StartError", "requests": {"nvidia.com/gpu": 1}}
_UVM, _CONTROL = "/dev/nvidia-uvm", "/dev/nvidiactl"
_NVML, _BOX = "host.nvml.devices", "container"
BREAKS: tuple[Break, ...] = (
    Break("no GPU on the bus", ("gpu-on-bus",), _no_gpu),
    gpu("GPU silent", "gpu-on-bus", "revision", "ff"),
    gpu("GPU of nouveau", "gpu-bound", "driver", "nouveau"),
    gpu("GPU of vfio", "gpu-bound", "driver", "vfio-pci"),
    gpu("GPU without a driver", "gpu-bound", "driver", None),
    Break("module not loaded", ("module-loaded",), _no_module),
    Break("modules of two versions", ("module-loaded",), _modules_of_two_versions),
    *(node("host", name, "device-nodes", new) for name, new in ((_UVM, None), (_CONTROL, "EPERM"))),
    *(code("nvml-answers", "host.nvml.init", new) for new in (12, 999)),
    Break("NVML hangs", ("nvml-answers",), _nvml_hangs),
    library("host", "nvml", "nvml-answers", "/opt/libnvidia-ml.so.390.1", "390.1"),
    Break("NVML counts one less", ("gpus-counted",), _one_less("host", "nvml")),
    first("GPU fails in NVML", ("gpus-counted",), _NVML, codes={"nvmlDeviceGetUUID": 999}),
    first("GPU lost in NVML", ("gpu-on-bus",), _NVML, codes={"nvmlDeviceGetUUID": 15}),
    first("fabric waits", ("gpu-modes",), _NVML, fabric_state=2),
    first("fabric failed", ("gpu-modes",), _NVML, fabric_state=3, fabric_status=5),
    first("compute mode", ("gpu-modes",), _NVML, compute_mode="Prohibited"),
    Break("MIG mode of one GPU", ("gpu-modes",), _some_in_mig_mode),
    first("license", ("gpu-modes",), _NVML, license_status="Unlicensed (Restricted)"),
    *(code("cuda-starts", "host.cuda.init", new) for new in (3, 999)),
    code("cuda-starts", "host.cuda.init", 100, "gpu-modes"),
    code("gpu-modes", "host.cuda.init", 802),
    Break("CUDA counts one less", ("cuda-starts",), _one_less("host", "cuda")),
    library("host", "cuda", "cuda-starts", "/opt/libcuda.so.390.1", "390.1"),
    no_library("host", "cuda-starts"),
    Break("no toolkit", ("toolkit-ready",), _no_toolkit),
    _settings("Docker", "host.docker.daemon_json"),
    _settings("containerd", "host.containerd"),
    Break("nothing offered", ("kubelet-offers",), _node_offers_nothing),
    Break("CDI is stale", ("toolkit-ready",), _bad_specs(missing=("/usr/lib/libcuda.so.390.1",))),
    Break("CDI is invalid", ("toolkit-ready",), _bad_specs(error="line 3: not valid", devices=(), kind=UNKNOWN)),
    Break("pod asks for more", ("kubelet-offers",), _pod_asks_for_more, also=("container-created",)),
    Break("more GPUs than exist", ("gpu-requested",), _asks_for("99")),
    Break("a GPU that does not exist", ("gpu-requested",), _asks_for("device=99")),
    Break("fewer GPUs than named", ("nvml-inside",), _more_inside),
    Break("no request", ("gpu-requested",), _no_request),
    Break("image of another machine", ("image-available",), _image_of_another_machine),
    *(Break(text[:30], ("container-created",), started_not(container__error=text)) for text in ERRORS),
    first("pod failed", ("container-created",), "kubernetes.pods", **_POD),
    *(node(_BOX, name, "nodes-inside", new) for name, new in ((_UVM, None), (_CONTROL, "EPERM"))),
    no_library(_BOX, "libraries-inside"),
    library(_BOX, "cuda", "libraries-inside", "/opt/libcuda.so.390.1", "390.1"),
    library(_BOX, "cuda", "libraries-inside", "/usr/local/cuda/lib64/stubs/libcuda.so", ""),
    library(_BOX, "nvml", "libraries-inside", "/opt/libnvidia-ml.so.390.1", "390.1"),
    code("nvml-inside", "container.nvml.init", 9),
    code("nvml-inside", "container.nvml.init", 999, "nodes-inside"),  # after a daemon-reload, the usual cause
    Break("NVML counts one less inside", ("nvml-inside",), _one_less(_BOX, "nvml")),
    *(code("cuda-inside", "container.cuda.init", new) for new in (3, 100)),
    code("cuda-inside", "container.cuda.init", 999, "toolkit-ready"),  # a likely cause of this code
    Break("CUDA counts one less inside", ("cuda-inside",), _one_less(_BOX, "cuda")),
    first("no kernel", ("image-fits",), "container.cuda.devices", kernel_code=209),
    torch("torch on the CPU", is_available=False),
    framework("onnxruntime", "session_providers", ("CPUExecutionProvider",)),
    framework("tensorflow", "gpus", 0),
    framework("jax", "backend", "cpu"),
    torch("torch fails", is_available=None, error="RuntimeError: quux"),
)


@cache
def sick() -> dict[str, tuple[Break, str]]:
    """Every break on every healthy host that has its facts."""
    return {f"{one.name} @ {name}": (one, name) for one in BREAKS for name in _where(one)}


def _where(one: Break) -> Iterator[str]:
    for name, facts in hosts("healthy").items():
        if not any(word in name for word in _OTHER_CAUSES) and one.change(facts) is not None:
            yield name
