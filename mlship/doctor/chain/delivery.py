"""The links from the host to the container: toolkit, engine, Kubernetes node, request, image, start."""

import re
from collections.abc import Iterator

from mlship.doctor.chain.host import LinkLook
from mlship.doctor.chain.link import Symptom, it_holds, not_applicable, unknown
from mlship.doctor.container import (
    at_least,
    environment,
    gpus_mode,
    has_started,
    injection,
    is_elsewhere,
    runtime,
    works,
)
from mlship.doctor.facts.container import Container
from mlship.doctor.facts.fact import Unreadable, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import CdiSpec
from mlship.doctor.facts.kubernetes import Kubernetes, Pod
from mlship.doctor.finding import Where
from mlship.doctor.queries import (
    SAYS_WHY,
    driver_is_contained,
    gpus,
    host_architecture,
    is_tegra,
    is_wsl,
    node_offers,
    nvidia_resources,
    pods,
    toolkit_config,
    trouble_of,
)
from mlship.units import count_of

_LISTS_DEVICES = (28, 2)  # since then `docker info` lists the CDI devices
_WITHOUT_PODMAN_HOOK = (1, 14)  # its release notes: the RPM no longer installs the hook, so CDI is the only way
_NOT_FOUND = 404
_GPU = "nvidia.com/gpu"
_MOST_GPUS = 1000
_GPU_NAME = re.compile(r"\d{1,3}(:\d+)?|GPU-[0-9a-f-]+")  # "0:1" is an instance; the UUID of one does not name its GPU
_NO_GPU = {None, "", "none", "void"}
_START_FAILED = re.compile(r"Error|BackOff|CannotRun")
_DOES_NOT_RUN = re.compile(r"(?i)cannot connect|connection refused|not running")


def container_is_examined(facts: Facts) -> bool:
    box = facts.container
    named = any(known(fact) for fact in (box.engine, box.name, box.status, box.error))
    return box != Container() and (has_started(facts) or named)


def not_examined(facts: Facts) -> LinkLook:
    if not container_is_examined(facts):
        yield not_applicable("no container was examined")


def asks_for_gpu(facts: Facts) -> bool:
    """A container or a pod here asks for an NVIDIA GPU."""
    config = facts.container.host_config
    named = any("nvidia" in one for one in (*each(config.cdi_devices), *each(config.devices)))
    by_runtime = known(config.runtime) == "nvidia"
    return bool(each(config.gpus)) or named or by_runtime or any(nvidia_resources(pod.requests) for pod in pods(facts))


def _where(facts: Facts) -> Where:
    """Whose toolkit and engine are meant."""
    return "container" if container_is_examined(facts) else "host"


def _specs(facts: Facts) -> tuple[CdiSpec, ...]:
    return tuple(spec for spec in each(facts.host.cdi.specs) if "nvidia" in (known(spec.kind) or "nvidia"))


def _engines(facts: Facts) -> list[str]:
    host = facts.host
    docker = known(host.docker.binary) or known(host.docker.version)
    others = (("podman", host.podman), ("containerd", host.containerd), ("CRI-O", host.crio))
    return [*(["Docker"] if docker else []), *(name for name, fact in others if known(fact) is not None)]


def _no_engine(facts: Facts) -> LinkLook:
    absent = (facts.host.docker.binary, facts.host.podman, facts.host.containerd, facts.host.crio)
    if is_elsewhere(facts):
        yield not_applicable("the engine runs on another machine")
    if not _engines(facts):
        yield not_applicable("there is no container engine") if any(map(is_absent, absent)) else unknown("host.docker")


def _hooks(facts: Facts) -> tuple[str, ...] | None:
    """The toolkit's programs where the engine looks for them; None if that is unknown."""
    hooks, toolkit = known(facts.host.docker.daemon_hooks), facts.host.toolkit
    found = [path for one in (hooks or {}).values() if (path := known(one))]
    found += [version] if (version := known(toolkit.version)) and hooks is None else []
    if found:
        return tuple(found)
    return () if hooks or is_absent(toolkit.version) else None


