"""Rules about the toolkit: its packages and config.toml, and CDI specifications that it writes or that are not used."""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import host_driver, injection, is_rootless, runtime, version_of_engine
from mlship.doctor.facts.fact import each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import CdiSpec, PackageSource
from mlship.doctor.facts.place import Library, Place
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import host_architecture, is_ubuntu, line_of, node, nvidia_resources, pods, toolkit_config
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import same, version_numbers

_MISSING_FILE = r"(?i)(stat|mount|crun|runc).*no such file or directory"
_REASONS = ("off", "undefined", "broken", "shut", "elsewhere", "other_names", "twice")
_UNRESOLVABLE = r"unresolvable CDI devices|could not select device driver .cdi."
_REFRESH = "nvidia-cdi-refresh"
_OURS = r"(?:nvidia|cuda)"
_GONE = re.compile(
    rf"error mounting [\\\"']*(/[^\\\"']*{_OURS}[^\\\"']*)|cannot stat [`'\"]?(/[^`'\" ]*{_OURS}[^`'\" ]*)"
    r"|failed to stat CDI host device [\\\"']*(/[^\\\"': ]+)"
)
# The last schema that an engine reads, before the version that reads the next: from the CDI library in its go.mod.
_READS: dict[str, tuple[tuple[tuple[int, ...], str], ...]] = {
    "podman": (((4, 3), "0.4.0"), ((5, 1), "0.6.0")),
    "docker": (((27,), "0.6.0"),),
}
# The files of apt that current guides and packages write.
_KEPT = ("nvidia-container-toolkit", "cuda-")
_SONAMES = ("libnvidia-ml.so.1", "libcuda.so.1")


@computes("cdi-spec-without-uvm")
def _spec_without_uvm(facts: Facts) -> Values | None:
    """Path of a CDI specification that lists GPUs but not the host's UVM node."""
    uvm = "/dev/nvidia-uvm"
    if known(node(facts.host, uvm)) is None or known(node(facts.container, uvm)) is not None:
        return None
    for spec in each(facts.host.cdi.specs):
        nodes = known(spec.device_nodes) or ()
        if known(spec.kind) == "nvidia.com/gpu" and "/dev/nvidiactl" in nodes and uvm not in nodes:
            return {"spec": spec.path}
    return None


def _is_current(facts: Facts, spec: CdiSpec) -> bool | None:
    """It lists the current driver's libraries, and everything that it lists exists; None if that is unknown."""
    libraries = (known(place.library) for place in (facts.host.nvml, facts.host.cuda))
    on_disk = next((known(library.version) for library in libraries if library), None) or host_driver(facts)
    versions, missing = known(spec.driver_versions), known(spec.missing)
    if missing and (known(facts.host.nvml.init) == 0 or any(not path.startswith("/dev/") for path in missing)):
        return False
    if versions and on_disk:
        return any(same(version, on_disk) for version in versions)
    return True if missing == () else None


def _is_shadowed(facts: Facts, spec: CdiSpec) -> bool:
    """/var/run/cdi takes precedence over /etc/cdi: a current specification there overrides this one."""
    if folder(spec.path) != "/etc/cdi":
        return False
    above = [other for other in each(facts.host.cdi.specs) if folder(other.path) == "/var/run/cdi"]
    names = {name for other in above if _is_current(facts, other) for name in each(other.devices)}
    return bool(names) and set(each(spec.devices)) <= names


@computes("cdi-spec-stale-after-driver-upgrade")
def _stale_specs(facts: Facts) -> Iterator[Values]:
    driver = host_driver(facts)
    for spec in each(facts.host.cdi.specs):
        ours = (known(spec.kind) or "").startswith("nvidia.com/")
        if not ours or _is_current(facts, spec) is not False or _is_shadowed(facts, spec) or not _is_used(facts):
            continue
        missing = known(spec.missing) or ()
        gone = f"{len(missing)} of its files {'does' if len(missing) == 1 else 'do'} not exist" if missing else ""
        yield {
            "service": known(looked_up(facts.host.services, "nvidia-cdi-refresh")),
            "by_hand": folder(spec.path) == "/etc/cdi",
            "path": spec.path,
            "named": each(spec.driver_versions),
            "driver": driver or "another",
            "host_driver": driver,
            "gone": gone,
            "missing": missing[:3],
        }


