"""Rules about CDI between the toolkit and the engine: not generated, not read by this engine, or not asked for."""

import re

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import host_driver, runtime
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.toolkit import CdiSpec
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import line_of, node
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import version_numbers

_REFRESH = "nvidia-cdi-refresh"
_EMPTY = r"empty (device|container) edits"
# Specifications of runtime.nvidia.com are made in memory, by the runtime itself.
_IN_MEMORY = r"unresolvable CDI devices runtime\.nvidia\.com"
_NOT_MADE = rf"{_EMPTY}|{_IN_MEMORY}|[Ff]ailed to (generate|create|get) .{{0,40}}CDI spec"
_NO_VENDOR = r"no known GPU vendor|AMD CDI spec not found"
_OURS = r"(?:nvidia|cuda)"
_GONE = re.compile(
    rf"error mounting [\\\"']*(/[^\\\"']*{_OURS}[^\\\"']*)|cannot stat [`'\"]?(/[^`'\" ]*{_OURS}[^`'\" ]*)"
    r"|failed to stat CDI host device [\\\"']*(/[^\\\"': ]+)"
)
_CDI_SINCE = {"podman": (4, 1), "docker": (25,)}
_UNRESOLVED = r"unresolvable CDI devices"
# The last schema that an engine reads, before the version that reads the next: from the CDI library in its go.mod.
_READS: dict[str, tuple[tuple[tuple[int, ...], str], ...]] = {
    "podman": (((4, 3), "0.4.0"), ((5, 1), "0.6.0")),
    "docker": (((27,), "0.6.0"),),
}


def _ours(facts: Facts) -> tuple[CdiSpec, ...]:
    return tuple(spec for spec in each(facts.host.cdi.specs) if known(spec.kind) in {"nvidia.com/gpu", None})


def _refresh(facts: Facts) -> Evidence | None:
    """How the unit that writes the specification failed: its last error, or its state."""
    service = known(looked_up(facts.host.services, _REFRESH))
    if service is None:
        return None
    errors = [line for line in each(service.log) if re.search(r"(?i)error|fail", line)]
    failed = known(service.active) == "failed"
    text = errors[-1] if errors else "failed" if failed else ""
    return Evidence(f"host.services.{_REFRESH}", text) if text else None


@computes("cdi-spec-not-generated")
def _not_made(facts: Facts) -> Values | None:
    line, unit = line_of(facts, _NOT_MADE), _refresh(facts)
    shown = line or unit
    if shown is None:
        return None
    return {
        "shown": shown,
        "unit": unit,
        "shown_is_unit": shown is unit,
        "fresh": line is not None and line.fact != "host.toolkit.log",  # logs keep what has been fixed since
        "listed": bool(_ours(facts)),
        "asked_for": _is_asked_for(facts),
        "empty": re.search(_EMPTY, shown.value) is not None,
        "runtime": "crio" if known(facts.host.crio) and not known(facts.host.containerd) else "containerd",
    }


def _is_asked_for(facts: Facts) -> bool:
    """A container has failed, or did not get the GPU, and CDI is the way here."""
    box, mode = facts.container, known(facts.container.injection)
    failed = line_of(facts, rf"{_NO_VENDOR}|{_UNRESOLVED}") is not None
    return failed or (mode in {"cdi", "jit-cdi"} and known(box.cuda.init) not in {0, None})


@computes("docker-finds-no-gpu-vendor")
def _vendor(facts: Facts) -> Values:
    return {"path": next((spec.path for spec in _ours(facts)), ""), "unit": _refresh(facts)}


@computes("cdi-spec-newer-than-engine")
def _too_new(facts: Facts) -> Values | None:
    name, version = _engine_version(facts)
    reads = _reads(name, version)
    if reads is None:
        return None
    newer = [one for one in _ours(facts) if version_numbers(known(one.cdi_version) or "") > version_numbers(reads)]
    return {
        "name": name,
        "engine_name": "Docker" if name == "docker" else name,
        "version": version or "",
        "reads": reads,
        "schema": known(newer[0].cdi_version) if newer else None,
        "path": newer[0].path if newer else "The CDI specification",
        "newer": tuple(f"{spec.path}: cdiVersion {known(spec.cdi_version)}" for spec in newer),
    }


def _reads(engine: str, version: str | None) -> str | None:
    """The newest schema that this version of the engine reads, if it does not read every schema of today."""
    numbers = version_numbers(version or "")
    return next((schema for before, schema in _READS.get(engine, ()) if numbers and numbers < before), None)


@computes("engine-older-than-cdi")
def _before_cdi(facts: Facts) -> Values | None:
    name, version = _engine_version(facts)
    first = _CDI_SINCE.get(name, ())
    if version and version_numbers(version) >= first:
        return None
    return {
        "engine_name": "Docker" if name == "docker" else name,
        "version": version,
        "first": ".".join(map(str, first)),
    }


def _engine_version(facts: Facts) -> tuple[str, str | None]:
    """The engine of the container in question, and its version."""
    name, podman = commands.engine(facts), known(facts.host.podman)
    of = podman.version if podman else None
    return name, known(of if name == "podman" else facts.host.docker.version)


@computes("cdi-spec-lists-missing-file")
def _missing_file(facts: Facts) -> Values | None:
    line = line_of(
        facts, r"(?i)(error mounting|cannot stat|failed to stat CDI host device) .*no such file or directory"
    )
    found = _GONE.search(line.value) if line else None
    if found is None:
        return None
    path = found[1] or found[2] or found[3]
    listed = tuple(spec.path for spec in _ours(facts) if path in {*each(spec.missing), *each(spec.device_nodes)})
    named, driver = re.search(r"\.so\.(\d{3}[\d.]*\d)", path), host_driver(facts)
    return {
        "line": line,
        "path": path,
        "a_node": path.startswith("/dev/"),
        "driver": driver if named and driver and named[1] != driver else None,
        "listed": listed,
    }


@computes("containerd-does-not-read-cdi")
def _asks_for_cdi(facts: Facts) -> Values:
    """What shows that a pod's GPU is requested by CDI, and that the pod did not get it."""
    plugin = next((s for s in each(facts.host.cdi.specs) if (known(s.kind) or "").startswith("k8s.")), None)
    nothing = is_absent(node(facts.container, "/dev/nvidiactl"))
    waits = plugin and nothing and runtime(facts) != "nvidia" and _pod_requests_gpu(facts)
    return {"plugin": plugin.path if plugin and waits else None}


def _pod_requests_gpu(facts: Facts) -> bool:
    """The container's pod requests a GPU."""
    cluster, name = known(facts.kubernetes), known(facts.container.name)
    pods = [pod for pod in each(cluster.pods) if known(pod.name) == name] if cluster else []
    return any(kind.startswith("nvidia.com/") for pod in pods for kind in known(pod.requests) or {})
