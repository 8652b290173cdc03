"""NVIDIA Container Toolkit and CDI on the host."""

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


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
