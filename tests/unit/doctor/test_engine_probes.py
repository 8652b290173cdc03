"""Docker, podman, the toolkit, CDI, containerd and Kubernetes: what they print and what their files say, as facts."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from mlship.doctor.facts.fact import UNKNOWN, Unreadable, known
from mlship.doctor.facts.host import Containerd, DaemonJson, Docker, RuntimeHandler, ToolkitConfig
from mlship.doctor.facts.place import DeviceNode
from mlship.doctor.probes import dockerd, kubernetes
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.cdi import read_cdi, spec_of
from mlship.doctor.probes.containerd import containerd, crio
from mlship.doctor.probes.engine import binary, docker_of, podman_of, read_docker
from mlship.doctor.probes.inspected import container_of, image_of
from mlship.doctor.probes.kubernetes import classes_of, events_of, gpu_pods, node_of, operator_of
from mlship.doctor.probes.look_inside import ended_of, first_env
from mlship.doctor.probes.moments import moment_of
from mlship.doctor.probes.shell import read_sections
from mlship.doctor.probes.toolkit import config, config_of, read_toolkit, version_of
from mlship.engine.look import LookResult, Ran
from tests.helpers.patience import limit

INFO = {
    "ServerVersion": "27.5.1",
    "OperatingSystem": "Ubuntu 22.04.4 LTS",
    "DockerRootDir": "/var/lib/docker",
    "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
    "DefaultRuntime": "runc",
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
    "CDISpecDirs": [],
    "ClientInfo": {"Version": "27.5.1", "Context": "default"},
}
# What `podman info --format json` prints, and what its socket answers to docker info.
PODMAN = {
    "host": {
        "security": {"rootless": True},
        "ociRuntime": {
            "name": "crun",
            "version": "crun version 1.14.1\ncommit: de537a7965bfbe9992e2cfae0baeb56a08128171",
        },
    },
    "version": {"APIVersion": "4.9.3", "Version": "4.9.3"},
}
CDI = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
  - hostPath: /host/dev/nvidia-uvm
    path: /dev/nvidia-uvm
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args:
    - nvidia-cdi-hook
    - enable-cuda-compat
    - --host-driver-version=550.54.15
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15
    containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15
  - hostPath: /usr/lib/x86_64-linux-gnu/libnvidia-egl-wayland.so.1.1.13
    containerPath: /usr/lib/x86_64-linux-gnu/libnvidia-egl-wayland.so.1.1.13
  - hostPath: /lib/firmware/nvidia/535.161.07/gsp_ga10x.bin
    containerPath: /lib/firmware/nvidia/535.161.07/gsp_ga10x.bin
"""
TOOLKIT = """\
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
[nvidia-container-cli]
environment = []
ldconfig = "@/sbin/ldconfig.real"
load-kmods = true
no-cgroups = true
[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["docker-runc", "runc", "crun"]
debug = "/var/log/nvidia-container-runtime.log"
[nvidia-container-runtime.modes.cdi]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]
[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "ldconfig"
[features]
allow-cuda-compat-libs-from-container = true
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_an_ordinary_docker() -> None:
    docker = docker_of(LookResult(INFO))
    assert docker == Docker(
        client_version="27.5.1",
        context="default",
        version="27.5.1",
        operating_system="Ubuntu 22.04.4 LTS",
        root_dir="/var/lib/docker",
        runtimes=("nvidia", "runc"),
        default_runtime="runc",
        cdi=False,
        cdi_spec_dirs=(),
        discovered_devices=UNKNOWN,
        cgroup_driver="systemd",
        security_options=("name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"),
        rootless=False,
    )


@pytest.mark.parametrize(
    ("changes", "cdi", "discovered", "rootless"),
    [
        ({"ServerVersion": "20.10.24+dfsg1"}, None, UNKNOWN, False),
        ({"ServerVersion": "26.1.5+dfsg1", "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"]}, True, UNKNOWN, False),
        ({"ServerVersion": "29.2.0", "CDISpecDirs": ["/etc/cdi"]}, True, (), False),
        (
            {
                "ServerVersion": "29.2.0",
                "CDISpecDirs": ["/etc/cdi"],
                "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=all"}],
                "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"],
            },
            True,
            ("cdi: nvidia.com/gpu=all",),
            True,
        ),
    ],
)
def test_other_dockers(changes: dict[str, object], cdi: object, discovered: object, rootless: bool) -> None:
    docker = docker_of(LookResult({**INFO, **changes}))
    assert (docker.cdi, docker.discovered_devices, docker.rootless) == (cdi, discovered, rootless)


@pytest.mark.parametrize(
    "said", ["Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "permission denied"]
)
def test_a_docker_that_does_not_answer(said: str) -> None:
    docker = docker_of(LookResult({"ServerErrors": [said], "ClientInfo": INFO["ClientInfo"]}, "no engine", said))
    assert docker.version == Unreadable(said, root=said == "permission denied")
    assert (docker.client_version, docker.runtimes) == ("27.5.1", UNKNOWN)


@pytest.mark.parametrize("found", [PODMAN, {**INFO, "BuildahVersion": "1.33.7"}])
def test_podman_in_dockers_place_is_no_docker(found: dict[str, object]) -> None:
    assert docker_of(LookResult(found)) == Docker(binary=None)


def test_podman() -> None:
    podman = podman_of(json.dumps(PODMAN))
    assert (podman.version, podman.rootless, podman.runtime, podman.runtime_version) == (
        "4.9.3",
        True,
        "crun",
        "1.14.1",
    )
    assert podman_of("", "Error: newuidmap").version == Unreadable("Error: newuidmap")


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({"/usr/bin/docker": "../libexec/docker"}, "/usr/libexec/docker"),
        ({"/usr/local/bin/docker": "/snap/bin/docker"}, "/snap/bin/docker"),
        ({"/usr/local/bin/docker": "/snap/other/docker", "/snap/other/docker": "/usr/bin/snap"}, "/snap/bin/docker"),
        ({}, None),
    ],
)
def test_the_docker_program(links: dict[str, str], expected: str | None, tmp_path: Path) -> None:
    write(tmp_path, {"/usr/libexec/docker": "", "/snap/bin/docker": "", "/usr/bin/snap": ""})
    for path in ("usr/libexec/docker", "snap/bin/docker", "usr/bin/snap"):
        (tmp_path / path).chmod(0o755)
    if not links:
        shutil.rmtree(tmp_path / "snap")
    for name, target in links.items():
        (tmp_path / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.lstrip("/")).symlink_to(target)
    assert binary(tmp_path) == expected


DAEMON = {
    "/proc/stat": "cpu 1 2 3\nbtime 1000000\n",
    "/proc/77/comm": "dockerd\n",
    "/proc/77/cmdline": "/usr/bin/dockerd\0-H\0fd://\0",
    "/proc/77/stat": "77 (docker d) S 1 77 77 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 12 0 500 1 1 1",
    "/proc/77/environ": "HOME=/root\0PATH=/opt/bin:/usr/bin\0",
}


def test_the_daemon_as_a_process(tmp_path: Path) -> None:
    write(tmp_path, {**DAEMON, "/usr/bin/nvidia-container-runtime-hook": ""})
    (tmp_path / "usr/bin/nvidia-container-runtime-hook").chmod(0o755)
    (daemon,) = dockerd._daemons(tmp_path)
    seconds = 1000000 + 500 / os.sysconf("SC_CLK_TCK")
    assert dockerd.started_at(tmp_path, daemon) == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    assert dockerd.hooks(tmp_path, daemon) == {
        "nvidia-container-runtime-hook": "/usr/bin/nvidia-container-runtime-hook",
        "nvidia-cdi-hook": None,
    }


@pytest.mark.parametrize(
    ("argv", "rootless", "snap", "expected"),
    [
        ((), False, False, "/etc/docker/daemon.json"),
        ((), True, False, "/home/me/.config/docker/daemon.json"),
        ((), False, True, "/var/snap/docker/current/config/daemon.json"),
        (("dockerd", "--config-file", "/srv/d.json"), False, False, "/srv/d.json"),
        (("dockerd", "--config-file=/srv/d.json"), True, False, "/srv/d.json"),
    ],
)
def test_where_the_daemon_reads(
    argv: tuple[str, ...], rootless: bool, snap: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    daemon = dockerd.Daemon(1, 0, argv)
    assert dockerd.config_path(daemon, rootless=rootless, snap=snap) == expected


def test_daemon_json(tmp_path: Path) -> None:
    text = '{"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}, "features": {"cdi": true},\n'
    text += '"default-runtime": "nvidia", "exec-opts": ["native.cgroupdriver=cgroupfs"]}'
    write(tmp_path, {"/etc/docker/daemon.json": text, "/etc/docker/broken.json": "{", "/etc/docker/list.json": "[]"})
    found = dockerd.daemon_json(tmp_path, "/etc/docker/daemon.json")
    assert isinstance(found, DaemonJson)
    assert (found.runtimes, found.default_runtime, found.cdi) == (
        {"nvidia": "nvidia-container-runtime"},
        "nvidia",
        True,
    )
    assert (found.exec_opts, found.error) == (("native.cgroupdriver=cgroupfs",), None)
    broken, plain_list = (dockerd.daemon_json(tmp_path, f"/etc/docker/{name}.json") for name in ("broken", "list"))
    assert "Expecting property name" in str(broken)
    assert "not a JSON object" in str(plain_list)
    assert dockerd.daemon_json(tmp_path, "/etc/docker/none.json") is None


def test_another_root_asks_no_engine_of_this_machine(tmp_path: Path) -> None:
    write(tmp_path, {"/etc/docker/daemon.json": "{}"})
    docker = read_docker(Look(tmp_path)).host.docker
    assert (docker.binary, docker.version) == (None, UNKNOWN)
    assert isinstance(docker.daemon_json, DaemonJson)


def test_a_cdi_specification(tmp_path: Path) -> None:
    write(tmp_path, {"/dev/nvidiactl": "", "/dev/nvidia0": "", "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15": ""})
    spec = spec_of("/etc/cdi/nvidia.yaml", CDI, tmp_path)
    assert (spec.kind, spec.cdi_version, spec.devices, spec.error) == ("nvidia.com/gpu", "0.5.0", ("0", "all"), None)
    assert spec.driver_versions == ("535.161.07", "550.54.15")
    assert spec.device_nodes == ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0")
    assert spec.missing == (
        "/host/dev/nvidia-uvm",
        "/usr/lib/x86_64-linux-gnu/libnvidia-egl-wayland.so.1.1.13",
        "/lib/firmware/nvidia/535.161.07/gsp_ga10x.bin",
        "/usr/bin/nvidia-cdi-hook",
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "kind: [", "not valid YAML"),
        ("a.yaml", "[" * 1_000_000, "nested too deeply"),
        ("a.json", '{"kind": ', "Expecting value"),
        ("a.yaml", "", "not a CDI specification"),
        ("a.yaml", "- one", "not a CDI specification"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "#" * 2_000_001, "larger than 2 MB"),
        ("a.yaml", "!!python/object/apply:os.system [true]", "could not determine a constructor"),
    ],
)
def test_specifications_that_are_none(name: str, text: str, said: str, tmp_path: Path) -> None:
    spec = spec_of(f"/etc/cdi/{name}", text, tmp_path)
    assert said in (known(spec.error) or "")
    assert spec.kind == UNKNOWN


def test_where_specifications_are_looked_for(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"/etc/cdi/nvidia.yaml": CDI, "/run/cdi/b.json": "{}", "/etc/cdi/notes.txt": "", "/etc/cdi/x.yaml": "["},
    )
    write(tmp_path, {"/etc/cdi/intel.yaml": "cdiVersion: 0.5.0\nkind: intel.com/gpu\n"})
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "etc/cdi/nvidia.yaml").chmod(0o600)
    specs = known(read_cdi(Look(tmp_path)).host.cdi.specs) or ()
    assert [spec.path for spec in specs] == ["/etc/cdi/nvidia.yaml", "/etc/cdi/x.yaml", "/var/run/cdi/b.json"]
    assert (specs[0].mode, specs[0].readable, specs[1].kind) == ("0600", True, UNKNOWN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_specification_that_may_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, {"/etc/cdi/nvidia.yaml": CDI})
    (tmp_path / "etc/cdi/nvidia.yaml").chmod(0)
    (spec,) = known(read_cdi(Look(tmp_path)).host.cdi.specs) or ()
    assert (spec.readable, spec.kind) == (False, Unreadable("permission denied", root=True))


def test_the_toolkits_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("NVIDIA_CTK_CONFIG_FILE_PATH", raising=False)
    write(tmp_path, {"/etc/nvidia-container-runtime/config.toml": TOOLKIT})
    write(tmp_path, {"/var/log/nvidia-container-runtime.log": "noise\nAuto-detected mode as 'legacy'\n"})
    write(tmp_path, {"/usr/bin/nvidia-container-runtime-hook": ""})
    (tmp_path / "usr/bin/nvidia-container-runtime-hook").chmod(0o755)
    toolkit = read_toolkit(Look(tmp_path)).host.toolkit
    assert toolkit.config == ToolkitConfig(
        path="/etc/nvidia-container-runtime/config.toml",
        mode="auto",
        no_cgroups=True,
        ldconfig="@/sbin/ldconfig.real",
        root=None,
        user=None,
        load_kmods=True,
        disable_require=False,
        supported_driver_capabilities="compat32,compute,display,graphics,ngx,utility,video",
        accept_envvar_when_unprivileged=None,
        accept_as_volume_mounts=None,
        cdi_spec_dirs=("/etc/cdi", "/var/run/cdi"),
        cdi_default_kind="nvidia.com/gpu",
        cuda_compat_mode="ldconfig",
        runtimes=("docker-runc", "runc", "crun"),
        features={"allow-cuda-compat-libs-from-container": True},
    )
    assert (toolkit.log, toolkit.version) == (("Auto-detected mode as 'legacy'",), None)
    assert (known(toolkit.binaries) or {})["nvidia-container-runtime-hook"] == "/usr/bin/nvidia-container-runtime-hook"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", "/srv/other.toml")
    assert config(tmp_path) is None
    assert isinstance(config_of("/x", "[["), Unreadable)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a9b9d0db00d9b1d73c0128c8962c55f4d\n", "1.17.8"),
        ("cli-version: 1.17.7\nlib-version: 1.17.7\nbuild date: 2025-05-16T13:29+00:00\n", "1.17.7"),
        ("NVIDIA Container Toolkit CLI version 1.18.0-rc.2\n", "1.18.0-rc.2"),
        ("segmentation fault", None),
    ],
)
def test_the_toolkits_versions(said: str, version: str | None) -> None:
    assert version_of(said) == version


CONTAINERD_1 = """\
version = 2
imports = ["conf.d/*.toml"]
[plugins."io.containerd.grpc.v1.cri"]
enable_cdi = true
cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""
NVIDIA_DROP_IN = """\
version = 3
[plugins."io.containerd.cri.v1.runtime".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"""