def _is_used(facts: Facts) -> bool:
    """Used by the container in question, or by an engine that could use it."""
    how = injection(facts)
    if how == "cdi" or line_of(facts, _MISSING_FILE):
        return True
    engines = known(facts.host.podman) is not None or known(facts.host.docker.cdi) is True
    return engines and known(facts.container.status) is None and known(facts.container.injection) is None


@computes("cdi-device-unresolvable")
def _unresolvable(facts: Facts) -> Values | None:
    line, specs = line_of(facts, _UNRESOLVABLE), known(facts.host.cdi.specs)
    wanted = _wanted(facts, line)
    found = _why_unresolved(facts, specs, wanted) if specs is not None and wanted else None
    if found is None or specs is None:
        return None
    listed = tuple(f"{spec.path}: {', '.join(each(spec.devices))}" for spec in specs)
    return {"wanted": wanted, "line": line, "listed": listed or ("none",), **found}


def _wanted(facts: Facts, line: Evidence | None) -> str | None:
    asked = [name for name in each(facts.container.host_config.cdi_devices) if "nvidia.com/" in name]
    words = line.value.replace(",", " ").split() if line else []
    named = [word.strip(":") for word in words if "nvidia.com/" in word and "=" in word]
    return next(iter((*asked, *named)), None)


def folder(path: str) -> str:
    """The folder of a specification, or the folder itself; /run is written as /var/run, which is the same."""
    found = path.rpartition("/")[0] if path.endswith((".yaml", ".yml", ".json")) else path.rstrip("/")
    return f"/var{found}" if found.startswith("/run/") else found


def _why_unresolved(facts: Facts, specs: tuple[CdiSpec, ...], name: str) -> Values | None:
    """Why the engine cannot resolve a name such as "nvidia.com/gpu=all", for the texts; None if it should resolve."""
    kind, _, device = name.partition("=")
    ours = [spec for spec in specs if known(spec.kind) in {kind, None}]
    reason = _reason(facts, ours, device)
    one, other = _rivals(ours, device) if reason == "twice" else (None, None)
    broken = [spec for spec in ours if known(spec.error)]
    shown = one or next(iter(broken if reason == "broken" else ours), None)
    if reason is None:
        return None
    return {
        **{each_reason: each_reason == reason for each_reason in _REASONS},
        "make": reason in {"undefined", "broken", "elsewhere"},
        "by_hand": kind == "nvidia.com/gpu",
        "management": kind.startswith("management."),
        "by_plugin": kind.startswith("k8s."),
        "kind": kind,
        "path": shown.path if shown else "",
        "parent": shown.path.rpartition("/")[0] if shown else "",
        "error": known(shown.error) if shown else "",
        "mode": (known(shown.mode) if shown else None) or "unknown",
        "second": other.path if other else "",
        "names": ", ".join(sorted(_names(ours))) or "none",
        "folders": ", ".join(sorted(_searched(facts))),
        "podman": commands.engine(facts) == "podman" and known(facts.host.podman),
        "rootless": is_rootless(facts),
    }


def _reason(facts: Facts, ours: list[CdiSpec], device: str) -> str | None:
    """The first reason that applies."""
    searched = _searched(facts)
    applies = (
        commands.engine(facts) == "docker" and known(facts.host.docker.cdi) is False,
        not ours,
        any(known(spec.error) for spec in ours),
        all(known(spec.readable) is False for spec in ours),
        bool(searched) and not any(folder(spec.path) in searched for spec in ours),
        all(known(spec.devices) is not None for spec in ours) and device not in _names(ours),
        _rivals(ours, device) != (None, None),
    )
    return next((reason for reason, fits in zip(_REASONS, applies, strict=True) if fits), None)


def _searched(facts: Facts) -> set[str]:
    """The folders that the engine reads; empty if they are unknown."""
    podman = known(facts.host.podman) if commands.engine(facts) == "podman" else None
    return {folder(path) for path in each(podman.cdi_spec_dirs if podman else facts.host.docker.cdi_spec_dirs)}


def _rivals(ours: list[CdiSpec], device: str) -> tuple[CdiSpec, CdiSpec] | tuple[None, None]:
    """Two files in one folder that define the same name, which cancel each other out; nvidia-ctk's own comes first."""
    named = [spec for spec in ours if device in each(spec.devices)]
    named.sort(key=lambda spec: (not spec.path.endswith("/nvidia.yaml"), spec.path))
    pairs = (pair for pair in combinations(named, 2) if folder(pair[0].path) == folder(pair[1].path))
    return next(pairs, (None, None))


