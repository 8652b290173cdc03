"""Container engines and their configuration, on the host."""

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


class DaemonJson(FactGroup):
    path: Fact[str] = UNKNOWN
    runtimes: Fact[dict[str, str]] = UNKNOWN
    default_runtime: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    exec_opts: Fact[tuple[str, ...]] = UNKNOWN
    modified_at: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


class Docker(FactGroup):
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


class Podman(FactGroup):
    version: Fact[str] = UNKNOWN
    rootless: Fact[bool] = UNKNOWN
    runtime: Fact[str] = UNKNOWN
    runtime_version: Fact[str] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN


class RuntimeHandler(FactGroup):
    runtime_type: Fact[str] = UNKNOWN
    binary: Fact[str] = UNKNOWN
    source: Fact[str] = UNKNOWN


class Containerd(FactGroup):
    version: Fact[str] = UNKNOWN
    distribution: Fact[str] = UNKNOWN
    config_path: Fact[str] = UNKNOWN
    imports: Fact[tuple[str, ...]] = UNKNOWN
    runtimes: Fact[dict[str, RuntimeHandler]] = UNKNOWN
    default_runtime_name: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN
