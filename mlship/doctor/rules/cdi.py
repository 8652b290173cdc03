"""Rules about CDI: specifications that are stale, not found, or provide less than the legacy hook did."""

from collections.abc import Iterable
from itertools import combinations
from shlex import quote
from typing import TypeAlias

from mlship.doctor import commands
from mlship.doctor.container import CDI, at_least, has_started, host_driver, injection, is_ok, is_rootless, works
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.toolkit import CdiSpec
from mlship.doctor.finding import Evidence, Finding, Step
from mlship.doctor.queries import line_of, node
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import same
from mlship.driver import codes

_MISSING_FILE = r"(?i)(stat|mount|crun|runc).*no such file or directory"
_UNRESOLVABLE = r"unresolvable CDI devices|could not select device driver .cdi."


def _spec_without_uvm(facts: Facts) -> str | None:
    """Path of a CDI specification that lists GPUs but not the host's UVM node."""
    uvm = "/dev/nvidia-uvm"
    if known(node(facts.host, uvm)) is None or known(node(facts.container, uvm)) is not None:
        return None
    for spec in each(facts.host.cdi.specs):
        nodes = known(spec.device_nodes) or ()
        if known(spec.kind) == "nvidia.com/gpu" and "/dev/nvidiactl" in nodes and uvm not in nodes:
            return spec.path
    return None


class CdiWithoutUvm(Rule, id="cdi-spec-without-uvm"):
    def look(self, facts: Facts) -> Finding | None:
        spec = _spec_without_uvm(facts)
        if spec is None or known(facts.container.cuda.init) == 0:
            return None
        code = known(facts.container.cuda.init)
        absent = is_absent(node(facts.container, "/dev/nvidia-uvm"))
        return self.found(
            facts,
            {"spec": spec},
            where="container",
            evidence=(
                Evidence("host.device_nodes", "/dev/nvidia-uvm: present"),
                Evidence("host.cdi.specs", f"{spec}: lists no /dev/nvidia-uvm"),
                Evidence("container.device_nodes", "/dev/nvidia-uvm: missing") if absent else None,
                Evidence("container.cuda.init", codes.cuda(code)) if code else None,
            ),
        )


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


class StaleSpec(Rule, id="cdi-spec-stale-after-driver-upgrade"):
    def look(self, facts: Facts) -> Finding | None:
        if works(facts) or not self._is_used(facts):
            return None
        stale = [
            spec
            for spec in each(facts.host.cdi.specs)
            if (known(spec.kind) or "").startswith("nvidia.com/")
            and _is_current(facts, spec) is False
            and not _is_shadowed(facts, spec)
        ]
        return self._finding(facts, stale[0]) if stale else None

    @staticmethod
    def _is_used(facts: Facts) -> bool:
        """Used by the container in question, or by an engine that could use it."""
        how = injection(facts)
        if how == "cdi" or line_of(facts, _MISSING_FILE):
            return True
        engines = known(facts.host.podman) is not None or known(facts.host.docker.cdi) is True
        return engines and known(facts.container.status) is None and known(facts.container.injection) is None

    def _finding(self, facts: Facts, spec: CdiSpec) -> Finding:
        driver, named = host_driver(facts), ", ".join(known(spec.driver_versions) or ())
        missing = known(spec.missing) or ()
        gone = f"{len(missing)} of its files {'does' if len(missing) == 1 else 'do'} not exist" if missing else ""
        return self.found(
            facts,
            {
                "service": known(looked_up(facts.host.services, "nvidia-cdi-refresh")),
                "by_hand": folder(spec.path) == "/etc/cdi",
                "path": spec.path,
                "named": named or "files of another version",
                "driver": driver or "another",
                "gone": gone,
            },
            evidence=(
                Evidence("host.cdi.specs", f"{spec.path}: driver {named or 'unknown'}"),
                Evidence("kernel.nvidia.version", driver) if driver else None,
                *(Evidence("host.cdi.specs", f"{spec.path}: {path} does not exist") for path in missing[:3]),
                line_of(facts, _MISSING_FILE),
            ),
        )


class UnresolvableDevice(Rule, id="cdi-device-unresolvable"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, _UNRESOLVABLE)
        if works(facts) or not is_ok(facts.host.nvml.init) or (has_started(facts) and line is None):
            return None
        specs = known(facts.host.cdi.specs)
        wanted = self._wanted(facts, line)
        if specs is None or not wanted:
            return None
        found = why_unresolved(facts, specs, wanted)
        if found is None:
            return None
        why, fix = found
        return self.found(
            facts,
            {"wanted": wanted, "why": why},
            where="container",
            fix=fix,
            evidence=(
                Evidence("container.host_config.cdi_devices", wanted),
                *(Evidence("host.cdi.specs", f"{spec.path}: {', '.join(each(spec.devices))}") for spec in specs),
                None if specs else Evidence("host.cdi.specs", "none"),
                line,
            ),
        )

    @staticmethod
    def _wanted(facts: Facts, line: Evidence | None) -> str | None:
        asked = [name for name in each(facts.container.host_config.cdi_devices) if name.startswith("nvidia.com/")]
        named = [word for word in line.value.replace(",", " ").split() if ".com/gpu=" in word] if line else []
        return next(iter((*asked, *named)), None)


