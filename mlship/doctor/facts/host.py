"""The host: a place, plus facts that only the host has, such as its container engines."""

from typing import Literal, TypeAlias

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup
from mlship.doctor.facts.place import Place

PackageAction: TypeAlias = Literal["install", "upgrade", "downgrade", "remove"]


class PackageChange(FactGroup):
    at: Fact[str] = UNKNOWN
    action: Fact[PackageAction] = UNKNOWN
    package: Fact[str] = UNKNOWN
    old: Fact[str] = UNKNOWN
    new: Fact[str] = UNKNOWN
    by: Fact[str] = UNKNOWN


class PackageSource(FactGroup):
    file: Fact[str] = UNKNOWN
    uri: Fact[str] = UNKNOWN
    signed_by: Fact[str] = UNKNOWN


class Packages(FactGroup):
    manager: Fact[str] = UNKNOWN
    installed: Fact[dict[str, str]] = UNKNOWN
    history: Fact[tuple[PackageChange, ...]] = UNKNOWN
    sources: Fact[tuple[PackageSource, ...]] = UNKNOWN


class Service(FactGroup):
    active: Fact[str] = UNKNOWN
    enabled: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    started_at: Fact[str] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


class Wsl(FactGroup):
    version: Fact[str] = UNKNOWN
    drivers: Fact[tuple[str, ...]] = UNKNOWN
    windows_nvidia_smi: Fact[bool] = UNKNOWN


class Tegra(FactGroup):
    release: Fact[str] = UNKNOWN
    model: Fact[str] = UNKNOWN
    csv: Fact[tuple[str, ...]] = UNKNOWN


class Selinux(FactGroup):
    mode: Fact[str] = UNKNOWN
    booleans: Fact[dict[str, bool]] = UNKNOWN
    denials: Fact[tuple[str, ...]] = UNKNOWN


class ToolkitConfig(FactGroup):
    path: Fact[str] = UNKNOWN
    mode: Fact[str] = UNKNOWN
    no_cgroups: Fact[bool] = UNKNOWN
    ldconfig: Fact[str] = UNKNOWN
    root: Fact[str] = UNKNOWN
    user: Fact[str] = UNKNOWN
    load_kmods: Fact[bool] = UNKNOWN
    disable_require: Fact[bool] = UNKNOWN
    supported_driver_capabilities: Fact[str] = UNKNOWN
    accept_envvar_when_unprivileged: Fact[bool] = UNKNOWN
    accept_as_volume_mounts: Fact[bool] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN
    cdi_default_kind: Fact[str] = UNKNOWN
    cuda_compat_mode: Fact[str] = UNKNOWN
    runtimes: Fact[tuple[str, ...]] = UNKNOWN
    features: Fact[dict[str, bool]] = UNKNOWN


class Toolkit(FactGroup):
    version: Fact[str] = UNKNOWN
    cli_version: Fact[str] = UNKNOWN
    binaries: Fact[dict[str, Fact[str]]] = UNKNOWN
    installed_at: Fact[str] = UNKNOWN
    config: Fact[ToolkitConfig] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


class CdiSpec(FactGroup):
    path: str
    kind: Fact[str] = UNKNOWN
    cdi_version: Fact[str] = UNKNOWN
    devices: Fact[tuple[str, ...]] = UNKNOWN
    driver_versions: Fact[tuple[str, ...]] = UNKNOWN
    device_nodes: Fact[tuple[str, ...]] = UNKNOWN
    missing: Fact[tuple[str, ...]] = UNKNOWN
    mode: Fact[str] = UNKNOWN
    readable: Fact[bool] = UNKNOWN
    written_at: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


class Cdi(FactGroup):
    specs: Fact[tuple[CdiSpec, ...]] = UNKNOWN
    listed: Fact[tuple[str, ...]] = UNKNOWN


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


class Host(Place):
    virtualization: Fact[str] = UNKNOWN
    wsl: Fact[Wsl] = UNKNOWN
    tegra: Fact[Tegra] = UNKNOWN
    selinux: Fact[Selinux] = UNKNOWN
    packages: Packages = Packages()
    services: Fact[dict[str, Fact[Service]]] = UNKNOWN
    systemd_reloaded_at: Fact[str] = UNKNOWN
    binfmt: Fact[tuple[str, ...]] = UNKNOWN
    mps: Fact[bool] = UNKNOWN
    toolkit: Toolkit = Toolkit()
    cdi: Cdi = Cdi()
    docker: Docker = Docker()
    podman: Fact[Podman] = UNKNOWN
    containerd: Fact[Containerd] = UNKNOWN
    crio: Fact[Containerd] = UNKNOWN
