"""Rules about CDI: specifications that are stale, not found, or provide less than the legacy hook did."""

from collections.abc import Iterable, Iterator
from itertools import combinations

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import host_driver, injection, is_rootless
from mlship.doctor.facts.fact import each, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.toolkit import CdiSpec
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import line_of, node
from mlship.doctor.rules.base import computes
from mlship.doctor.versions import same

_MISSING_FILE = r"(?i)(stat|mount|crun|runc).*no such file or directory"
_REASONS = ("off", "undefined", "broken", "shut", "elsewhere", "other_names", "twice")
_UNRESOLVABLE = r"unresolvable CDI devices|could not select device driver .cdi."


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