def test_containerd_with_a_drop_in(tmp_path: Path) -> None:
    main, drop = "/etc/containerd/config.toml", "/etc/containerd/conf.d/99-nvidia.toml"
    found = known(containerd(write(tmp_path, {main: CONTAINERD_1, drop: NVIDIA_DROP_IN})))
    assert isinstance(found, Containerd)
    assert found.runtimes == {
        "runc": RuntimeHandler("io.containerd.runc.v2", None, main),
        "nvidia": RuntimeHandler("io.containerd.runc.v2", "/usr/bin/nvidia-container-runtime", drop),
    }
    assert (found.distribution, found.default_runtime_name, found.cdi) == ("containerd", "nvidia", True)
    assert (found.imports, found.cdi_spec_dirs) == (("conf.d/*.toml",), ("/etc/cdi", "/var/run/cdi"))


def test_whose_containerd_it_is(tmp_path: Path) -> None:
    path = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    found = known(containerd(write(tmp_path, {path: CONTAINERD_1, "/etc/containerd/config.toml": ""})))
    assert found is not None
    assert (found.distribution, found.config_path, list(known(found.runtimes) or {})) == ("k3s", path, ["runc"])


@pytest.mark.parametrize("text", ['disabled_plugins = ["cri"]\n', None])
def test_dockers_own_containerd_is_no_node(text: str | None, tmp_path: Path) -> None:
    assert containerd(write(tmp_path, {"/etc/containerd/config.toml": text} if text else {})) is None


def test_a_containerd_configuration_that_is_broken(tmp_path: Path) -> None:
    found = known(containerd(write(tmp_path, {"/etc/containerd/config.toml": "version = "})))
    assert found is not None
    assert "Invalid value" in (known(found.error) or "")


def test_crio(tmp_path: Path) -> None:
    text = '[crio.runtime]\ndefault_runtime = "crun"\n[crio.runtime.runtimes.nvidia]\nruntime_type = "oci"\n'
    text += 'runtime_path = "/usr/bin/nvidia-container-runtime"\n'
    found = known(crio(write(tmp_path, {"/etc/crio/conf.d/99-nvidia.toml": text, "/etc/crio/crio.conf": ""})))
    assert found is not None
    handler = RuntimeHandler("oci", "/usr/bin/nvidia-container-runtime", "/etc/crio/conf.d/99-nvidia.toml")
    assert (found.runtimes, found.default_runtime_name) == ({"nvidia": handler}, "crun")
    assert crio(tmp_path / "elsewhere") is None


NODE = {
    "metadata": {
        "name": "gpu-1",
        "labels": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB", "kubernetes.io/arch": "amd64", "team": "private"},
    },
    "status": {
        "allocatable": {"cpu": "63", "nvidia.com/gpu": "7", "nvidia.com/mig-1g.10gb": "0"},
        "capacity": {"nvidia.com/gpu": "8"},
        "nodeInfo": {"containerRuntimeVersion": "containerd://1.7.27", "kubeletVersion": "v1.31.2"},
    },
}
PODS = {
    "items": [
        {
            "metadata": {
                "name": "nvidia-device-plugin-daemonset-x2",
                "namespace": "gpu-operator",
                "labels": {"app.kubernetes.io/managed-by": "gpu-operator", "helm.sh/chart": "gpu-operator-v24.9.0"},
            },
            "spec": {"containers": [{"image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "False"}],
                "containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}],
            },
        },
        {
            "metadata": {"name": "train", "namespace": "ml"},
            "spec": {
                "runtimeClassName": "nvidia",
                "containers": [{"image": "x", "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "2"}}}],
            },
            "status": {"phase": "Pending"},
        },
        {"metadata": {"name": "coredns", "namespace": "kube-system"}, "spec": {}, "status": {}},
    ]
}


def test_a_kubernetes_node() -> None:
    node = node_of(NODE)
    assert node.labels == {"kubernetes.io/arch": "amd64", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert (node.allocatable, node.capacity) == (
        {"nvidia.com/gpu": 7, "nvidia.com/mig-1g.10gb": 0},
        {"nvidia.com/gpu": 8},
    )
    assert (node.container_runtime, node.kubelet_version) == ("containerd://1.7.27", "v1.31.2")


def test_pods_of_a_node() -> None:
    plugin, workload = gpu_pods(PODS)
    assert (plugin.role, plugin.ready, plugin.reason, plugin.runtime_class) == (
        "device-plugin",
        False,
        "CrashLoopBackOff",
        None,
    )
    assert (workload.role, workload.requests, workload.runtime_class) == ("workload", {"nvidia.com/gpu": 1}, "nvidia")
    assert operator_of(PODS) == "v24.9.0"
    events = {"items": [{"involvedObject": {"name": name}, "message": name} for name in ("train", "other", "gpu-1")]}
    assert list(events_of(events, node_of(NODE), (plugin, workload))) == ["train", "gpu-1"]
    assert classes_of({"items": [{"metadata": {"name": "nvidia"}, "handler": "nvidia"}]}) == {"nvidia": "nvidia"}


@pytest.mark.parametrize(
    ("claim", "seen"),
    [({"name": "gpu"}, True), ({"name": "a", "resourceClaimTemplateName": "imex-0"}, True), ({"name": "nic"}, False)],
)
def test_a_pod_may_claim_a_gpu(claim: dict[str, str], seen: bool) -> None:
    pod = {"metadata": {"name": "train"}, "spec": {"resourceClaims": [claim]}}
    assert [one.role for one in gpu_pods({"items": [pod]})] == (["workload"] if seen else [])


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("nvidia-dra-driver-gpu-kubelet-plugin-x", "dra"),
        ("computedomain-daemon-x", "dra"),
        ("nvidia-device-plugin-mps-control-daemon-x", "device-plugin"),
        ("nvidia-mig-manager-x", "device-plugin"),
    ],
)
def test_the_role_of_a_pod_is_in_its_name(name: str, role: str) -> None:
    assert [one.role for one in gpu_pods({"items": [{"metadata": {"name": name}}]})] == [role]


def test_a_cluster_that_does_not_answer_is_unreadable_in_time(tmp_path: Path) -> None:
    slow = tmp_path / "kubectl"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    started = time.monotonic()
    found = kubernetes._asked(tmp_path, kubernetes.Kubectl((str(slow),), started + 0.5, 2))
    assert found == Unreadable("the cluster did not answer within 2 s")
    assert time.monotonic() - started < limit(5)


def test_a_container_as_it_was_started() -> None:
    found = {
        "Name": "/api",
        "State": {"Status": "running", "StartedAt": "2026-07-02T09:00:00.123456789Z", "Error": ""},
        "Config": {"Env": ["CUDA_VISIBLE_DEVICES=0", "HF_TOKEN=hf_abc", "EMPTY"]},
        "HostConfig": {
            "Runtime": "nvidia",
            "ShmSize": 67108864,
            "IpcMode": "private",
            "DeviceRequests": [
                {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]},
                {"Driver": "nvidia", "Count": 0, "DeviceIDs": ["0", "GPU-1"], "Capabilities": [["gpu", "utility"]]},
                {"Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=all"], "Capabilities": None},
            ],
            "Devices": [{"PathOnHost": "/dev/dri"}],
            "Binds": None,
        },
    }
    box = container_of(found)
    assert (box.name, box.engine, box.status, box.error) == ("api", "docker", "running", None)
    assert (box.started_at, box.env) == ("2026-07-02T09:00:00Z", {"CUDA_VISIBLE_DEVICES": "0"})
    config = box.host_config
    assert (config.runtime, config.gpus) == ("nvidia", ("all", "device=0", "device=GPU-1"))
    assert (config.cdi_devices, config.devices, config.binds) == (("nvidia.com/gpu=all",), ("/dev/dri",), ())


def test_an_image_keeps_its_secrets() -> None:
    env = [
        "CUDA_VERSION=12.4.1",
        "API_KEY=s3cret",
        "NVIDIA_API_KEY=s3cret",
        "NVIDIA_REQUIRE_CUDA=cuda>=12.4",
        "INDEX=https://me:s3cret@pypi.example/",
    ]
    image = image_of({"Id": "sha256:1", "Architecture": "arm64", "Config": {"Env": env, "Labels": None}}, "x:1")
    assert (image.cuda_version, image.architecture, image.labels) == ("12.4", "arm64", {})
    assert image.env == {
        "CUDA_VERSION": "12.4.1",
        "API_KEY": "***",
        "NVIDIA_API_KEY": "***",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.4",
        "INDEX": "https://***@pypi.example/",
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-11-24T18:47:41.345223451Z", "2026-11-24T18:47:41Z"),
        ("2026-11-24T19:47:41+01:00", "2026-11-24T18:47:41Z"),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_moments(said: str | None, expected: str | None) -> None:
    assert moment_of(said) == expected


SHELL = """\
@@os
ID=alpine
VERSION_ID=3.20.3
PRETTY_NAME="Alpine Linux v3.20"
@@arch
x86_64
@@loaders
/lib/ld-musl-x86_64.so.1
@@id
1000
1000
1000 44
@@env
PATH=/bin
NVIDIA_VISIBLE_DEVICES=all
NVIDIA_API_KEY=s3cret
@@nodes
crw-rw-rw-    1 0        0           1,   3 Jul  2 09:00 /dev/null
crw-rw-rw-    1 0        0         195, 255 Jul  2 09:00 /dev/nvidiactl
crw-rw----    1 0        44        195,   0 Jul  2 09:00 /dev/nvidia0
@@open
ok /dev/nvidiactl
sh: can't open /dev/nvidia0: Permission denied
@@mounts
1 2 0:3 /lib/libcuda.so.550.54.15 /usr/lib/libcuda.so.550.54.15 ro,nosuid - ext4 /dev/sda1 rw
@@libraries
/usr/lib/libcuda.so.550.54.15
@@trace
@@smi
Failed to initialize NVML: Driver/library version mismatch
@@end
"""


def test_facts_from_a_shell() -> None:
    place = read_sections(SHELL)
    assert (place.libc.family, place.os.id, place.os.arch) == ("musl", "alpine", "x86_64")
    assert (place.user.uid, place.user.groups) == (1000, (44, 1000))
    assert place.env == {"NVIDIA_API_KEY": "***", "NVIDIA_VISIBLE_DEVICES": "all"}
    nodes = known(place.device_nodes) or {}
    ctl, gpu = known(nodes["/dev/nvidiactl"]), known(nodes["/dev/nvidia0"])
    assert ctl is not None
    assert gpu is not None
    assert (ctl.major, ctl.minor, ctl.mode, ctl.open) == (195, 255, "0666", "ok")
    assert (gpu.mode, gpu.gid, gpu.open, nodes["/dev/nvidia-uvm"]) == ("0660", 44, "EACCES", None)
    (library,) = known(place.loader.libraries) or ()
    assert (library.version, library.mounted, place.nvml.init) == ("550.54.15", True, 18)
    assert place.cuda.library == UNKNOWN  # nothing was traced: musl's loader prints nothing


NAMED = "crw-rw-rw- 1 root root 195, 0 Jul 2 09:00 /dev/nvidia0"  # from an ls that does not know -n


@pytest.mark.parametrize("text", ["", "@@end", f"garbage\n@@nodes\ncrw x\n{NAMED}\n@@id\nroot\n@@end\n"])
def test_a_shell_that_prints_nothing_useful(text: str) -> None:
    place = read_sections(text)
    assert (place.user.uid, place.libc.family, place.device_nodes) == (UNKNOWN, UNKNOWN, UNKNOWN)


def test_a_node_that_ls_describes_otherwise_is_there() -> None:
    nodes = read_sections(SHELL.replace("@@open", f"{NAMED}\n@@open")).device_nodes
    assert (known(nodes) or {})["/dev/nvidia0"] == DeviceNode()


def test_how_programs_in_containers_end() -> None:
    assert ended_of(Ran(None, "a\n")).how == "late"
    assert ended_of(Ran(1, "a\n", "Timeout (0:00:04)!\nThread 0x1:")).how == "late"
    assert (ended_of(Ran(134)).signal, ended_of(Ran(127)).how, ended_of(Ran(0, "x")).ok) == ("SIGABRT", "missing", True)
    assert first_env('["NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_API_KEY=s3cret", "HOME=/", ""]') == {
        "NVIDIA_VISIBLE_DEVICES": "void"
    }
    assert first_env("nothing") == first_env("[" * 100_000) == {}