def _names(specs: Iterable[CdiSpec]) -> set[str]:
    return {name for spec in specs for name in each(spec.devices)}


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
@computes("docker-finds-no-gpu-vendor")
def _specification(facts: Facts) -> Values:
    return {"path": next((spec.path for spec in _ours(facts)), ""), "unit": _refresh(facts)}


@computes("cdi-spec-newer-than-engine")
def _too_new(facts: Facts) -> Values | None:
    numbers = version_numbers(version_of_engine(facts) or "")
    reads = next((schema for before, schema in _READS.get(commands.engine(facts), ()) if numbers < before), None)
    if reads is None or not numbers:
        return None
    newer = [one for one in _ours(facts) if version_numbers(known(one.cdi_version) or "") > version_numbers(reads)]
    return {
        "reads": reads,
        "schema": known(newer[0].cdi_version) if newer else None,
        "path": newer[0].path if newer else "The CDI specification",
        "newer": tuple(f"{spec.path}: cdiVersion {known(spec.cdi_version)}" for spec in newer),
    }


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
    plugin = next((s.path for s in each(facts.host.cdi.specs) if (known(s.kind) or "").startswith("k8s.")), None)
    own = [pod for pod in pods(facts) if known(pod.name) == known(facts.container.name)]
    asks = any(nvidia_resources(pod.requests) for pod in own)
    waits = asks and is_absent(node(facts.container, "/dev/nvidiactl")) and runtime(facts) != "nvidia"
    return {"plugin": plugin if waits else None}


@computes("ldcache-not-updated-debian-ldconfig")
def _ldconfig(facts: Facts) -> Values:
    path, library = known(toolkit_config(facts).ldconfig), _mounted_not_cached(facts.container)
    wrong = _is_wrong(facts, path) if path else None
    return {"library": library and library.path, "wrong": wrong, "right": _right_ldconfig(facts)}


def _mounted_not_cached(place: Place) -> Library | None:
    cache = known(place.loader.cache)
    if cache is None or any(name in cache for name in _SONAMES):
        return None
    mounted = (library for library in each(place.loader.libraries) if known(library.mounted))
    return next((one for one in mounted if "/compat/" not in one.path and "/stubs/" not in one.path), None)


def _is_wrong(facts: Facts, path: str) -> bool | None:
    """The path is not on the host, or does not exist; None if neither a probe nor the distribution shows it."""
    if not path.startswith("@"):
        return True
    there = looked_up(facts.host.paths, path[1:])
    if is_known(there):
        return there is None
    if known(facts.host.os.id) is None:
        return None
    return path == "@/sbin/ldconfig.real" and not is_ubuntu(facts)


def _right_ldconfig(facts: Facts) -> str:
    there, ubuntu = known(facts.host.paths) or {}, known(facts.host.os.id) is not None and is_ubuntu(facts)
    for path in ("/sbin/ldconfig.real", "/sbin/ldconfig"):
        if known(there.get(path)):
            return f"@{path}"
    usual = "/sbin/ldconfig.real" if ubuntu else "/sbin/ldconfig"
    return "@$(command -v ldconfig)" if usual in there else f"@{usual}"


@computes("apt-signed-by-conflict")
def _two_keys(facts: Facts) -> Values:
    pair = _conflict(facts)
    files = [quote(known(source.file) or "") for source in pair]
    ours = (file for name in _KEPT for file in files if file.rpartition("/")[2].startswith(name))
    keep = next(ours, files[-1] if files else "")
    says = (f"{known(one.file)}: {known(one.uri)} ({known(one.signed_by) or 'no key'})" for one in pair)
    return {
        "pair": tuple(Evidence("host.packages.sources", line) for line in says),
        "files": " and ".join(files),
        "keep": keep,
        "remove": " ".join(file for file in files if file != keep),
    }


def _conflict(facts: Facts) -> tuple[PackageSource, ...]:
    """The first two files that list the same repository with different keys."""
    sources = [one for one in each(facts.host.packages.sources) if known(one.uri) and is_known(one.signed_by)]
    pairs = combinations(sources if commands.manager(facts) == "apt" else (), 2)
    return next((p for p in pairs if _at(facts, p[0]) == _at(facts, p[1]) and p[0].signed_by != p[1].signed_by), ())


def _at(facts: Facts, source: PackageSource) -> str:
    """The repository in the form that apt compares."""
    uri = (known(source.uri) or "").replace("$(ARCH)", host_architecture(facts) or "")
    return re.sub(r"[/ ]+$", "", uri)