def toolkit_ready(facts: Facts) -> LinkLook:
    yield from _no_engine(facts)
    toolkit, specs = facts.host.toolkit, _specs(facts)
    by_cdi = injection(facts) == "cdi" and asks_for_gpu(facts)
    nothing_asked = not container_is_examined(facts) and not each(facts.messages)
    has_hook = at_least(facts.host.toolkit.version, _WITHOUT_PODMAN_HOOK) is False
    by_cdi = by_cdi or (nothing_asked and _engines(facts) == ["podman"] and not has_hook)
    if by_cdi and not works(facts):
        bad = [symptom for spec in specs for symptom in _bad_spec(facts, spec)]
        yield from bad if len(bad) >= len(specs) else ()
        if facts.host.cdi.specs == ():
            yield Symptom("cdi.none", _where(facts), "the engine uses CDI, but there is no CDI specification")
    cli = looked_up(toolkit.binaries, "nvidia-container-cli")
    if asks_for_gpu(facts) and injection(facts) == "legacy" and is_absent(cli) and not works(facts):
        yield Symptom("toolkit.cli", _where(facts), "the legacy hook needs nvidia-container-cli, which is missing")
    root = known(toolkit_config(facts).root)
    if root and is_absent(looked_up(facts.host.paths, root)) and known(facts.host.nvml.init) == 0 and not works(facts):
        yield Symptom("toolkit.root", "host", f"the toolkit's root {root} does not exist")
    if _lacks_toolkit(facts):
        yield Symptom("toolkit.none", _where(facts), "neither NVIDIA Container Toolkit nor a CDI specification is here")
    if version := known(toolkit.version):
        yield it_holds(f"NVIDIA Container Toolkit {version}")
    elif specs:
        yield it_holds(f"CDI: {', '.join(spec.path for spec in specs)}")


def _lacks_toolkit(facts: Facts) -> bool:
    """No engine here has a way to the GPU, as far as the toolkit provides it. A device plugin may bring its own."""
    given = works(facts) or any(node_offers(facts).values())
    handlers = (known(one.runtimes) or {} for one in map(known, (facts.host.containerd, facts.host.crio)) if one)
    given = given or any("nvidia" in name for names in handlers for name in names)
    if given or not gpus(facts) or facts.host.cdi.specs != () or driver_is_contained(facts):
        return False
    if _engines(facts) == ["Docker"]:
        return _hooks(facts) == () and asks_for_gpu(facts)  # engine_configured sees what is not asked for
    wanted = asks_for_gpu(facts) or known(facts.host.nvml.init) == 0
    return is_absent(facts.host.toolkit.version) and wanted


def _bad_spec(facts: Facts, spec: CdiSpec) -> Iterator[Symptom]:
    if error := known(spec.error):
        yield Symptom("cdi.invalid", _where(facts), f"{spec.path}: {error}")
    elif missing := known(spec.missing):
        yield Symptom("cdi.stale", _where(facts), f"{spec.path} lists {missing[0]}, which does not exist")
    elif spec.device_nodes == () and not (is_wsl(facts) or is_tegra(facts)):
        yield Symptom("cdi.empty", _where(facts), f"{spec.path} lists no device node of a GPU")


def engine_configured(facts: Facts) -> LinkLook:
    yield from _no_engine(facts)
    docker, host = facts.host.docker, facts.host
    settings = known(docker.daemon_json)
    if settings and (error := known(settings.error)):
        yield Symptom("engine.settings", "host", f"{known(settings.path)}: {error}")
    for name, one in (("containerd", known(host.containerd)), ("CRI-O", known(host.crio))):
        if one and (error := known(one.error)):
            yield Symptom("engine.settings", "host", f"{name}: {error}")
    runtimes = known(docker.runtimes)
    by_runtime, by_cdi = "nvidia" in (runtimes or ()), known(docker.cdi) is True
    lacks = runtimes is not None and not by_runtime and _hooks(facts) == () and not (by_cdi and _specs(facts))
    wanted = asks_for_gpu(facts) or known(host.nvml.init) == 0
    if lacks and wanted and _engines(facts) == ["Docker"] and not works(facts) and gpus(facts):
        yield Symptom("engine.no-way", _where(facts), "Docker has no nvidia runtime and no hook, and does not use CDI")
    discovered = known(docker.discovered_devices)
    unseen = discovered is not None and not any("nvidia" in one for one in discovered)
    unseen = unseen and at_least(docker.version, _LISTS_DEVICES) is True
    if unseen and by_cdi and injection(facts) == "cdi" and asks_for_gpu(facts) and not works(facts):
        yield Symptom("engine.discovers", _where(facts), "Docker uses CDI, but discovers no NVIDIA device")
    if version := known(docker.version):
        yield it_holds(f"Docker Engine {version}, {'with' if by_runtime else 'without'} the nvidia runtime")
    elif isinstance(docker.version, Unreadable):
        if _engines(facts) == ["Docker"] and _DOES_NOT_RUN.search(docker.version.unreadable):
            yield Symptom("engine.silent", _where(facts), f"Docker does not answer: {docker.version.unreadable}")
        yield unknown("host.docker.version")
    elif engines := _engines(facts):
        yield it_holds(f"engines: {', '.join(engines)}")


def kubelet_offers(facts: Facts) -> LinkLook:
    node = known(facts.kubernetes)
    if node is None:
        yield not_applicable("not a Kubernetes node")
        return
    offered = known(node.allocatable)
    yield from _not_offered(facts, node)
    serving = {known(pod.role) for pod in _of_nvidia(node) if known(pod.ready)}  # beside one that was evicted
    for pod in _of_nvidia(node):
        stuck = known(pod.phase) == "Running" and known(pod.ready) is False
        stuck = stuck or (known(pod.phase) in {"Failed", "Pending"} and known(pod.role) not in serving)
        if stuck or _START_FAILED.search(known(pod.reason) or ""):
            state = trouble_of(pod) if each(pod.log) else ": ".join(filter(None, (trouble_of(pod), _last_event(node))))
            yield Symptom("offer.pod", "host", f"the {known(pod.role)} pod {known(pod.name)}: {state}")
    if offered is None:
        yield unknown("kubernetes.allocatable")
    elif not offered and not is_known(node.pods) and gpus(facts):
        yield unknown("kubernetes.pods")
    else:
        yield it_holds(", ".join(f"{name}: {n}" for name, n in nvidia_resources(offered).items()) or "no GPU")


def _not_offered(facts: Facts, node: Kubernetes) -> Iterator[Symptom]:
    offered, classes = known(node.capacity) or known(node.allocatable), known(node.runtime_classes)
    for pod in each(node.pods):
        wants = known(pod.runtime_class)
        if wants and classes is not None and wants not in classes:
            yield Symptom("offer.class", "host", f"pod {known(pod.name)} asks for the runtime class {wants}")
        for name, count in nvidia_resources(pod.requests).items():
            has = (offered or {}).get(name, 0)
            if offered is not None and known(pod.phase) == "Pending" and has < count:
                yield Symptom(
                    "offer.short", "host", f"pod {known(pod.name)} asks for {name}: {count}, the node has {has}"
                )
    healthy = nvidia_resources(node.allocatable)
    if healthy and not any(healthy.values()):
        yield Symptom("offer.none", "host", f"the node offers none of its {', '.join(healthy)}")
    for name, count in sorted((known(node.capacity) or {}).items()):
        if any(healthy.values()) and healthy.get(name, count) < count:
            seen = f"the node has {name}: {count}, of which it offers {healthy[name]}: the others are unhealthy"
            yield Symptom("offer.fewer", "host", seen)
    here = sum(known(gpu.driver) == "nvidia" for gpu in gpus(facts))
    whole, parts = (offered or {}).get(_GPU), any("/mig-" in name for name in offered or {})
    if whole is not None and 0 < whole < here and not parts:
        yield Symptom("offer.fewer", "host", f"the node has {_GPU}: {whole}, and the bus {count_of(here, 'GPU')}")
    # A DRA driver offers GPUs as resource slices and not as a resource of the node.
    dra = (known(pod.role) == "dra" or "dra-driver" in (known(pod.name) or "") for pod in _of_nvidia(node))
    if offered == {} and not all(dra) and gpus(facts):
        yield Symptom("offer.none", "host", "NVIDIA's pods are here, but the node offers no GPU")


def _of_nvidia(node: Kubernetes) -> tuple[Pod, ...]:
    return tuple(pod for pod in each(node.pods) if known(pod.role) not in {None, "workload"})


def gpu_requested(facts: Facts) -> LinkLook:
    yield from not_examined(facts)
    box, config = facts.container, facts.container.host_config
    if each(config.gpus) and known(toolkit_config(facts).mode) == "cdi" and gpus_mode(facts) == "legacy":
        yield Symptom("request.mode", "container", "the toolkit is in cdi mode, in which `--gpus` is an error")
    visible = environment(facts).get("NVIDIA_VISIBLE_DEVICES")
    other_way = each(config.gpus) or each(config.cdi_devices)
    if runtime(facts) == "nvidia" and known(box.env) is not None and visible in _NO_GPU and not other_way:
        what = "unset" if visible is None else f'"{visible}"'
        if not _was_given(facts):
            yield Symptom("request.none", "container", f"NVIDIA_VISIBLE_DEVICES is {what} for the nvidia runtime")
    elif _asks_nothing(facts) and not _was_given(facts):
        yield Symptom("request.none", "container", "the container asks for no GPU")
    there, names = known(facts.host.nvml.device_count) or len(gpus(facts)), requested_gpus(facts)
    highest = max((int(name) + 1 for name in names or () if name.isdecimal()), default=0)
    if there and not works(facts) and not is_elsewhere(facts) and max(len(names or ()), highest) > there:
        asked = f"GPU {highest - 1}" if highest > there else f"{len(names or ())} GPUs"
        yield Symptom("request.more", "container", f"the container asks for {asked}, and this host has {there}")
    if works(facts) or asks_for_gpu(facts):
        yield it_holds("requested")