class LegacyToCdi(Rule, id="ctk-1-18-legacy-to-cdi-regression"):
    def look(self, facts: Facts) -> Finding | None:
        box = facts.container
        if known(box.cuda.init) != 999 or not is_ok(box.nvml.init) or not is_ok(facts.host.cuda.init):
            return None
        uvm = node(box, "/dev/nvidia-uvm")
        shut = known(uvm)
        if is_absent(uvm) or (shut and known(shut.open) not in {"ok", None}) or injection(facts) not in CDI:
            return None
        toolkit, docker = facts.host.toolkit.version, facts.host.docker.version
        if not (at_least(toolkit, (1, 18)) or at_least(docker, (29, 2))):
            return None
        missing = [path for path in ("/dev/nvidia-modeset", "/dev/nvidia-uvm-tools") if is_absent(node(box, path))]
        return self.found(
            facts,
            {
                "injection": injection(facts),
                "toolkit": known(toolkit) or "unknown",
                "docker": known(docker) or "unknown",
            },
            where="container",
            certain=False,
            evidence=(
                Evidence("container.cuda.init", codes.cuda(999)),
                Evidence("container.nvml.init", codes.nvml(0)) if known(box.nvml.init) == 0 else None,
                Evidence("host.cuda.init", codes.cuda(0)) if known(facts.host.cuda.init) == 0 else None,
                Evidence("host.toolkit.version", known(toolkit) or "") if known(toolkit) else None,
                *(Evidence("container.device_nodes", f"{path}: missing") for path in missing),
            ),
        )


# CDI names: which specification defines a name, and why an engine finds none.
Why: TypeAlias = tuple[str, tuple[Step, ...]]

_MAKE = Step(
    "Generate a specification that every engine and user can read:",
    ("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "sudo chmod 0644 /etc/cdi/nvidia.yaml"),
)


def folder(path: str) -> str:
    """The folder of a specification, or the folder itself; /run is written as /var/run, which is the same."""
    found = path.rpartition("/")[0] if path.endswith((".yaml", ".yml", ".json")) else path.rstrip("/")
    return f"/var{found}" if found.startswith("/run/") else found


def why_unresolved(facts: Facts, specs: tuple[CdiSpec, ...], name: str) -> Why | None:
    """Why the engine cannot resolve a name such as "nvidia.com/gpu=all", and the fix; None if it should resolve."""
    kind, _, device = name.partition("=")
    ours = [spec for spec in specs if known(spec.kind) in {kind, None}]
    return (
        _switched_off(facts)
        or _nothing(ours, kind)
        or _broken(ours)
        or _shut(ours)
        or _elsewhere(facts, ours)
        or _other_names(facts, ours, device)
        or _conflict(ours, device)
    )


def _switched_off(facts: Facts) -> Why | None:
    if commands.engine(facts) != "docker" or known(facts.host.docker.cdi) is not False:
        return None
    rootless = is_rootless(facts)
    config = "$HOME/.config/docker/daemon.json" if rootless else "/etc/docker/daemon.json"
    configure = f"nvidia-ctk runtime configure --runtime=docker --cdi.enabled --config={config}"
    return "Docker's CDI feature is off", (
        Step(
            'Turn it on ("features": {"cdi": true}; on by default since Docker 28.3), and restart Docker:',
            (configure if rootless else f"sudo {configure}", commands.restart_engine(facts)),
        ),
    )


def _nothing(ours: list[CdiSpec], kind: str) -> Why | None:
    return None if ours else (f"no specification defines the kind {kind}", (_MAKE,))


def _broken(ours: list[CdiSpec]) -> Why | None:
    broken = [spec for spec in ours if known(spec.error)]
    return (f"{broken[0].path} cannot be used ({known(broken[0].error)})", (_MAKE,)) if broken else None


def _shut(ours: list[CdiSpec]) -> Why | None:
    if not all(known(spec.readable) is False for spec in ours):
        return None
    path, mode = ours[0].path, known(ours[0].mode) or "unknown"
    open_it = Step("Make it readable for all users:", (f"sudo chmod 0644 {quote(path)}",))
    return f"this user cannot read {path} (mode {mode})", (open_it,)


def _elsewhere(facts: Facts, ours: list[CdiSpec]) -> Why | None:
    podman = known(facts.host.podman) if commands.engine(facts) == "podman" else None
    folders = {folder(path) for path in each(podman.cdi_spec_dirs if podman else facts.host.docker.cdi_spec_dirs)}
    if not folders or any(folder(spec.path) in folders for spec in ours):
        return None
    path = ours[0].path
    option = f"podman --cdi-spec-dir={quote(path.rpartition('/')[0])} run …"
    point = (Step(f"Or point podman to it: {option}", instead=True),) if podman else ()
    return f"{path} is outside the folders that the engine reads ({', '.join(sorted(folders))})", (_MAKE, *point)


def _other_names(facts: Facts, ours: list[CdiSpec], device: str) -> Why | None:
    names = _names(ours)
    if not all(known(spec.devices) is not None for spec in ours) or device in names:
        return None
    has = ", ".join(sorted(names)) or "none"
    return f"the specification defines other names ({has})", (
        Step("Use one of those, or regenerate the specification:", (commands.refresh_cdi(facts),)),
    )


def _conflict(ours: list[CdiSpec], device: str) -> Why | None:
    """Two files in one folder that define the same name cancel each other out."""
    named = [spec for spec in ours if device in each(spec.devices)]
    named.sort(key=lambda spec: (not spec.path.endswith("/nvidia.yaml"), spec.path))  # nvidia-ctk's own stays
    for one, other in combinations(named, 2):
        if folder(one.path) == folder(other.path):
            keep = Step("Keep one of them:", (f"sudo rm {quote(other.path)}",))
            return f"{one.path} and {other.path} both define it", (keep,)
    return None


def _names(specs: Iterable[CdiSpec]) -> set[str]:
    return {name for spec in specs for name in each(spec.devices)}
