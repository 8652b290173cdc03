"""NVIDIA Container Toolkit and CDI on the host."""

from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


@dataclass(frozen=True)
class ToolkitConfig(FactGroup):
    """config.toml of the toolkit; unset keys are null.

    Attributes:
        path: such as "/etc/nvidia-container-runtime/config.toml".
        mode: nvidia-container-runtime.mode: "auto", "legacy", "cdi", "csv", "jit-cdi".
        no_cgroups: nvidia-container-cli.no-cgroups.
        ldconfig: nvidia-container-cli.ldconfig, such as "@/sbin/ldconfig.real".
        root: nvidia-container-cli.root, such as "/run/nvidia/driver".
        supported_driver_capabilities: as written, such as "compute,utility".
        cdi_spec_dirs: nvidia-container-runtime.modes.cdi.spec-dirs.
        cuda_compat_mode: nvidia-container-runtime.modes.legacy.cuda-compat-mode.
    """

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


@dataclass(frozen=True)
class Toolkit(FactGroup):
    """The toolkit.

    Attributes:
        version: `nvidia-ctk --version`; absent without nvidia-ctk.
        cli_version: `nvidia-container-cli --version` (libnvidia-container); absent if not installed.
        binaries: path by name, null if not on PATH: {"nvidia-container-runtime-hook": null}.
        installed_at: the later modification time of nvidia-container-runtime-hook and nvidia-cdi-hook; ISO 8601, UTC.
        config: absent without config.toml.
        log: lines of its log, such as "Auto-detected mode as 'legacy'".
    """

    version: Fact[str] = UNKNOWN
    cli_version: Fact[str] = UNKNOWN
    binaries: Fact[dict[str, Fact[str]]] = UNKNOWN
    installed_at: Fact[str] = UNKNOWN
    config: Fact[ToolkitConfig] = UNKNOWN
    log: Fact[tuple[str, ...]] = UNKNOWN


@dataclass(frozen=True)
class CdiSpec(FactGroup):
    """A CDI specification file.

    Attributes:
        kind: such as "nvidia.com/gpu".
        devices: defined names, such as ["0", "all"].
        driver_versions: versions in its mounts and hooks, such as ["550.54.15"].
        device_nodes: paths of containerEdits.deviceNodes in the whole file.
        missing: host paths (nodes, mounts, hook programs) that do not exist.
        mode: file mode in octal, such as "0600".
        readable: readable by the user who starts containers.
        written_at: ISO 8601, UTC.
        error: the parse error; absent if the file is valid.
    """

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


@dataclass(frozen=True)
class Cdi(FactGroup):
    """CDI.

    Attributes:
        specs: from all CDI folders; [] if there are none.
        listed: `nvidia-ctk cdi list`, such as ["nvidia.com/gpu=all"].
    """

    specs: Fact[tuple[CdiSpec, ...]] = UNKNOWN
    listed: Fact[tuple[str, ...]] = UNKNOWN