def requested_gpus(facts: Facts) -> tuple[str, ...] | None:
    """The GPUs that the container asks for, instances of one GPU once; a number of any as "any 1"…; None if unknown."""
    config, here = facts.container.host_config, known(facts.host.nvml.device_count)
    names = [name.removeprefix("device=") for one in each(config.gpus) for name in one.split(",")]
    names += [name for one in each(config.cdi_devices) if (name := one.removeprefix("nvidia.com/gpu=")) != one]
    if not names and runtime(facts) == "nvidia":
        names = environment(facts).get("NVIDIA_VISIBLE_DEVICES", "").split(",")
    if names == ["all"]:
        return None if here is None or is_elsewhere(facts) else tuple(f"any {n}" for n in range(min(here, _MOST_GPUS)))
    if len(each(config.gpus)) == 1 and each(config.gpus)[0].isdecimal():
        return tuple(f"any {n}" for n in range(min(int(names[0]), _MOST_GPUS)))
    certain = bool(names) and all(_GPU_NAME.fullmatch(name) for name in names)
    return tuple(sorted({name.partition(":")[0] for name in names})) if certain else None


def _was_given(facts: Facts) -> bool:
    nvml = facts.container.nvml
    return works(facts) or (known(nvml.init) == 0 and known(nvml.device_count) != 0)


def _asks_nothing(facts: Facts) -> bool:
    config = facts.container.host_config
    known_empty = config.gpus == () and not each(config.cdi_devices) and runtime(facts) not in {None, "nvidia"}
    free = not each(config.devices) and not known(config.privileged) and known(facts.container.lxc) is None
    given = known(facts.container.injection) not in {None, "none"}  # in a pod by a device plugin, which is not seen
    return known_empty and free and not given and not asks_for_gpu(facts) and not is_wsl(facts)


def image_available(facts: Facts) -> LinkLook:
    image, machine = facts.image, host_architecture(facts)
    if known(image.registry_status) == _NOT_FOUND:
        yield Symptom("image.registry=404", "container", "the registry has no such image")
    if error := known(image.error):
        yield Symptom("image.error", "container", error)
    platform = (known(facts.container.platform) or "").partition("/")[2].partition("/")[0]
    built = known(image.architecture) or platform
    if built and machine and built != machine and not works(facts):
        yield Symptom("image.architecture", "container", f"the image is for {built}, this machine is {machine}")
    if built and machine:
        yield it_holds(f"{built}, as this machine")
    if not container_is_examined(facts) and known(image.reference) is None:
        yield not_applicable("no image was examined")


def container_created(facts: Facts) -> LinkLook:
    box, node = facts.container, known(facts.kubernetes)
    if known(box.status) in {"restarting", "dead"}:
        yield Symptom("container.status", "container", f"the container is {known(box.status)}")
    if error := known(box.error):
        yield Symptom("container.error", "container", f"the engine's error: {error}")
    if node:
        yield from _failed_pods(node)
    yield from not_examined(facts)
    if has_started(facts):
        yield it_holds("started")


def _failed_pods(node: Kubernetes) -> Iterator[Symptom]:
    """Pods that ask for a GPU and did not start, with the event that says why."""
    for pod in each(node.pods):
        phase, reason = known(pod.phase), known(pod.reason)
        failed = phase == "Failed" or _START_FAILED.search(reason or "")
        waits = phase == "Pending" and known(pod.role) == "workload"
        if (failed or waits) and (known(pod.role) == "workload" or nvidia_resources(pod.requests)):
            seen = ": ".join(filter(None, (f"pod {known(pod.name)}", reason or phase, _last_event(node))))
            yield Symptom("pod.failed", "container", seen)


def _last_event(node: Kubernetes) -> str:
    """The last event of the node that says why something fails."""
    return next((line for line in reversed(each(node.events)) if SAYS_WHY.search(line)), "")
