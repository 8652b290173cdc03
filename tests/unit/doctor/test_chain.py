"""The chain names a broken link without a rule for its cause, and nothing else."""

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from markupsafe import escape

from mlship.doctor.chain import walk
from mlship.doctor.chain.likely import likely_causes
from mlship.doctor.chain.link import Answer, links, lower_links
from mlship.doctor.chain.walk import walk_chain
from mlship.doctor.conditions import all_atoms_hold
from mlship.doctor.diagnose import Diagnosis, diagnose, link_of_finding
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.queries import has_fact
from mlship.report.doctor.page import PageHead, diagnosis_page
from mlship.report.doctor.text import diagnosis_text
from tests.helpers.doctor_chaos import BREAKS, Break, sick
from tests.helpers.doctor_hosts import hosts, mixed, put

CASES = sick()
GPU = {"address": "0000:1b:00.0", "vendor": "10de", "device": "27b8", "class_code": "030200", "driver": "nvidia"}
NVML = {"init": 0, "device_count": 1}
WORKS = {"nvml": NVML, "cuda": {"init": 0, "device_count": 1}}
DOCKER = {"binary": "/usr/bin/docker", "version": "28.5.2", "runtimes": ["runc"], "default_runtime": "runc"}
HOOK = {"nvidia-container-runtime-hook": "/usr/bin/nvidia-container-runtime-hook"}
NO_HOOK = {"nvidia-container-runtime-hook": None, "nvidia-cdi-hook": None}
SPEC = {"path": "/etc/cdi/nvidia.yaml", "kind": "nvidia.com/gpu", "devices": ["all"], "missing": [], "readable": True}
KERNEL = {"pci": [GPU], "nvidia": {"version": "570.133.20"}}


def named(diagnosis: Diagnosis) -> set[str]:
    causes = {link_of_finding(cause.finding) for cause in diagnosis.causes}
    return causes | {one.link.id for one in diagnosis.unexplained}


def broken(one: Break, host: str) -> Facts:
    facts = one.change(hosts("healthy")[host])
    assert facts is not None
    return facts


def test_there_are_enough_broken_hosts() -> None:
    assert len(CASES) >= 2000
    assert {link for one in BREAKS for link in one.links} >= {link.id for link in links()} - {
        "libraries-resolve",
        "resources",
    }


@pytest.mark.bank(kind=lambda name: name.partition(" @ ")[0])
@pytest.mark.parametrize("name", CASES)
def test_one_break_is_named_and_nothing_else(name: str) -> None:
    one, host = CASES[name]
    diagnosis = diagnose(broken(one, host))
    assert diagnosis.verdict == "problem"
    found = named(diagnosis)
    assert found & set(one.links)
    assert found <= {*one.links, *one.also}


@pytest.mark.parametrize("seed", range(20))
def test_two_breaks_are_both_named(seed: int) -> None:
    """Unless one follows from the other."""
    chance = random.Random(seed)
    pairs = 0
    while pairs < 10:
        (first, host), second = CASES[chance.choice(list(CASES))], chance.choice(BREAKS)
        alone = second.change(hosts("healthy")[host])
        if alone is None or {first.name, second.name} <= OF_THE_DRIVER or set(first.links) & set(second.links):
            continue
        both = second.change(broken(first, host))
        if both is None or both != first.change(alone):  # they change the same facts
            continue
        pairs += 1
        found = named(diagnose(both))
        for one, other in ((first, second), (second, first)):
            follows = any(link in lower_links(mine) for mine in one.links for link in other.links)
            assert follows or found & set(one.links), (host, first.name, second.name, found)


OF_THE_DRIVER = {"module not loaded", "GPU without a driver", "GPU of vfio", "GPU of nouveau", "no GPU on the bus"}


def facts_of(**groups: object) -> Facts:
    return parse_facts(json.dumps({"schema": 1, **groups}), "facts")


CONTAINER = {
    "engine": "docker",
    "status": "created",
    "error": None,
    "host_config": {"gpus": ["all"], "runtime": "runc"},
}
PENDING = {"name": "w", "role": "workload", "phase": "Pending"}
PLUGIN = {"name": "p", "role": "device-plugin", "phase": "Running", "ready": False}
EVIDENT: dict[str, tuple[str, dict[str, object]]] = {
    "CUDA counts no GPU": (
        "cuda-starts",
        {"kernel": KERNEL, "host": {**WORKS, "cuda": {"init": 0, "device_count": 0}}},
    ),
    "one GPU of two is initialized": (
        "gpu-bound",
        {
            "kernel": {**KERNEL, "pci": [GPU, {**GPU, "address": "0000:2b:00.0", "driver": None}]},
            "host": WORKS,
        },
    ),
    "an error on record": (
        "container-created",
        {"kernel": KERNEL, "host": WORKS, "container": {**CONTAINER, "error": "exit status 3: quux"}},
    ),
    "a failed pod": (
        "container-created",
        {
            "kernel": {"nvidia": {"version": "570.133.20"}},
            "host": WORKS,
            "kubernetes": {
                "events": ["failed to inject CDI devices: unresolvable CDI devices example.com/gpu=GPU-1"],
                "pods": [{"name": "w", "role": "workload", "phase": "Failed", "requests": {"nvidia.com/gpu": 1}}],
            },
        },
    ),
    "every GPU is reserved, and one was missed": (
        "gpu-bound",
        {
            "kernel": {"pci": [{**GPU, "driver": "vfio-pci"}], "nvidia": None},
            "host": {"nvml": {"init": 9}},
            "messages": ["No devices were found"],
        },
    ),
    "no NVIDIA GPU, and a container asks for one": (
        "gpu-on-bus",
        {
            "kernel": {"pci": [{"vendor": "8086", "class_code": "030000"}], "nvidia": None},
            "host": {"nvml": {"init": 12}, "docker": DOCKER},
            "container": CONTAINER,
        },
    ),
    "--gpus with a toolkit in cdi mode": (
        "gpu-requested",
        {
            "kernel": KERNEL,
            "host": {
                **WORKS,
                "docker": {**DOCKER, "daemon_hooks": HOOK},
                "toolkit": {"version": "1.17.8", "config": {"mode": "cdi"}},
                "cdi": {"specs": [SPEC]},
            },
            "container": CONTAINER,
        },
    ),
    "a CDI specification, but Docker's CDI is off and there is no hook": (
        "toolkit-ready",
        {
            "kernel": KERNEL,
            "host": {
                **WORKS,
                "docker": {**DOCKER, "cdi": False, "daemon_hooks": NO_HOOK},
                "cdi": {"specs": [SPEC]},
            },
            "container": CONTAINER,
        },
    ),
    "nodes by --device without the driver's libraries": (
        "libraries-inside",
        {
            "kernel": KERNEL,
            "host": {**WORKS, "docker": {**DOCKER, "daemon_hooks": HOOK}, "toolkit": {"version": "1.17.8"}},
            "container": {
                **CONTAINER,
                "status": "running",
                "host_config": {"gpus": [], "devices": ["/dev/nvidia0", "/dev/nvidiactl"], "runtime": "runc"},
                "cuda": {"library": None},
                "device_nodes": {"/dev/nvidia0": {"open": "ok"}, "/dev/nvidiactl": {"open": "ok"}},
            },
        },
    ),
    "the legacy hook without nvidia-container-cli": (
        "toolkit-ready",
        {
            "kernel": KERNEL,
            "host": {
                **WORKS,
                "docker": {**DOCKER, "daemon_hooks": HOOK},
                "toolkit": {"version": "1.17.8", "binaries": {**HOOK, "nvidia-container-cli": None}},
            },
            "container": {
                **CONTAINER,
                "injection": "legacy",
                "error": "exec: nvidia-container-cli: not found in $PATH",
            },
        },
    ),
    "a message that no one has seen before": (
        "container-created",
        {"kernel": KERNEL, "host": WORKS, "messages": ["quux: cannot frobnicate the GPU"]},
    ),
    "what a program raised": (
        "framework-works",
        {"kernel": KERNEL, "host": WORKS, "messages": ["RuntimeError: quux only supports newer GPUs"]},
    ),
    "WSL without its device": (
        "gpu-on-bus",
        {"host": {**WORKS, "wsl": {"drivers": ["nv_dispi.inf_amd64_1"]}, "device_nodes": {"/dev/dxg": None}}},
    ),
    "a pod that waits": (
        "container-created",
        {
            "kernel": KERNEL,
            "host": WORKS,
            "kubernetes": {
                "events": ["cannot allocate all claims"],
                "pods": [{"role": "workload", "phase": "Pending"}],
            },
        },
    ),
    "a pod of NVIDIA that is not ready": (
        "kubelet-offers",
        {
            "kernel": KERNEL,
            "host": WORKS,
            "kubernetes": {"pods": [{"name": "p", "role": "device-plugin", "phase": "Running", "ready": False}]},
        },
    ),
    "a call that fails for a GPU": (
        "gpus-counted",
        {"kernel": KERNEL, "host": {**WORKS, "nvml": {**NVML, "codes": {"nvmlDeviceGetHandleByIndex_v2": 999}}}},
    ),
    "more GPUs in NVML than on the bus": (
        "gpus-counted",
        {"kernel": KERNEL, "host": {"nvml": {"init": 0, "device_count": 3}, "cuda": {"init": 0, "device_count": 3}}},
    ),
    "more GPUs in CUDA than in NVML": (
        "cuda-starts",
        {"kernel": KERNEL, "host": {**WORKS, "cuda": {"init": 0, "device_count": 10**12}}},
    ),
    "a GPU that NVML does not describe": (
        "gpus-counted",
        {"kernel": KERNEL, "host": {**WORKS, "nvml": {"init": 0, "device_count": 2, "devices": [{"index": 0}]}}},
    ),
    "podman alone, without toolkit and CDI": (
        "toolkit-ready",
        {
            "kernel": KERNEL,
            "host": {
                **WORKS,
                "podman": {"version": "5.2.2"},
                "docker": {"binary": None},
                "toolkit": {"version": None},
                "cdi": {"specs": []},
            },
        },
    ),
    "a stopped Docker": (
        "engine-configured",
        {
            "kernel": KERNEL,
            "host": {
                **WORKS,
                "docker": {"binary": "/usr/bin/docker", "version": {"unreadable": "Is the daemon not running?"}},
                **dict.fromkeys(("podman", "containerd", "crio")),
            },
        },
    ),
    "a wheel's library without its own": (
        "libraries-resolve",
        {
            "kernel": KERNEL,
            "host": {**WORKS, "pythons": [{"missing": {"libcusparse.so.12": ["libnvJitLink.so.12"]}}]},
        },
    ),
    "a framework's error": (
        "framework-works",
        {"kernel": KERNEL, "host": {**WORKS, "pythons": [{"jax": {"version": "0.6", "error": "RuntimeError: quux"}}]}},
    ),
    "a pod whose container cannot start": (
        "container-created",
        {
            "kernel": KERNEL,
            "host": WORKS,
            "kubernetes": {
                "events": ["nvidia-container-cli: detection error: nvml error: gpu is quux", "Pulled the image"],
                "pods": [{"name": "w", "role": "workload", "phase": "Pending", "reason": "RunContainerError"}],
            },
        },
    ),
    "the driver of vGPU hosts": (
        "gpu-modes",
        {
            "kernel": KERNEL,
            "host": {
                "nvml": {**NVML, "devices": [{"index": 0, "virtualization_mode": "host-vgpu"}]},
                "cuda": {"library": None},
            },
        },
    ),
    "MIG on some GPUs only": (
        "gpu-modes",
        {
            "kernel": {**KERNEL, "pci": [GPU, {**GPU, "address": "0000:2b:00.0"}]},
            "host": {
                "nvml": {
                    "init": 0,
                    "device_count": 2,
                    "devices": [{"index": 0, "mig_current": 0}, {"index": 1, "mig_current": 1, "mig_devices": []}],
                },
                "cuda": {"init": 100},
            },
        },
    ),
}


