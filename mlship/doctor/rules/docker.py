"""Rules about Docker and how it starts a container: installation, runtimes, cgroups, platform, shared memory."""

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import gpus_need_no_hook, injection
from mlship.doctor.facts.fact import Fact, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.queries import is_tegra, is_wsl, node
from mlship.doctor.rules.base import computes

_HOOKS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "amd64": "amd64", "arm64": "arm64"}
_SHM_DEFAULT = 64 * 1024**2
_TEGRA_NODES = ("/dev/nvhost-gpu", "/dev/nvhost-ctrl-gpu", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl", "/dev/nvidia0")


def _others(facts: Facts) -> tuple[Fact[object], ...]:
    """Engines besides Docker that may provide the GPU."""
    return (facts.kubernetes, facts.host.podman, facts.host.containerd, facts.host.crio)


@computes("docker-no-nvidia-driver-registered")
def _no_hook(facts: Facts) -> Values | None:
    if commands.engine(facts) != "docker" or _by_cdi(facts):
        return None
    toolkit, late = facts.host.toolkit, _is_late(facts)
    base_only = known(looked_up(facts.host.docker.daemon_hooks, _HOOKS[1])) is not None
    return {
        "lacking": _lacks(facts),
        "expected": _is_the_way(facts),
        "only": _is_only(facts),
        "late": late,
        "lack": "on its PATH" if known(toolkit.version) else "installed",
        "there": late or (known(toolkit.version) is not None and not base_only),
    }


def _lacks(facts: Facts) -> tuple[str, ...]:
    """The hooks, if dockerd has none of them; empty if it has one, or if that is unknown."""
    hooks = known(facts.host.docker.daemon_hooks)
    if hooks is None:
        return _HOOKS[:1] if is_absent(facts.host.toolkit.version) else ()
    use = _HOOKS if gpus_need_no_hook(facts) is not False else _HOOKS[:1]
    absent = tuple(name for name in use if name in hooks and hooks[name] is None)
    return absent if absent and not any(known(hooks.get(name)) for name in use) else ()


def _is_late(facts: Facts) -> bool:
    started, written = known(facts.host.docker.daemon_started_at), known(facts.host.toolkit.installed_at)
    return bool(started and written and written > started)


def _is_the_way(facts: Facts) -> bool:
    """No error was reported yet: it matters only if nothing but Docker provides the GPU here."""
    others = _others(facts)
    if any(known(other) is not None for other in others) or is_wsl(facts) or is_tegra(facts):
        return False
    by_cdi = each(facts.host.cdi.specs) and known(facts.host.docker.cdi) is not False
    return not by_cdi and "nvidia" not in each(facts.host.docker.runtimes)


def _is_only(facts: Facts) -> bool:
    """It is known that nothing but Docker could provide the GPU here."""
    ways = (*_others(facts), facts.host.cdi.specs, facts.host.docker.runtimes)
    return all(is_known(way) for way in ways)


def _by_cdi(facts: Facts) -> bool:
    """The container requests CDI devices, which need no registered driver."""
    return bool(each(facts.container.host_config.cdi_devices)) and not each(facts.container.host_config.gpus)


@computes("nvml-unknown-error-after-daemon-reload")
def _reload(facts: Facts) -> Values:
    reloaded, started = known(facts.host.systemd_reloaded_at), known(facts.container.started_at)
    control = known(node(facts.container, "/dev/nvidiactl"))
    answer = known(control.open) if control else None
    return {
        "after": bool(reloaded and started and reloaded > started),
        "before": bool(reloaded and started and reloaded <= started),
        "started_at": started,
        "opens": answer is not None,
        "denied": answer == "EPERM",
        "how": injection(facts),
    }


@computes("jetson-gpus-flag-without-runtime")
def _jetson_nodes(facts: Facts) -> Values:
    nodes = {path: node(facts.container, path) for path in _TEGRA_NODES}
    absent = tuple(path for path, one in nodes.items() if is_absent(one))
    return {"absent": absent[:2], "no_node": bool(absent) and not any(map(known, nodes.values()))}


@computes("wrong-arch-image")
def _other_architecture(facts: Facts) -> Values | None:
    platform, machine = known(facts.container.platform) or "", known(facts.host.os.arch)
    image = known(facts.image.architecture) or (platform.split("/")[1] if platform.count("/") else None)
    host = _MACHINES.get(machine or "")
    if image is None or host is None or _MACHINES.get(image, image) == host:
        return None
    reference = known(facts.image.reference) or ""
    return {
        "for_jetson": host != "arm64" and any(word in reference for word in ("l4t", "jetson", "jetpack")),
        "built_for": image,
        "host": host,
        "machine": machine,
        "qemu": ", ".join(name for name in each(facts.host.binfmt) if name.startswith("qemu-")),
    }


@computes("shm-exhausted")
def _shm_size(facts: Facts) -> Values:
    size = known(facts.container.shm)
    size = known(facts.container.host_config.shm_size) if size is None else size
    has = f"{size // 1024**2} MiB" if size is not None else "of unknown size"
    larger, small = "8g" if not size or size < 4 * 1024**3 else "32g", size is not None and size <= _SHM_DEFAULT
    return {"has": has, "measured": size is not None, "larger": larger, "certain": small}
