"""Rules about the Docker engine: its installation, its runtimes, and its cgroups."""

from mlship.doctor import commands
from mlship.doctor.container import (
    CDI,
    gpus_need_no_hook,
    host_is_well,
    injection,
    is_elsewhere,
    is_rootless,
    is_snap,
    works,
)
from mlship.doctor.facts.fact import Fact, each, is_absent, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import is_tegra, is_wsl, line_of, node
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_HOOKS = ("nvidia-container-runtime-hook", "nvidia-cdi-hook")
_NO_DRIVER = (
    r"could not select device driver (\"\"|\\\"\\\"|\"nvidia\"|.*\[\[?gpu)|unknown or invalid runtime name: nvidia"
)
_SNAP_FAILS = rf"{_NO_DRIVER}|load library failed|nvidia-smi.*(not found|no such file)"


def _others(facts: Facts) -> tuple[Fact[object], ...]:
    """Engines besides Docker that may provide the GPU."""
    return (facts.kubernetes, facts.host.podman, facts.host.containerd, facts.host.crio)


class DockerSnap(Rule, id="docker-snap-no-nvidia"):
    def look(self, facts: Facts) -> Finding | None:
        docker = facts.host.docker
        line, runtimes = line_of(facts, _SNAP_FAILS), known(docker.runtimes)
        lacks = runtimes is not None and "nvidia" not in runtimes and not each(docker.discovered_devices)
        well = host_is_well(facts) or (lacks and line_of(facts, _NO_DRIVER) and known(facts.host.nvml.init) is not None)
        if not is_snap(facts) or not well or works(facts) or not (line or lacks):
            return None
        return self.found(
            facts,
            {"apt": commands.manager(facts) == "apt"},
            evidence=(
                Evidence("host.docker.binary", known(docker.binary) or "") if known(docker.binary) else None,
                Evidence("host.docker.root_dir", known(docker.root_dir) or "") if known(docker.root_dir) else None,
                Evidence("host.docker.runtimes", ", ".join(runtimes or ())) if lacks else None,
                Evidence("host.nvml.init", codes.nvml(0)) if host_is_well(facts) else None,
                line,
            ),
        )


class NoDriverRegistered(Rule, id="docker-no-nvidia-driver-registered"):
    def look(self, facts: Facts) -> Finding | None:
        docker, line = facts.host.docker, line_of(facts, _NO_DRIVER)
        if is_snap(facts) or is_elsewhere(facts) or not host_is_well(facts) or works(facts):
            return None
        if known(docker.version) is None or commands.engine(facts) != "docker" or self._by_cdi(facts):
            return None
        lacking, late = self._lacks(facts), self._is_late(facts)
        if not (lacking and (line or self._is_the_way(facts))) and not (late and line):
            return None
        installed = known(facts.host.toolkit.version)
        base_only = known(looked_up(facts.host.docker.daemon_hooks, _HOOKS[1])) is not None
        started, written = known(docker.daemon_started_at), known(facts.host.toolkit.installed_at)
        return self.found(
            facts,
            {
                "late": late,
                "written": written,
                "started": started,
                "there": late or (installed is not None and not base_only),
                "lack": "on its PATH" if installed else "installed",
                "rootless": is_rootless(facts),
            },
            certain=line is not None or self._is_only(facts),
            evidence=(
                *(Evidence("host.docker.daemon_hooks", f"{name}: not on dockerd's PATH") for name in lacking),
                Evidence("host.toolkit.version", "not installed") if is_absent(facts.host.toolkit.version) else None,
                Evidence("host.toolkit.installed_at", f"{written}, dockerd started {started}") if late else None,
                Evidence("host.nvml.init", codes.nvml(0)),
                line,
            ),
        )

    @staticmethod
    def _lacks(facts: Facts) -> tuple[str, ...]:
        """The hooks, if dockerd has none of them; empty if it has one, or if that is unknown."""
        hooks = known(facts.host.docker.daemon_hooks)
        if hooks is None:
            return _HOOKS[:1] if is_absent(facts.host.toolkit.version) else ()
        use = _HOOKS if gpus_need_no_hook(facts) is not False else _HOOKS[:1]
        absent = tuple(name for name in use if name in hooks and hooks[name] is None)
        return absent if absent and not any(known(hooks.get(name)) for name in use) else ()

    @staticmethod
    def _is_late(facts: Facts) -> bool:
        started, written = known(facts.host.docker.daemon_started_at), known(facts.host.toolkit.installed_at)
        return bool(started and written and written > started)

    @staticmethod
    def _is_the_way(facts: Facts) -> bool:
        """No error was reported yet: it matters only if nothing but Docker provides the GPU here."""
        others = _others(facts)
        if any(known(other) is not None for other in others) or is_wsl(facts) or is_tegra(facts):
            return False
        by_cdi = each(facts.host.cdi.specs) and known(facts.host.docker.cdi) is not False
        return not by_cdi and "nvidia" not in each(facts.host.docker.runtimes)

    @staticmethod
    def _is_only(facts: Facts) -> bool:
        """It is known that nothing but Docker could provide the GPU here."""
        ways = (*_others(facts), facts.host.cdi.specs, facts.host.docker.runtimes)
        return all(is_known(way) for way in ways)

    @staticmethod
    def _by_cdi(facts: Facts) -> bool:
        """The container requests CDI devices, which need no registered driver."""
        return bool(each(facts.container.host_config.cdi_devices)) and not each(facts.container.host_config.gpus)