@pytest.mark.parametrize("name", EVIDENT)
def test_evidence_in_few_facts_is_a_problem(name: str) -> None:
    link, groups = EVIDENT[name]
    diagnosis = diagnose(facts_of(**groups))
    assert diagnosis.verdict == "problem"
    assert link in named(diagnosis)
    text, page = diagnosis_text(diagnosis), diagnosis_page(diagnosis, PageHead("a", "b"))
    for one in diagnosis.unexplained:
        assert f"Expected: {one.link.expects[:40]}" in text
        for item in one.decides:
            assert f"\n        {item.command}\n" in text
            assert str(escape(item.command)) in page


@pytest.mark.parametrize(
    ("line", "link"),
    [
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", "nvml-inside"),
        ("nvidia-container-cli: detection error: nvml error: unknown error", "nvml-inside"),
        ("NVIDIA-CONTAINER-CLI: initialization error: NVML error: insufficient permissions", "nodes-inside"),
    ],
)
def test_reported_words_count_in_any_case(line: str, link: str) -> None:
    assert link in named(diagnose(facts_of(kernel=KERNEL, host=WORKS, messages=[line])))


SPEC_WITHOUT_NODES = {**SPEC, "device_nodes": []}
CLAIM = "Failed to prepare dynamic resources: "
SAID: dict[str, tuple[str, str, dict[str, object]]] = {
    "files of an older driver": (
        "container-created",
        "a driver update left the names of old files",
        {
            "messages": [
                "nvidia-container-cli: detection error: open failed: /usr/lib/libnvidia-tls.so.570.1.02: no such file"
            ]
        },
    ),
    "a client's hook": (
        "container-created",
        "update the client",
        {"messages": ['error running createRuntime hook: template: oci-hook:1: unexpected "|" in command']},
    ),
    "a toolkit of another system": (
        "container-created",
        "the toolkit's own program does not run",
        {"messages": ["/usr/local/bin/nvidia-container-cli: error while loading shared libraries: libelf.so.1: quux"]},
    ),
    "a host without a loader cache": (
        "container-created",
        "the toolkit finds no loader cache",
        {"messages": ["failed to construct library locator: error loading ldcache: open /etc/ld.so.cache: quux"]},
    ),
    "a driver that was reloaded": (
        "container-created",
        "the driver was reloaded while the engine ran",
        {
            "messages": [
                "mount error: mount operation failed: /a/merged/proc/driver/nvidia/params/registry: no such file"
            ]
        },
    ),
    "a DRA driver that is not there": (
        "container-created",
        "the DRA driver's kubelet plugin does not run on this node",
        {"kubernetes": {"events": [f"{CLAIM}DRA driver a.nvidia.com is not registered"], "pods": [PENDING]}},
    ),
    "a claim that fails": (
        "container-created",
        "the DRA driver could not prepare the claim",
        {"kubernetes": {"events": [f"{CLAIM}NodePrepareResources failed: UUID: Not Found"], "pods": [PENDING]}},
    ),
    "a device of another claim": (
        "container-created",
        "another resource claim still holds the device",
        {
            "kubernetes": {
                "events": [f"{CLAIM}NodePrepareResources failed: a is already allocated to different claim b"],
                "pods": [PENDING],
            }
        },
    ),
    "two versions of the claims' API": (
        "container-created",
        "do not share a version of the API resource.k8s.io",
        {
            "kubernetes": {
                "events": [f"{CLAIM}ResourceClaim a: the server could not find the requested resource"],
                "pods": [PENDING],
            }
        },
    ),
    "a plugin that may not read MIG": (
        "kubelet-offers",
        "it needs NVIDIA_MIG_MONITOR_DEVICES=all",
        {"kubernetes": {"pods": [{**PLUGIN, "log": ["MIG device: error: Insufficient Permissions"]}]}},
    ),
    "an image of a pod that is not there": (
        "kubelet-offers",
        "the pod's image cannot be pulled",
        {"kubernetes": {"pods": [{**PLUGIN, "phase": "Pending", "reason": "ImagePullBackOff"}]}},
    ),
    "a specification without nodes": (
        "toolkit-ready",
        "written before the driver made its nodes",
        {
            "host": {**WORKS, "docker": {**DOCKER, "cdi": True}, "cdi": {"specs": [SPEC_WITHOUT_NODES]}},
            "container": {**CONTAINER, "injection": "cdi"},
        },
    ),
    "a module that the kernel does not trust": (
        "module-loaded",
        "signing key is not enrolled",
        {
            "kernel": {
                "pci": [{**GPU, "driver": None}],
                "nvidia": None,
                "log": ["Loading of unsigned module is rejected"],
            },
            "host": {"nvml": {"init": 9}},
        },
    ),
    "no memory for CUDA": (
        "cuda-starts",
        "`ulimit -v`",
        {"host": {**WORKS, "cuda": {"init": 2}}},
    ),
    "MPS that fails": (
        "cuda-inside",
        "the MPS server failed",
        {"container": {"status": "running", "cuda": {"runtime_code": 30}, "env": {"CUDA_MPS_PIPE_DIRECTORY": "/mps"}}},
    ),
    "a memory of several hosts": (
        "gpu-modes",
        "the process has no channel",
        {"messages": ["[CUDA_ERROR_NOT_PERMITTED] operation not permitted in cuMemCreate(&handle, size, &prop, 0)"]},
    ),
    "a glibc that is too old": (
        "libraries-resolve",
        "glibc is older",
        {"messages": ["ImportError: libc.so.6: version `GLIBC_2.38' not found (required by libGLdispatch.so.0)"]},
    ),
    "a library of CUDA": (
        "libraries-resolve",
        "a wheel's libraries are not installed",
        {"messages": ["ImportError: libcudart.so.13: cannot open shared object file: No such file or directory"]},
    ),
    "an empty nvidia-smi": (
        "libraries-inside",
        "the program is an empty file",
        {"messages": ["exec /usr/bin/nvidia-smi: exec format error"]},
    ),
    "a device of no specification": (
        "container-created",
        "in no specification here",
        {
            "host": {**WORKS, "containerd": {"version": "2.1.6", "cdi": True}},
            "kubernetes": {"events": ["CDI: failed: unresolvable CDI devices a.com/gpu=1"], "pods": [PENDING]},
        },
    ),
    "a node with a taint": (
        "container-created",
        "lacks a toleration",
        {"kubernetes": {"events": ["cannot schedule: untolerated taint {nvidia.com/gpu: 1}"], "pods": [PENDING]}},
    ),
    "no nvidia-smi": (
        "container-created",
        "the driver's files were not injected",
        {"container": {**CONTAINER, "error": 'exec: "nvidia-smi": executable file not found in $PATH'}},
    ),
    "a toolkit that does not know the configuration": (
        "kubelet-offers",
        "does not read the configuration",
        {"kubernetes": {"pods": [{**PLUGIN, "log": ["Error: unsupported config version: 9", "quux failed"]}]}},
    ),
    "a hook that misses a library": (
        "kubelet-offers",
        "the toolkit's own program does not run",
        {
            "kubernetes": {
                "pods": [
                    {**PLUGIN, "log": ["hook #0: error: nvidia-container-cli: loading shared libraries: libquux.so"]}
                ]
            }
        },
    ),
    "a plugin without file watches": (
        "kubelet-offers",
        "fs.inotify.max_user_instances",
        {"kubernetes": {"pods": [{**PLUGIN, "log": ["failed to create FS watcher: too many open files"]}]}},
    ),
    "a compiler without this GPU": (
        "image-fits",
        "newer CUDA than the driver",
        {"messages": ["ptxas fatal   : Value 'sm_120a' is not defined for option 'gpu-name'"]},
    ),
    "apptainer without a driver": (
        "toolkit-ready",
        "apptainer found no driver",
        {"messages": ["INFO: Could not find any nv files on this host!"]},
    ),
    "a GPU without a handle": (
        "gpu-on-bus",
        "the GPU stopped answering",
        {"messages": ["Unable to determine the device handle for GPU0000:0A:00.0: quux"]},
    ),
    "a module whose key is not enrolled": (
        "module-loaded",
        "enroll the key",
        {"messages": ["modprobe: ERROR: could not insert 'nvidia_uvm': Key was rejected by service"]},
    ),
    "a module of another kernel": (
        "module-loaded",
        "no module for the running kernel",
        {"messages": ["modprobe: FATAL: Module nvidia not found in directory /lib/modules/7.0.0-quux"]},
    ),
    "a GPU that the driver rejects": (
        "gpu-bound",
        "the open kernel module does not support this GPU",
        {"messages": ["NVRM: Open nvidia.ko is only ready for use on quux GPUs."]},
    ),
    "a GPU that the driver does not start": (
        "gpus-counted",
        "firmware (GSP)",
        {"messages": ["NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x1:0x2:3)"]},
    ),
    "a module that does not load": (
        "module-loaded",
        "no module for the running kernel",
        {"messages": ["ERROR: Unable to load the kernel module 'nvidia.ko'."]},
    ),
    "an image without a C compiler": (
        "libraries-resolve",
        "finds no C compiler",
        {"messages": ["RuntimeError: Failed to find C compiler."]},
    ),
    "a header of CUDA": (
        "libraries-resolve",
        "no compiler or headers of CUDA",
        {"messages": ["/tmp/quux.c:2:10: fatal error: cuda_runtime.h: No such file or directory"]},
    ),
    "an unknown error of CUDA": (
        "cuda-inside",
        "lacks /dev/nvidia-uvm",
        {"messages": ["quux_init: failed to initialize CUDA: unknown error"]},
    ),
    "a Jetson without its nodes": (
        "cuda-inside",
        "cannot open nvmap",
        {
            "host": {**WORKS, "tegra": {"release": "36.4"}},
            "messages": ["NvRmMemInitQuux failed with Permission denied"],
        },
    ),
    "MPS without a server": (
        "gpu-modes",
        "the MPS server does not run",
        {"messages": ["the MPS server is not ready to accept quux"]},
    ),
    "a virtual GPU without a license": (
        "gpu-modes",
        "got no license",
        {"messages": ["nvidia-gridd: Failed to acquire license from quux"]},
    ),
    "a code of CUDA in a sentence": (
        "cuda-inside",
        "the image's cuda-compat library",
        {"messages": ["unexpected answer of cudaGetDeviceCount(). Error 803: quux"]},
    ),
    "a GPU that another process holds": (
        "cuda-inside",
        "another process or an MPS server",
        {"messages": ["all CUDA-capable devices are busy or unavailable"]},
    ),
    "memory that a server reserves": (
        "resources",
        "other processes hold",
        {"messages": ["ValueError: Free memory (1/9 GiB) is less than desired GPU memory utilization"]},
    ),
    "a library of CUDA that does not start": (
        "libraries-resolve",
        "could not start",
        {"messages": ["jaxlib/quux.cc:7: operation failed: cuFFT internal error"]},
    ),
    "a library of CUDA by its name": (
        "libraries-resolve",
        "a wheel's libraries are not installed",
        {"messages": ["CUDA backend failed to initialize: Unable to load cuSPARSE. Is it installed?"]},
    ),
    "a provider without its library": (
        "framework-works",
        "needs is missing in the image",
        {"messages": ["failed: libonnxruntime_providers_cuda.so: libcufft.so.99: cannot open shared object file"]},
    ),
    "an extension without a build": (
        "framework-works",
        "has no build for this version of CUDA",
        {"messages": ["RuntimeError: CUDA Setup failed: quux"]},
    ),
    "a program that finds no GPU": (
        "framework-works",
        "NVML does not answer in its place",
        {"messages": ["Failed to infer device type"]},
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_what_was_said_names_the_likely_cause(name: str) -> None:
    link, cause, groups = SAID[name]
    diagnosis = diagnose(facts_of(**{"kernel": KERNEL, "host": WORKS, **groups}))
    causes = {one.link.id: one.causes for one in diagnosis.unexplained}
    assert cause in causes[link][0]


VM, NO_LIBCUDA = {**WORKS, "virtualization": "kvm"}, {"nvml": {"init": 12}, "cuda": {"library": None}}
UNBOUND = {**KERNEL, "pci": [{**GPU, "driver": None}]}
NO_MODULE = {**UNBOUND, "modules": {"nvidia": None}, "nvidia": None}
ROUTINE = "NVRM: The NVIDIA probe routine failed for 1 device(s)."
NODE = {"node": "a", "allocatable": {"nvidia.com/gpu": 0}, "capacity": {"nvidia.com/gpu": 0}}
BY_MOUNTS: tuple[dict[str, object], dict[str, object]] = (
    {**WORKS, "toolkit": {"config": {"accept_as_volume_mounts": False}}},
    {
        "status": "running",
        "injection": "none",
        "host_config": {"runtime": "nvidia", "gpus": []},
        "env": {"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"},
        "device_nodes": {"/dev/nvidiactl": None},
        **NO_LIBCUDA,
    },
)


def lies(name: str) -> dict[str, object]:
    return {"loader": {"libraries": [{"path": f"/quux/stubs/{name}.so"}, {"path": f"/quux/{name}.so.1.1"}]}}


SHOWN: dict[str, tuple[str, str, dict[str, object]]] = {
    "a toolkit that looks for the driver where it is not": (
        "kubelet-offers",
        "looks for the driver in /run/nvidia/driver",
        {
            "kernel": KERNEL,
            "host": {**WORKS, "toolkit": {"config": {"root": "/run/nvidia/driver"}}},
            "kubernetes": {
                "pods": [{"name": "q", "role": "device-plugin", "phase": "Pending", "ready": False}],
                "events": ["nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: quux"],
            },
        },
    ),
    "a driver that hangs after a bug": (
        "nvml-answers",
        "the driver hit a bug",
        {
            "kernel": {**KERNEL, "log": ["WARNING: CPU: 4 PID: 7 at nvidia/quux.c:54 quux_put+0x9a/0xb0 [nvidia]"]},
            "host": {"nvml": {"hangs_at": "nvmlInit_v2"}},
        },
    ),
    "a container under SELinux": (
        "nodes-inside",
        "SELinux is enforcing",
        {
            "kernel": KERNEL,
            "host": {**WORKS, "selinux": {"mode": "Enforcing", "booleans": {"container_use_devices": False}}},
            "container": {"engine": "docker", "status": "running", "nvml": {"init": 4}},
        },
    ),
    "an NVLink that failed": (
        "framework-works",
        "an NVLink of a GPU failed",
        {
            "kernel": {**KERNEL, "log": ["NVRM: Xid (PCI:0000:dc:00): 149, quux"]},
            "host": WORKS,
            "messages": ["RuntimeError: CUDA error: an illegal instruction was encountered"],
        },
    ),
    "a virtual machine's GPU that the driver rejects": (
        "gpu-bound",
        "(vGPU) needs the guest driver",
        {"kernel": {**UNBOUND, "log": ["NVRM: quux is not supported by the quux release"]}, "host": VM},
    ),
    "a virtual machine's only GPU that the driver rejects": (
        "module-loaded",
        "(vGPU) needs the guest driver",
        {
            "kernel": {**NO_MODULE, "log": ["NVRM: quux is not supported by the quux release", ROUTINE]},
            "host": {**VM, "nvml": {"init": 9}},
        },
    ),
    "a system container whose host has no driver": (
        "module-loaded",
        "on the machine that runs",
        {
            "kernel": {**NO_MODULE, "module_files": {"nvidia": None}},
            "host": {"virtualization": "lxc", "nvml": {"init": 9}},
        },
    ),
    "a system container that may not open a node": (
        "device-nodes",
        "this system container does not allow",
        {"host": {**WORKS, "virtualization": "lxc", "device_nodes": {"/dev/nvidia-uvm": {"open": "EPERM"}}}},
    ),
    "a node that LXD does not give": (
        "device-nodes",
        "lxc config device add",
        {
            "host": {
                **WORKS,
                "virtualization": "lxc",
                "paths": {"/dev/lxd/sock": "socket"},
                "device_nodes": {"/dev/nvidia-uvm": {"open": "EPERM"}},
            }
        },
    ),
    "a system container of systemd-nspawn that may not open a node": (
        "device-nodes",
        "DeviceAllow=/dev/nvidia0",
        {"host": {**WORKS, "virtualization": "systemd-nspawn", "device_nodes": {"/dev/nvidia-uvm": {"open": "EPERM"}}}},
    ),
    "a host of virtual GPUs whose driver rejects the GPU": (
        "module-loaded",
        "open kernel module does not support",
        {
            "kernel": {**NO_MODULE, "log": ["NVRM: this vGPU host system is not supported by open quux", ROUTINE]},
            "host": {**WORKS, "nvml": {"init": 9}},
        },
    ),
    "nodes that the module does not make": (
        "device-nodes",
        "ModifyDeviceFiles=0",
        {
            "kernel": {**KERNEL, "nvidia": {"version": "570.9", "params": {"ModifyDeviceFiles": "0"}}},
            "host": {"nvml": {"init": 9}, "device_nodes": {"/dev/nvidiactl": None, "/dev/nvidia0": None}},
        },
    ),
    "the only GPU, which an option leaves out": (
        "gpus-counted",
        "ExcludedGpus",
        {
            "kernel": {**KERNEL, "cmdline": "quiet nvidia.NVreg_ExcludedGpus=GPU-1"},
            "host": {"nvml": {"init": 0, "device_count": 0}},
        },
    ),
    "a confidential virtual machine": (
        "gpu-modes",
        "confidential",
        {"host": {**VM, "cuda": {"init": 802}, "services": {"nvidia-fabricmanager": None}}},
    ),
    "an engine on another machine": (
        "engine-configured",
        "another machine",
        {
            "host": {**WORKS, "docker": {**DOCKER, "endpoint": "ssh://quux"}},
            "container": {"engine": "docker", "error": 'could not select device driver ""'},
        },
    ),
    "MIG instances of several kinds": (
        "kubelet-offers",
        "MIG-INVALID",
        {"kubernetes": {**NODE, "labels": {"nvidia.com/gpu.product": "QUUX-MIG-INVALID"}}},
    ),
    "a MIG configuration that failed": (
        "kubelet-offers",
        "MIG manager",
        {"kubernetes": {**NODE, "labels": {"nvidia.com/mig.config.state": "failed"}}},
    ),
    "a system container without the runtime": (
        "libraries-inside",
        "nvidia.runtime",
        {"container": {"engine": "lxc", "lxc": {"manager": "incus", "nvidia_runtime": False}, **NO_LIBCUDA}},
    ),
    "a system container whose runtime is not set": (
        "libraries-inside",
        "nvidia.runtime",
        {"container": {"engine": "lxc", "lxc": {"manager": "lxd", "nvidia_runtime": None}, **NO_LIBCUDA}},
    ),
    "a module without the driver's other files": (
        "device-nodes",
        "only its module",
        {"host": {"nvml": {"init": 12, "library": None}, "device_nodes": {"/dev/nvidia-uvm": None}}},
    ),
    "a container without injection": (
        "libraries-inside",
        "were not injected",
        {"container": {"engine": "lxc", "injection": "none", **NO_LIBCUDA}},
    ),
    "a driver that the operator updates": (
        "kubelet-offers",
        "paused the device plugin",
        {"kubernetes": {**NODE, "labels": {"nvidia.com/gpu.deploy.device-plugin": "paused-for-driver-upgrade"}}},
    ),
    "a node that is meant for virtual machines": (
        "kubelet-offers",
        "workload.config",
        {"kubernetes": {**NODE, "labels": {"nvidia.com/gpu.workload.config": "vm-vgpu"}}},
    ),
    "a node without a device plugin": (
        "kubelet-offers",
        "no device plugin runs",
        {"kubernetes": {**NODE, "pods": [{"name": "b", "role": "dcgm", "ready": True}]}},
    ),
    "a device plugin that offers nothing": (
        "kubelet-offers",
        "found a GPU unhealthy",
        {"kubernetes": {**NODE, "pods": [{"name": "b", "role": "device-plugin", "ready": True}]}},
    ),
    "a Jetson without its lists": (
        "libraries-inside",
        "lists of Jetson's driver files",
        {
            "host": {"tegra": {"release": "R36.4.0", "csv": []}, "cuda": {"init": 0}},
            "container": {"status": "running", "cuda": {"library": None}},
        },
    ),
    "libraries that the loader does not find": (
        "libraries-inside",
        "not in its loader's cache",
        {
            "container": {
                "status": "running",
                "loader": {"libraries": [{"path": "/quux/libcuda.so.9.9", "mounted": True}]},
                **NO_LIBCUDA,
            }
        },
    ),
    "NVML in a sandbox": (
        "nvml-inside",
        "nvproxy",
        {"container": {"status": "running", "nvml": {"init": 3}, "host_config": {"runtime": "runsc"}}},
    ),
    "a machine with an AMD GPU": (
        "gpu-on-bus",
        "another vendor",
        {
            "kernel": {"pci": [{**GPU, "vendor": "1002"}], "modules": {"nvidia": None}},
            "host": {"nvml": {"init": 12}},
            "kubernetes": {
                **NODE,
                "pods": [{"name": "b", "role": "workload", "phase": "Running", "requests": {"nvidia.com/gpu": 1}}],
            },
        },
    ),
    "a CDI specification of fewer GPUs": (
        "nvml-inside",
        "lists fewer GPUs",
        {
            "host": {"nvml": {"init": 0, "device_count": 3}, "cuda": {"init": 0}},
            "kernel": {**KERNEL, "pci": [GPU, GPU, GPU]},
            "container": {
                "status": "running",
                "injection": "cdi",
                "nvml": {"init": 0, "device_count": 2},
                "host_config": {"cdi_devices": ["nvidia.com/gpu=all"]},
            },
        },
    ),
    "a compat library": (
        "cuda-inside",
        "cuda-compat library comes first",
        {
            "host": {**WORKS, "wsl": {"version": "2"}},
            "container": {"status": "running", "cuda": {"init": 100, "library": {"path": "/a/compat/libcuda.so.9.9"}}},
        },
    ),
    "a root that is gone": (
        "toolkit-ready",
        "remove `root`",
        {
            "host": {
                **WORKS,
                "docker": DOCKER,
                "toolkit": {"version": "1.17.8", "config": {"root": "/quux"}},
                "paths": {"/quux": None},
            }
        },
    ),
    "WSL without its node": (
        "gpu-on-bus",
        "WSL reaches no GPU",
        {"kernel": {}, "host": {"wsl": {"version": "2"}, "device_nodes": {"/dev/dxg": None}, "nvml": {"init": 9}}},
    ),
    "WSL without libraries": (
        "nvml-answers",
        "Windows gives WSL no NVIDIA libraries",
        {
            "kernel": {},
            "host": {"wsl": {"version": "2"}, "nvml": {"init": 12}, "paths": {"/usr/lib/wsl/lib/libcuda.so.1": None}},
        },
    ),
    "WSL with libraries off the path": (
        "nvml-answers",
        "is not on the loader's path",
        {
            "kernel": {},
            "host": {"wsl": {"version": "2"}, "nvml": {"init": 12}, "paths": {"/usr/lib/wsl/lib/libcuda.so.1": "file"}},
        },
    ),
    "a request by mounts": (
        "libraries-inside",
        "asked for by mounts",
        {"host": BY_MOUNTS[0], "container": BY_MOUNTS[1]},
    ),
    "nodes of a request by mounts": (
        "nodes-inside",
        "asked for by mounts",
        {"host": BY_MOUNTS[0], "container": BY_MOUNTS[1]},
    ),
    "a container without nodes": (
        "nodes-inside",
        "nothing was injected",
        {"container": {"status": "running", "injection": "none", "device_nodes": {"/dev/nvidiactl": None}}},
    ),
    "a node without rights, whose measurement is no message of the driver": (
        "device-nodes",
        "belong to a group",
        {"host": {"nvml": NVML, "device_nodes": {"/dev/nvidia-uvm": {"open": "EACCES"}}}},
    ),
    "a sandbox": (
        "container-created",
        "Kata",
        {
            "container": {
                "engine": "docker",
                "error": "quux: no such file or directory",
                "host_config": {"runtime": "quux.kata"},
            }
        },
    ),
    "a sandbox whose program fails": (
        "cuda-inside",
        "nvproxy",
        {"container": {"status": "running", "cuda": {"init": 999}, "host_config": {"runtime": "runsc"}}},
    ),
    "a Jetson": (
        "cuda-inside",
        "nvmap",
        {
            "kernel": {},
            "host": {"tegra": {"release": "R36.4.0"}, "cuda": {"init": 0}},
            "container": {"status": "running", "cuda": {"init": 801}},
        },
    ),
    "a module that SELinux denies": (
        "module-loaded",
        "SELinux denies",
        {
            "kernel": {**UNBOUND, "modules": {"nvidia": None}, "nvidia": {"version": None}},
            "host": {"nvml": {"init": 9}, "selinux": {"mode": "Enforcing", "denials": ["avc: denied { module_load }"]}},
        },
    ),
    "a coherent GPU without address translation": (
        "cuda-starts",
        "page tables",
        {
            "host": {
                "os": {"id": "quux", "arch": "aarch64"},
                "nvml": {**NVML, "devices": [{"name": "NVIDIA GB10", "addressing_mode": "None"}]},
                "cuda": {"init": 3},
            }
        },
    ),
    "NVML that crashes on WSL": (
        "nvml-answers",
        "NVIDIA driver in Windows",
        {"kernel": {}, "host": {"wsl": {"version": "2"}, "nvml": {"crashes_at": "nvmlInit_v2 (SIGSEGV)"}}},
    ),
    "CUDA that crashes on WSL": (
        "cuda-starts",
        "NVIDIA driver in Windows",
        {"kernel": {}, "host": {**WORKS, "wsl": {"version": "2"}, "cuda": {"crashes_at": "cuInit (SIGSEGV)"}}},
    ),
    "nodes that LXC does not allow": (
        "nodes-inside",
        "lxc.cgroup2",
        {"container": {"engine": "lxc", "status": "running", "device_nodes": {"/dev/nvidiactl": {"open": "EPERM"}}}},
    ),
    "a CDI specification without libraries": (
        "libraries-inside",
        "has no driver libraries",
        {"container": {"engine": "docker", "status": "running", "injection": "cdi", **NO_LIBCUDA}},
    ),
    "an image for another Jetson release": (
        "libraries-resolve",
        "another L4T release",
        {
            "kernel": {},
            "host": {"tegra": {"release": "R32.7.4"}},
            "messages": ["ImportError: libnvrm_gpu.so: cannot open shared object file: No such file or directory"],
        },
    ),
    "a GPU that is switched off": (
        "gpu-on-bus",
        "switched off to save power",
        {
            "kernel": {**KERNEL, "pci": [{**GPU, "revision": "ff"}], "log": ["bbswitch: disabling discrete graphics"]},
            "host": {"nvml": {"hangs_at": "nvmlInit_v2"}},
        },
    ),
    "a libcuda from before an update": (
        "libraries-inside",
        "create it again",
        {
            "container": {
                "engine": "docker",
                "status": "running",
                "loader": {"libraries": [{"path": "/usr/lib/libcuda.so.550.9", "mounted": False}]},
                **NO_LIBCUDA,
            }
        },
    ),
    "a virtual machine with a CPU of its own": (
        "cuda-starts",
        "pass the host's CPU on",
        {"host": {**VM, "nvml": {**NVML, "devices": [{"virtualization_mode": "passthrough"}]}, "cuda": {"init": 801}}},
    ),
    "a profile of a virtual GPU without CUDA": (
        "gpu-modes",
        "profile without CUDA",
        {"host": {**VM, "nvml": {**NVML, "devices": [{"name": "GRID P4-8A", "compute_mode": "Prohibited"}]}}},
    ),
    "a system container without the driver's libraries": (
        "nvml-answers",
        "exactly the host's version",
        {"host": {"virtualization": "lxc", "nvml": {"init": 12}}},
    ),
    "nodes of a sandbox": (
        "nodes-inside",
        "set the sandbox up",
        {
            "container": {
                "engine": "containerd",
                "status": "running",
                "injection": "none",
                "host_config": {"runtime": "kata-qemu", "gpus": ["all"]},
                "device_nodes": {"/dev/nvidiactl": None},
            }
        },
    ),
    "libraries of a sandbox": (
        "libraries-inside",
        "set the sandbox up",
        {
            "container": {
                "engine": "containerd",
                "status": "running",
                "injection": "none",
                "host_config": {"runtime": "runsc", "gpus": ["all"]},
                **NO_LIBCUDA,
            }
        },
    ),
    "GPUs of Windows that NVML cannot open": (
        "gpu-on-bus",
        "in WDDM mode",
        {
            "kernel": {"pci": []},
            "host": {"wsl": {"version": "2"}},
            "messages": ["Unable to determine the device handle for GPU0: quux"],
        },
    ),
    "a container without the host's GPUs": (
        "nvml-inside",
        "sees no GPU",
        {"container": {"status": "running"}, "messages": ["No devices were found"]},
    ),
    "a device that a specification defines by now": (
        "toolkit-ready",
        "defines the device now",
        {
            "host": {**WORKS, "cdi": {"specs": [{"path": "/quux", "kind": "nvidia.com/gpu", "devices": ["all"]}]}},
            "messages": ["CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all"],
        },
    ),
    "a GPU that Windows keeps": (
        "nvml-answers",
        "Windows keeps the GPU",
        {"kernel": {"pci": []}, "host": {"wsl": {"version": "2"}, "nvml": {"init": 17}}},
    ),
    "a GPU that Windows keeps from a container": (
        "nvml-inside",
        "the container did not get all",
        {
            "kernel": {"pci": []},
            "host": {**WORKS, "wsl": {"version": "2"}},
            "container": {"status": "running", "nvml": {"init": 17}},
        },
    ),
    "a node that a service may not open": (
        "nvml-answers",
        "of a container or a service does",
        {"kernel": KERNEL, "host": {"nvml": {"init": 17}}},
    ),
    "NVML where the loader does not look": (
        "nvml-answers",
        "NVML is on this host",
        {"host": {**lies("libnvidia-ml"), "nvml": {"init": 12, "library": None}}},
    ),
    "libcuda where the loader does not look": (
        "cuda-starts",
        "libcuda is on this host",
        {"host": {**WORKS, **lies("libcuda"), "cuda": {"library": None}, "env": {"LD_LIBRARY_PATH": "/quux"}}},
    ),
    "Windows": (
        "container-created",
        "on WSL",
        {"host": {**WORKS, "wsl": {"version": "2"}}, "container": {"engine": "docker", "error": "quux: driver error"}},
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_facts_without_an_error_line_name_the_likely_cause(name: str) -> None:
    link, cause, groups = SHOWN[name]
    diagnosis = diagnose(facts_of(**{"kernel": KERNEL, "host": WORKS, **groups}))
    causes = {one.link.id: one.causes for one in diagnosis.unexplained}
    assert cause in causes[link][0]


def test_every_condition_of_a_likely_cause_is_met_somewhere() -> None:
    """And not by unknown facts, unless it asks for these."""
    first = {(link, words) for link, words, _ in SHOWN.values()}
    for link in links():
        for cause in link.causes:
            assert not cause.when or any(link.id == one and words in cause.say for one, words in first), cause.say
            assert not cause.when or "known" in cause.when or not all_atoms_hold(Facts(), cause.when, {}), cause.say


@pytest.mark.parametrize(("folder", "is_lost"), [("/usr/lib", False), ("/lib", False), ("/usr/lib/quux", True)])
def test_a_library_for_32_bit_programs_is_not_off_the_path(folder: str, is_lost: bool) -> None:
    """As in /usr/lib on Fedora, where the loader looks anyway."""
    library = {"loader": {"libraries": [{"path": f"{folder}/libnvidia-ml.so.1"}]}}
    diagnosis = diagnose(facts_of(host={**library, "nvml": {"init": 12, "library": None}}))
    causes = [cause for broken in diagnosis.unexplained for cause in broken.causes]
    assert causes
    assert any("NVML is on this host" in cause for cause in causes) is is_lost


def test_a_vague_error_of_a_container_that_runs_hides_no_lower_link() -> None:
    """It is the program's: the container did start."""
    box = {"status": "running", "nvml": NVML, "cuda": {"init": 304}, "device_nodes": {"/dev/nvidia-uvm": None}}
    said = "ERROR: The NVIDIA Driver is present, but quux failed"
    facts = facts_of(kernel=KERNEL, host=WORKS, container=box, messages=[said])
    assert named(diagnose(facts)) == {"nodes-inside"}


def test_a_pod_that_is_a_virtual_machine_may_have_the_gpus() -> None:
    """The host's own driver is not meant to have them: the pod fails for another reason."""
    node = {"allocatable": {"nvidia.com/pgpu": 1}, "capacity": {"nvidia.com/pgpu": 1}}
    pod = {**PENDING, "requests": {"nvidia.com/pgpu": 1}}
    event = "failed to start sandbox: CDI device injection failed: unresolvable CDI devices nvidia.com/pgpu=vfio1"
    bare = {
        "nvml": {"init": 9},
        "cuda": {"init": 100},
        "cdi": {"specs": []},
        "containerd": {"version": "2.1.6", "cdi": True},
    }
    kernel = {"pci": [{**GPU, "driver": "vfio-pci"}], "nvidia": None, "modules": {"nvidia": None}}
    works = facts_of(kernel=kernel, host=bare, kubernetes=node)
    assert diagnose(works).verdict != "problem"
    fails = facts_of(kernel=kernel, host=bare, kubernetes={**node, "pods": [pod], "events": [event]})
    assert named(diagnose(fails)) <= {"toolkit-ready", "container-created"} != named(diagnose(works))


@pytest.mark.parametrize(("said", "verdict"), [(["quux 0.1 starts"], "unknown"), ([], "healthy")])
def test_a_line_that_says_nothing_known_is_not_healthy(said: list[str], verdict: str) -> None:
    host = {**WORKS, "docker": {"binary": None}, **dict.fromkeys(("podman", "containerd", "crio"))}
    diagnosis = diagnose(facts_of(kernel=KERNEL, host=host, messages=said))
    assert (diagnosis.verdict, named(diagnosis)) == (verdict, set())


def test_a_vague_line_beside_a_known_one_is_no_break_of_its_own() -> None:
    said = ["RuntimeError: CUDA error: no kernel image is available", "ERROR: No supported GPU(s) detected here"]
    assert named(diagnose(facts_of(kernel=KERNEL, host=WORKS, messages=said))) == {"image-fits"}


@pytest.mark.parametrize(
    "pod", [{"role": "dra"}, {"role": "device-plugin", "name": "nvidia-dra-driver-gpu-kubelet-plugin-1"}]
)
def test_a_dra_driver_offers_no_resource_of_the_node(pod: dict[str, str]) -> None:
    node = {"capacity": {}, "allocatable": {}, "pods": [{**pod, "phase": "Running", "ready": True}]}
    assert diagnose(facts_of(kernel=KERNEL, host=WORKS, kubernetes=node)).verdict == "healthy"


def test_a_pod_was_asked_to_have_a_gpu_if_it_was_given_one() -> None:
    box = {
        "engine": "containerd",
        "status": "running",
        "injection": "cdi",
        "host_config": {"runtime": "runc", "gpus": []},
        "device_nodes": {"/dev/nvidiactl": None},
        "cuda": {"init": 100},
    }
    assert named(diagnose(facts_of(kernel=KERNEL, host=WORKS, container=box))) == {"nodes-inside"}


@given(mixed())
def test_no_look_crashes_and_no_verdict_contradicts_the_chain(facts: Facts) -> None:
    diagnosis = diagnose(facts)
    states = {rung.state for rung in diagnosis.chain}
    assert diagnosis.bugs == ()
    assert ("broken" in states) is (diagnosis.verdict == "problem") is bool(diagnosis.causes or diagnosis.unexplained)
    assert diagnosis.verdict != "healthy" or (not diagnosis.open and "holds" in states)
    assert diagnosis_text(diagnosis)


def test_a_look_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: Facts) -> Iterator[Answer]:
        yield Answer("holds", str(1 // 0))

    monkeypatch.setattr(walk, "_LOOKS", {**walk._LOOKS, "gpu-bound": crash})
    diagnosis = diagnose(hosts("healthy")["bare-metal-closed"])
    assert diagnosis.bugs == (
        "a bug in mlship's link gpu-bound: ZeroDivisionError: integer division or modulo by zero",
    )


@pytest.mark.slow
def test_a_command_is_never_printed_for_a_known_fact() -> None:
    for facts in [*hosts().values(), *(broken(one, host) for one, host in list(CASES.values())[::40])]:
        for one in diagnose(facts).unexplained:
            paths = [item.fact for item in one.decides if item.fact.startswith(("kernel.", "host.", "container."))]
            assert not [path for path in paths if has_fact(facts, path) and path not in GROUPS]


GROUPS = {"container.host_config"}


@pytest.mark.parametrize(
    ("engine", "cluster", "command"),
    [
        ("docker", None, "docker exec CONTAINER env"),
        ("podman", None, "podman exec CONTAINER env"),
        ("containerd", {"node": "n"}, "kubectl exec POD -- env"),
        ("lxc", None, "lxc exec CONTAINER -- env"),
    ],
)
def test_commands_are_those_of_the_place(engine: str, cluster: object, command: str) -> None:
    box = {"engine": engine, "status": "running", "nvml": {"init": 0}, "cuda": {"init": 3}}
    diagnosis = diagnose(facts_of(kernel=KERNEL, host=WORKS, container=box, kubernetes=cluster))
    commands = [item.command for one in diagnosis.unexplained for item in one.decides]
    assert any(one.startswith(command) for one in commands)
    assert engine == "docker" or not any("docker" in one for one in commands)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("quux: open of a tmpfs: Function not implemented", "a system call"),
        ("quux: cannot write devices.allow: operation not permitted", "device rules"),
        ("quux: cannot apply the AppArmor profile", "AppArmor cannot be used here"),
        ("quux: write /proc/self/attr/apparmor/exec: no such file or directory", "AppArmor cannot be used here"),
        ("quux: newuidmap: exit status 1", "/etc/subuid"),
        ("quux: Failed to run mount hooks", "LXC's hook"),
        ("quux: creation failed: /usr/lib/a.so: file exists", "the image already has the file"),
        ("quux: mounting /a to rootfs: not a directory", "not of one kind"),
        ("fork/exec /usr/bin/quux: permission denied", "not executable"),
        ("quux: open /proc/quux: permission denied", "a security module"),
        ("quux: a hook ended: signal: killed", "memory limit"),
        ("quux: context deadline exceeded", "did not answer in time"),
        ("quux: stat /dev/quux: no such file or directory", "does not exist here"),
        ("quux: error running hook #0: exit status 1", "fails and says no more"),
        ("quux: driver error: failed to process request", "cannot ask the driver"),
        ("quux: can't initialize iptables table `raw': Table does not exist", "no iptables table"),
        ("quux: failed to set up container networking: quux", "network failed, not the GPU"),
        ("quux: maximum request size for shared resources is 9", "failRequestsGreaterThanOne"),
        ("quux: no Topology locality", "Topology Manager"),
        ("quux is forbidden: exceeded quota: a", "the namespace's quota"),
        ("quux: unable to validate against any security context constraint", "a policy of the cluster"),
        ('quux is forbidden: violates PodSecurity "a:b"', "a policy of the cluster"),
        ('admission webhook "quux" denied the request', "a policy of the cluster"),
    ],
)
def test_an_error_names_its_likely_cause(error: str, said: str) -> None:
    """By the kind of the error, whatever program reports it."""
    diagnosis = diagnose(facts_of(kernel=KERNEL, host=WORKS, container={**CONTAINER, "error": error}))
    assert said in diagnosis.unexplained[0].causes[0]


def test_a_library_of_another_version_is_not_one_that_was_not_injected() -> None:
    library = {"path": "/lib/libcuda.so.9.9", "version": "9.9", "mounted": True}
    host = {**WORKS, "nvml": {**NVML, "driver_version": "8.8"}}
    box = {"status": "running", "nvml": {"init": 0, "device_count": 1}, "cuda": {"init": 3, "library": library}}
    found = diagnose(facts_of(kernel=KERNEL, host=host, container=box)).unexplained
    causes = {one.link.id: one.causes for one in found}
    assert "another driver version" in causes["libraries-inside"][0]


def test_the_place_and_the_runtime_name_the_likely_cause() -> None:
    error = "quux: driver error: failed to process request"
    wsl = facts_of(host={**WORKS, "wsl": {"version": "2"}}, container={**CONTAINER, "error": error})
    assert "on WSL" in diagnose(wsl).unexplained[0].causes[0]
    kata = {**CONTAINER, "error": "quux: no such file or directory", "host_config": {"runtime": "io.quux.kata.v2"}}
    found = diagnose(facts_of(kernel=KERNEL, host=WORKS, container=kata)).unexplained
    assert "Kata" in found[0].causes[0]


@pytest.mark.parametrize(
    ("line", "link", "said"),
    [
        ("ImportError: a_cuda.so: undefined symbol: _ZN4quuxE", "libraries-resolve", "a compiled extension"),
        ("Loaded runtime CuDNN library: 8.1 but compiled with: 8.9", "libraries-resolve", "another version"),
        ('error: cannot open source file "quux.h"', "libraries-resolve", "compiler or headers"),
        ("RuntimeError: NCCL error: quux", "resources", "/dev/shm is too small"),
        ("docker: unknown flag: --gpus", "gpu-requested", "does not know this way"),
        ("quux: cuInit(0) returned 804", "cuda-inside", "cuda-compat"),
        ("cuda driver library init failure: 999", "cuda-inside", "nvidia-uvm"),
        ("quux: cudart init failure: 500", "cuda-inside", "lacks a function"),
        ("quux: cuInit returned 801", "cuda-inside", "profile of a virtual GPU"),
        ("9 Insufficient nvidia.com/gpu, 1 had taint {quux: a}", "kubelet-offers", "lacks a toleration"),
        ("no supported GPU(s) detected by quux", "framework-works", "NVML does not answer in its place"),
        ("ERROR: quux was built for NVIDIA Driver Release 999.1 or later", "image-fits", "a newer driver"),
        ("quux only supports Ampere GPUs or newer", "image-fits", "a feature of the program"),
        ("quux is only supported on GPUs with compute capability of at least 9.9", "image-fits", "a feature of"),
    ],
)
def test_a_reported_line_names_its_link_and_likely_cause(line: str, link: str, said: str) -> None:
    found = diagnose(facts_of(kernel=KERNEL, host=WORKS, messages=[line])).unexplained
    assert (found[0].link.id, said in found[0].causes[0]) == (link, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Loading of unsigned module is rejected", "signing key is not enrolled"),
        (
            "NVRM: quux is not supported by the NVIDIA 1.2 driver release.",
            "vGPU guest driver",
        ),
    ],
)
def test_a_driver_that_a_container_tried_is_not_called_absent(line: str, said: str) -> None:
    """It leaves no file on the host: the kernel log shows that it was there."""
    kernel = {**KERNEL, "modules": {"nvidia": None}, "nvidia": {"version": None}, "module_files": {"nvidia": None}}
    host = {"nvml": {"init": 12, "library": None}, "packages": {"installed": {}}}
    tried = diagnose(facts_of(kernel={**kernel, "log": [line]}, host=host))
    assert said in {one.link.id: one.causes for one in tried.unexplained}["module-loaded"][0]
    never = diagnose(facts_of(kernel={**kernel, "log": []}, host=host))
    assert [cause.finding.id for cause in never.causes] == ["driver-not-installed"]


def test_likely_causes_are_those_of_what_was_seen() -> None:
    devices = [{"index": 0, "fabric_state": 2}]
    waits = diagnose(facts_of(kernel=KERNEL, host={**WORKS, "nvml": {**NVML, "devices": devices}}))
    (cause,) = waits.unexplained[0].causes
    assert cause.startswith("Fabric Manager does not run, or has another version than the driver")
    for link in links():
        assert likely_causes(Facts(), link, ())


PODMAN = {**WORKS, "docker": {"binary": None}, "podman": {"version": "5.5.1"}, "toolkit": {"version": "1.18.0"}}
TWO = {**KERNEL, "pci": [GPU, {**GPU, "address": "0000:fe:00.0"}]}
NODE = {"allocatable": {"nvidia.com/gpu": 1}, "capacity": {"nvidia.com/gpu": 1}}
READY = {**PLUGIN, "ready": True}
TORCH = {"version": "2.6.0+cu124", "cuda": "12.4", "is_available": True, "device_count": 1}
PYTHONS = [{"prefix": "/v", "torch": TORCH}]
RUNS = {"engine": "docker", "status": "running", "nvml": NVML}


@pytest.mark.parametrize(
    ("groups", "broken"),
    [
        ({"host": {**PODMAN, "cdi": {"specs": [{**SPEC, "error": "quux"}]}}}, "toolkit-ready"),
        ({"host": {**PODMAN, "cdi": {"specs": []}}}, "toolkit-ready"),
        ({"host": {**PODMAN, "cdi": {"specs": [SPEC]}}}, None),
        ({"host": {**PODMAN, "cdi": {"specs": [SPEC, {**SPEC, "error": "quux"}]}}}, None),
        ({"host": {"nvml": {"init": 12}}, "kernel": TWO, "kubernetes": {**NODE, "pods": [READY]}}, "kubelet-offers"),
        ({"host": WORKS, "kubernetes": {**NODE, "pods": [READY]}}, None),
        ({"host": WORKS, "kubernetes": {"allocatable": {"nvidia.com/gpu": 0}}}, "kubelet-offers"),
        ({"host": WORKS, "kubernetes": {**NODE, "capacity": {"nvidia.com/gpu": 2}}}, "kubelet-offers"),
        ({"host": WORKS, "kubernetes": {**NODE, "pods": [{**PLUGIN, "phase": "Failed"}]}}, "kubelet-offers"),
        ({"host": WORKS, "kubernetes": {**NODE, "pods": [{**PLUGIN, "phase": "Pending"}]}}, "kubelet-offers"),
        ({"host": WORKS, "kubernetes": {**NODE, "pods": [READY, {**PLUGIN, "phase": "Failed"}]}}, None),
        ({"container": {"engine": "docker", "cuda": {"init": 0, "device_count": 0}}}, "cuda-inside"),
        ({"container": {**RUNS, "nvml": {**NVML, "devices": [{"index": 0, "fabric_state": 1}]}}}, "gpu-modes"),
        ({"container": {**RUNS, "cuda": {"init": 0, "device_count": 1}, "pythons": PYTHONS}}, None),
        (
            {"container": {"engine": "docker", "cuda": {"init": 0, "device_count": 8}, "pythons": PYTHONS}},
            "framework-works",
        ),
    ],
)
def test_a_fault_that_nothing_reports_is_seen(groups: dict[str, object], broken: str | None) -> None:
    """A wrong count, a state or a file is enough; the same host without the fault is silent."""
    assert named(diagnose(facts_of(**{"kernel": KERNEL, **groups}))) == ({broken} if broken else set())


def test_a_node_whose_pods_are_unknown_is_not_healthy_without_gpus() -> None:
    """It may have no device plugin by design, or one that does not run."""
    facts = {"kernel": KERNEL, "host": WORKS}
    assert diagnose(facts_of(**facts, kubernetes={"allocatable": {}})).verdict == "unknown"
    assert diagnose(facts_of(**facts, kubernetes={"allocatable": {}, "pods": []})).verdict == "healthy"


def test_a_line_without_a_known_meaning_keeps_a_working_program_from_being_healthy() -> None:
    box = {**RUNS, "cuda": {"init": 0, "device_count": 1}, "pythons": PYTHONS}
    facts = {"kernel": KERNEL, "host": WORKS, "container": box}
    assert diagnose(facts_of(**facts)).verdict == "healthy"
    assert diagnose(facts_of(**facts, messages=["quux went another way"])).verdict == "unknown"


def test_the_last_link_that_applies_decides() -> None:
    """NVML alone shows no working CUDA: nothing is broken, and nothing is shown to hold."""
    diagnosis = diagnose(facts_of(kernel=KERNEL, host={"nvml": WORKS["nvml"]}))
    assert (diagnosis.verdict, named(diagnosis)) == ("unknown", set())
    assert "cuda-starts" in diagnosis.open


CONTAINED = [
    *("gke-t4-pod", "gpu-operator-cdi-containerd-2", "gpu-operator-with-its-driver-container"),
    *("gpu-operator-without-toolkit-on-the-host", "judge-operator-driver-container"),
    "kubernetes-operator-driver-in-container",
]


@pytest.mark.parametrize("name", CONTAINED)
def test_a_driver_in_a_container_is_not_to_be_installed_on_its_host(name: str) -> None:
    nodes = {"/dev/nvidiactl": None, "/dev/nvidia0": None}
    facts = put(put(hosts("healthy")[name], "host.device_nodes", nodes), "host.nvml.library", None)
    (broken_link,) = diagnose(facts).unexplained
    assert not any("only its module" in cause for cause in broken_link.causes)


@pytest.mark.parametrize(("kind", "said"), [("lxc", True), ("kvm", False)])
def test_a_virtual_machine_is_no_system_container(kind: str, said: bool) -> None:
    """LXD and Incus put their socket in both."""
    nodes: dict[str, object] = {"/dev/nvidia-uvm": {"open": "EPERM"}}
    host = {**WORKS, "virtualization": kind, "paths": {"/dev/incus/sock": "socket"}, "device_nodes": nodes}
    (broken_link,) = diagnose(facts_of(host=host)).unexplained
    assert any("this system container" in cause for cause in broken_link.causes) is said


def test_the_report_says_if_no_lower_link_applies() -> None:
    pci = [{"vendor": "8086", "class_code": "030000"}]
    none = facts_of(kernel={"pci": pci, "nvidia": None}, messages=["quux: cannot pull the image: manifest unknown"])
    bare = facts_of(messages=["RuntimeError: quux"])
    assert "nothing below it applies here" in diagnosis_text(diagnose(none))
    assert "nothing below it is known to hold" in diagnosis_text(diagnose(bare))


def test_links_are_in_order_and_every_one_is_looked_at() -> None:
    order = [link.id for link in links()]
    assert [looked.link.id for looked in walk_chain(hosts("healthy")["bare-metal-closed"])] == order
    for link in links():
        assert all(order.index(lower) < order.index(link.id) for lower in link.after), link.id
        assert {link.inside, link.on_host} <= {"", *order}
        assert link.causes
        assert link.deciders


@pytest.mark.parametrize(
    ("gpus", "visible", "inside", "alarm"),
    [
        (["device=3"], None, 1, False),
        (["device=2", "device=3"], None, 2, False),
        (["device=2,3"], None, 1, True),
        (["device=0:0", "device=0:1"], None, 1, False),
        (["3"], None, 1, True),
        (["all"], None, 3, True),
        ([], "1,2", 1, True),
        ([], "GPU-1a,GPU-2b", 2, False),
        ([], "MIG-1a,MIG-2b", 1, False),
        ([], "all", 3, True),
    ],
)
def test_a_container_has_as_many_gpus_as_it_names(
    gpus: list[str], visible: str | None, inside: int, alarm: bool
) -> None:
    box = {
        "status": "running",
        "host_config": {"gpus": gpus, "runtime": "runc" if gpus else "nvidia"},
        "env": {"NVIDIA_VISIBLE_DEVICES": visible} if visible else {},
        "nvml": {"init": 0, "device_count": inside},
        "cuda": {"init": 0, "device_count": inside},
    }
    four = [{**GPU, "address": f"0000:{place}b:00.0"} for place in range(4)]
    works = {"nvml": {"init": 0, "device_count": 4}, "cuda": {"init": 0, "device_count": 4}}
    facts = facts_of(kernel={**KERNEL, "pci": four}, host=works, container=box)
    assert named(diagnose(facts)) == ({"nvml-inside"} if alarm else set())


_BENIGN = ("CUDA error handling is verbose", "errors will be reported later", "no CUDA errors found", "0 failures")


@pytest.mark.parametrize("line", _BENIGN)
def test_a_line_on_how_errors_are_dealt_with_is_no_failure(line: str) -> None:
    """Nor does it show that the program works."""
    container = {**CONTAINER, "status": "running"}
    diagnosis = diagnose(facts_of(kernel=KERNEL, host=WORKS, container=container, messages=[f"WARNING: {line}"]))
    assert diagnosis.verdict == "unknown"


@pytest.mark.parametrize("line", ["Error handling request /v1", "error handling is on: CUDA failed", "errors: 3"])
def test_a_failure_is_found_at_any_level_of_a_log(line: str) -> None:
    diagnosis = diagnose(facts_of(kernel=KERNEL, host=WORKS, messages=[f"INFO: {line}"]))
    assert diagnosis.verdict == "problem"
