"""CDI names: which specification defines them, and why an engine finds none. Pure."""

from collections.abc import Iterable
from itertools import combinations
from shlex import quote
from typing import TypeAlias

from mlship.doctor import commands
from mlship.doctor.asked import is_rootless
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.toolkit import CdiSpec
from mlship.doctor.finding import Step

Why: TypeAlias = tuple[str, tuple[Step, ...]]

_MAKE = Step(
    "Write a specification where every engine looks, readable for all:",
    ("sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "sudo chmod 0644 /etc/cdi/nvidia.yaml"),
)


def folder(path: str) -> str:
    """The folder of a specification, or a folder itself, without /run, which is the same as /var/run."""
    found = path.rpartition("/")[0] if path.endswith((".yaml", ".yml", ".json")) else path.rstrip("/")
    return f"/var{found}" if found.startswith("/run/") else found


def why_unresolved(facts: Facts, specs: tuple[CdiSpec, ...], name: str) -> Why | None:
    """Why the engine cannot resolve a name such as "nvidia.com/gpu=all", and what to do; None where it should."""
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
            'Switch it on ("features": {"cdi": true}; Docker 28.3 and newer have it on), and restart Docker:',
            (configure if rootless else f"sudo {configure}", commands.restart_engine(facts)),
        ),
    )


def _nothing(ours: list[CdiSpec], kind: str) -> Why | None:
    return None if ours else (f"no specification is of the kind {kind}", (_MAKE,))


def _broken(ours: list[CdiSpec]) -> Why | None:
    broken = [spec for spec in ours if known(spec.error)]
    return (f"{broken[0].path} cannot be used ({known(broken[0].error)})", (_MAKE,)) if broken else None


def _shut(ours: list[CdiSpec]) -> Why | None:
    if not all(known(spec.readable) is False for spec in ours):
        return None
    path, mode = ours[0].path, known(ours[0].mode) or "not known"
    open_it = Step("Let everybody read it:", (f"sudo chmod 0644 {quote(path)}",))
    return f"{path} cannot be read by this user (mode {mode})", (open_it,)


def _elsewhere(facts: Facts, ours: list[CdiSpec]) -> Why | None:
    podman = known(facts.host.podman) if commands.engine(facts) == "podman" else None
    folders = {folder(path) for path in each(podman.cdi_spec_dirs if podman else facts.host.docker.cdi_spec_dirs)}
    if not folders or any(folder(spec.path) in folders for spec in ours):
        return None
    path = ours[0].path
    option = f"podman --cdi-spec-dir={quote(path.rpartition('/')[0])} run …"
    point = (Step(f"Or tell podman where it lies: {option}", instead=True),) if podman else ()
    return f"{path} lies outside {', '.join(sorted(folders))}, where the engine looks", (_MAKE, *point)


def _other_names(facts: Facts, ours: list[CdiSpec], device: str) -> Why | None:
    names = _names(ours)
    if not all(known(spec.devices) is not None for spec in ours) or device in names:
        return None
    has = ", ".join(sorted(names)) or "none"
    return f"the specification defines other names ({has})", (
        Step("Ask for one of those, or write the specification anew:", (commands.refresh_cdi(facts),)),
    )


def _conflict(ours: list[CdiSpec], device: str) -> Why | None:
    """Two files of one folder that define the same name cancel each other."""
    named = [spec for spec in ours if device in each(spec.devices)]
    named.sort(key=lambda spec: (not spec.path.endswith("/nvidia.yaml"), spec.path))  # nvidia-ctk's own stays
    for one, other in combinations(named, 2):
        if folder(one.path) == folder(other.path):
            keep = Step("Keep one of them:", (f"sudo rm {quote(other.path)}",))
            return f"{one.path} and {other.path} both define it", (keep,)
    return None


def _names(specs: Iterable[CdiSpec]) -> set[str]:
    return {name for spec in specs for name in each(spec.devices)}