class LostAfterReload(Rule, id="nvml-unknown-error-after-daemon-reload"):
    def look(self, facts: Facts) -> Finding | None:
        box, how = facts.container, injection(facts)
        if known(box.nvml.init) != 999 or not host_is_well(facts) or how in CDI or is_rootless(facts):
            return None
        config = known(facts.host.toolkit.config)
        if (config and known(config.no_cgroups)) or not self._is_systemd(facts) or self._is_older(facts):
            return None
        denied = self._is_denied(facts)
        if denied is False:
            return None
        reloaded, started = known(facts.host.systemd_reloaded_at), known(box.started_at)
        after = bool(reloaded and started and reloaded > started)
        sure = after or (denied is True and how == "legacy")
        return self.found(
            facts,
            {
                "reloaded": reloaded,
                "after": after,
                "kubernetes": known(facts.kubernetes),
                "refreshed": known(looked_up(facts.host.services, "nvidia-cdi-refresh")),
            },
            where="container",
            certain=sure and self._is_systemds(facts),
            evidence=(
                Evidence("container.nvml.init", codes.nvml(999)),
                Evidence("host.nvml.init", codes.nvml(0)),
                Evidence("container.device_nodes", "/dev/nvidiactl: opening it is denied (EPERM)") if denied else None,
                Evidence("host.systemd_reloaded_at", f"{reloaded}, container started {started}") if after else None,
                Evidence("host.docker.cgroup_driver", known(facts.host.docker.cgroup_driver) or "systemd"),
                Evidence("container.injection", how) if how else None,
            ),
        )

    @staticmethod
    def _is_systemd(facts: Facts) -> bool:
        """With cgroupfs, systemd does not change the rules, but the kubelet does."""
        return known(facts.host.docker.cgroup_driver) != "cgroupfs" or known(facts.kubernetes) is not None

    @staticmethod
    def _is_systemds(facts: Facts) -> bool:
        """It is known that systemd or the kubelet manages the container's cgroup, with the rights to deny nodes."""
        docker = facts.host.docker
        rootless = is_known(docker.rootless) or is_known(docker.security_options)
        return known(facts.kubernetes) is not None or (is_known(docker.cgroup_driver) and rootless)

    @staticmethod
    def _is_older(facts: Facts) -> bool:
        """The last reload was before the container started."""
        reloaded, started = known(facts.host.systemd_reloaded_at), known(facts.container.started_at)
        return bool(reloaded and started and reloaded <= started) and known(facts.kubernetes) is None

    @staticmethod
    def _is_denied(facts: Facts) -> bool | None:
        control = known(node(facts.container, "/dev/nvidiactl"))
        answer = known(control.open) if control else None
        if is_absent(node(facts.container, "/dev/nvidiactl")):
            return False
        return None if answer is None else answer == "EPERM"
