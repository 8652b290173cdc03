"""Container engines and their configuration, on the host."""

from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


@dataclass(frozen=True)
class DaemonJson(FactGroup):
    """daemon.json; unset keys are null."""

    path: Fact[str] = UNKNOWN
    runtimes: Fact[dict[str, str]] = UNKNOWN
    default_runtime: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    exec_opts: Fact[tuple[str, ...]] = UNKNOWN
    modified_at: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Docker(FactGroup):
    """Docker, from its client and from `docker info`."""

    binary: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    client_version: Fact[str] = UNKNOWN
    context: Fact[str] = UNKNOWN
    endpoint: Fact[str] = UNKNOWN
    operating_system: Fact[str] = UNKNOWN
    root_dir: Fact[str] = UNKNOWN
    runtimes: Fact[tuple[str, ...]] = UNKNOWN
    default_runtime: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN
    discovered_devices: Fact[tuple[str, ...]] = UNKNOWN
    cgroup_driver: Fact[str] = UNKNOWN
    security_options: Fact[tuple[str, ...]] = UNKNOWN
    rootless: Fact[bool] = UNKNOWN
    daemon_started_at: Fact[str] = UNKNOWN
    daemon_hooks: Fact[dict[str, Fact[str]]] = UNKNOWN
    daemon_json: Fact[DaemonJson] = UNKNOWN


@dataclass(frozen=True)
class Podman(FactGroup):
    """podman; `runtime` is its OCI runtime, such as "crun"."""

    version: Fact[str] = UNKNOWN
    rootless: Fact[bool] = UNKNOWN
    runtime: Fact[str] = UNKNOWN
    runtime_version: Fact[str] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class RuntimeHandler(FactGroup):
    """A runtime of containerd or CRI-O."""

    runtime_type: Fact[str] = UNKNOWN
    binary: Fact[str] = UNKNOWN
    source: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Containerd(FactGroup):
    """containerd or CRI-O on a Kubernetes node, from `containerd config dump`."""

    version: Fact[str] = UNKNOWN
    distribution: Fact[str] = UNKNOWN
    config_path: Fact[str] = UNKNOWN
    imports: Fact[tuple[str, ...]] = UNKNOWN
    runtimes: Fact[dict[str, RuntimeHandler]] = UNKNOWN
    default_runtime_name: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN
