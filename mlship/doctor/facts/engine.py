"""Container engines and their configuration, on the host."""

from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


@dataclass(frozen=True)
class DaemonJson(FactGroup):
    """daemon.json; unset keys are null.

    Attributes:
        path: of the file.
        runtimes: name to path.
        cdi: features.cdi.
        exec_opts: such as ["native.cgroupdriver=cgroupfs"].
        modified_at: ISO 8601, UTC.
        error: the parse error; absent if the file is valid.
    """

    path: Fact[str] = UNKNOWN
    runtimes: Fact[dict[str, str]] = UNKNOWN
    default_runtime: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    exec_opts: Fact[tuple[str, ...]] = UNKNOWN
    modified_at: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Docker(FactGroup):
    """Docker, from its client and from `docker info`.

    Attributes:
        binary: result of `command -v docker`, such as "/snap/bin/docker"; absent if not installed.
        version: of the engine; unreadable, with the client's message, if it does not answer.
        context: the client's context, such as "default" or "rootless".
        endpoint: of that context, such as "unix:///run/user/1000/docker.sock".
        operating_system: from `docker info`; "Docker Desktop" for Docker Desktop.
        root_dir: DockerRootDir.
        runtimes: names of the runtimes in `docker info`.
        discovered_devices: DiscoveredDevices, such as ["cdi: nvidia.com/gpu=all"].
        cdi: the CDI feature is enabled; absent if this version does not have it.
        cgroup_driver: "systemd" or "cgroupfs".
        security_options: such as ["name=rootless"].
        daemon_started_at: of dockerd; ISO 8601, UTC.
        daemon_hooks: the toolkit's hooks on dockerd's own PATH, path by name, null if missing.
        daemon_json: absent if there is no such file.
    """

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
    """A runtime of containerd or CRI-O.

    Attributes:
        runtime_type: such as "io.containerd.runc.v2"; absent if the configuration has none.
        binary: BinaryName, such as "/usr/bin/nvidia-container-runtime".
        source: the file that defines it, such as "/etc/containerd/conf.d/99-nvidia.toml".
    """

    runtime_type: Fact[str] = UNKNOWN
    binary: Fact[str] = UNKNOWN
    source: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Containerd(FactGroup):
    """containerd or CRI-O on a Kubernetes node, from `containerd config dump`.

    Attributes:
        distribution: one of "containerd", "k3s", "rke2", "microk8s", "k0s".
        config_path: its main file.
        runtimes: handlers by name; others are not configured.
        cdi: enable_cdi.
    """

    version: Fact[str] = UNKNOWN
    distribution: Fact[str] = UNKNOWN
    config_path: Fact[str] = UNKNOWN
    imports: Fact[tuple[str, ...]] = UNKNOWN
    runtimes: Fact[dict[str, RuntimeHandler]] = UNKNOWN
    default_runtime_name: Fact[str] = UNKNOWN
    cdi: Fact[bool] = UNKNOWN
    cdi_spec_dirs: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN
