"""Rules and symptoms on a few facts: what a code or a missing fact changes."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.cuda.versions import Cuda
from mlship.doctor.chain.link import Symptom
from mlship.doctor.chain.walk import walk_chain
from mlship.doctor.diagnose import findings
from mlship.doctor.facts.fact import UNKNOWN, Unreadable, known
from mlship.doctor.facts.facts import Facts, merge
from mlship.doctor.facts.host import Service
from mlship.doctor.facts.kernel import Dkms
from mlship.doctor.facts.kubernetes import Kubernetes, Pod
from mlship.doctor.facts.place import DeviceNode
from mlship.doctor.facts.python import Cupy, PythonEnvironment, TensorFlow
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.finding import Decider, Finding
from mlship.doctor.frameworks import stacks
from mlship.doctor.queries import has_fact
from mlship.doctor.rule_texts import rule_texts, ways_to_see
from mlship.doctor.rules.libraries import image_with, variant_of
from tests.helpers.doctor_hosts import hosts, put

GPU = {"address": "0000:ca:00.0", "vendor": "10de", "class_code": "030200", "revision": "a1", "driver": "nvidia"}
LOST = "NVRM: Xid (PCI:0000:ca:00): 79, GPU has fallen off the bus."


def facts_of(**groups: object) -> Facts:
    return parse_facts(json.dumps({"schema": 1, **groups}), "facts")


def symptoms(facts: Facts) -> list[Symptom]:
    return [symptom for looked in walk_chain(facts) for symptom in looked.symptoms]


def found(rule: str, facts: Facts) -> Finding:
    return next(finding for finding in findings(facts)[0] if finding.id == rule)


@pytest.mark.parametrize("code", [4, 9, 12, 18])
def test_nvml_that_did_not_reach_the_gpus_confirms_nothing(code: int) -> None:
    facts = facts_of(kernel={"pci": [GPU], "log": [LOST]}, host={"nvml": {"init": code}})
    assert found("gpu-fallen-off-the-bus", facts).certainty == "likely"


@pytest.mark.parametrize("code", [1, 3, 15, 999])
def test_nvml_that_fails_at_a_gpu_confirms_the_log(code: int) -> None:
    facts = facts_of(kernel={"pci": [GPU], "log": [LOST]}, host={"nvml": {"init": code}})
    assert found("gpu-fallen-off-the-bus", facts).certainty == "certain"


@pytest.mark.parametrize(
    ("container", "has", "certainty"),
    [
        ({"host_config": {"shm_size": 64 << 20}}, "64 MiB", "certain"),
        ({"host_config": {"shm_size": 64 << 20}, "shm": 32 << 20}, "32 MiB", "certain"),
        ({"host_config": {"shm_size": 64 << 20}, "shm": 128 << 20}, "128 MiB", "likely"),
        ({}, "of unknown size", "likely"),
    ],
)
def test_the_size_of_shm_is_the_measured_or_else_the_configured(
    container: dict[str, object], has: str, certainty: str
) -> None:
    finding = found("shm-exhausted", facts_of(container=container, messages=["insufficient shared memory (shm)"]))
    assert f"/dev/shm is {has}," in finding.cause
    assert finding.certainty == certainty


@pytest.mark.parametrize("code", range(1, 30))
def test_which_codes_of_a_device_are_symptoms(code: int) -> None:
    """3 is a feature that the GPU lacks; the others concern the call, not the GPU."""
    device = {"index": 0, "codes": {"nvmlDeviceGetName": code}}
    seen = symptoms(facts_of(host={"nvml": {"init": 0, "devices": [device]}}))
    fails = code in {4, 8, 9, 10, 11, 14, 15, 16, 17, 28}
    assert [symptom.id for symptom in seen] == ([f"nvml.device={code}"] if fails else [])


def test_a_reason_does_not_replace_a_group() -> None:
    node = Kubernetes(node="a")
    assert merge((Facts(kubernetes=node), Facts(kubernetes=Unreadable("no kubectl")))).kubernetes == node


def test_each_framework_keeps_its_own_cuda() -> None:
    environment = PythonEnvironment(
        distributions={"tensorflow": "9.9.9", "cupy-cuda13x": "99.0", "numpy": "2.0"},
        tensorflow=TensorFlow(version="9.9.9", cuda_version="12.5"),
        cupy=Cupy(version="99.0", cuda="13.0"),
    )
    built = {package: stack.built for package, _, stack in stacks(environment, "linux/amd64")}
    assert built == {"tensorflow": Cuda(12, 5), "cupy-cuda13x": Cuda(13, 0)}
    alone = PythonEnvironment(distributions={"cupy-cuda13x": "99.0"})
    ((_, _, stack),) = stacks(alone, "linux/amd64")
    assert (stack.cuda, bool(stack.unknown)) == (Cuda(13, 0), True)


NAMES = ["torch", "jax-cuda12-plugin", "tensorflow", "cupy-cuda12x", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime",
         "nvidia-cudnn-cu12", "nvidia-cublas", "cuda-toolkit", "triton", "vllm", "numpy"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1.0", "2.9.0+cu128", "12.8.90", "13.0.48"])))
def test_any_packages_have_stacks_with_a_version(distributions: dict[str, str]) -> None:
    found = list(stacks(PythonEnvironment(distributions=distributions), "linux/amd64"))
    assert all(version for _, version, _ in found)
    cuda = {"nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-toolkit"}
    assert found or not cuda & distributions.keys()


@pytest.mark.parametrize("nvml", [{"init": 0, "device_count": 1}, {"init": 0, "device_count": 0}, {"init": 999}])
@pytest.mark.parametrize("driver", ["nvidia", "nouveau", None])
def test_nouveau_on_an_old_card_is_no_cause_beside_a_gpu_that_nvidia_drives(
    nvml: dict[str, int], driver: str | None
) -> None:
    """The old card drives a display; if NVML fails, that has another cause."""
    old = {**GPU, "address": "0000:01:00.0", "driver": "nouveau", "architecture": "Kepler"}
    facts = facts_of(kernel={"pci": [{**GPU, "driver": driver}, old]}, host={"nvml": nvml})
    assert any(finding.id == "nouveau-owns-gpu" for finding in findings(facts)[0]) is (driver != "nvidia")


@pytest.mark.parametrize(
    ("old", "driver", "beside", "causes"),
    [
        ("Kepler", None, "Ampere", []),
        ("Pascal", None, "Blackwell", []),
        ("Pascal", "nouveau", "Blackwell", []),
        ("Pascal", None, "Ampere", ["open-module-on-pre-turing"]),
        ("Pascal", "nouveau", "Ampere", ["nouveau-owns-gpu"]),
        ("Kepler", None, None, ["driver-does-not-drive-gpu"]),
        (None, None, None, ["open-module-on-pre-turing"]),
    ],
)
def test_a_card_that_no_driver_drives_beside_the_others_is_no_failure_of_the_open_module(
    old: str | None, driver: str | None, beside: str | None, causes: list[str]
) -> None:
    """Where GPUs of both kinds work with one driver, it is."""
    cards = [{**GPU, "address": "0000:01:00.0", "driver": driver, "architecture": old}]
    cards += [{**GPU, "architecture": beside}] if beside else []
    log = ["NVRM: this GPU is not supported by open nvidia.ko because it does not include the required quux"]
    kernel = {"pci": cards, "modules": {"nvidia": {}}, "nvidia": {"version": "570.1", "flavour": "open"}, "log": log}
    facts = facts_of(kernel=kernel, host={"nvml": {"init": 0, "device_count": 1 if beside else 0}})
    assert [finding.id for finding in findings(facts)[0]] == causes


@pytest.mark.parametrize(("init", "count", "seen"), [(0, 0, True), (0, 1, False), (1, 0, False), (0, None, False)])
def test_nvml_that_counts_no_gpu_is_a_symptom(init: int, count: int | None, seen: bool) -> None:
    facts = facts_of(kernel={"pci": [GPU]}, host={"nvml": {"init": init, "device_count": count}})
    assert ("nvml.count=0" in {symptom.id for symptom in symptoms(facts)}) is seen


@pytest.mark.parametrize(
    ("driver", "broken"),
    [("570.124.05", False), ("570.124.06", True), ("570.158.01", True), ("570.158.02", False)],
)
def test_the_first_and_the_last_driver_that_miscounts(driver: str, broken: bool) -> None:
    devices = [{"index": 0, "mig_current": 1}, {"index": 1, "mig_current": 0}]
    pod = {"name": "a", "phase": "Pending", "requests": {"nvidia.com/gpu": 1}}
    facts = facts_of(
        kernel={"nvidia": {"version": driver}}, host={"nvml": {"devices": devices}}, kubernetes={"pods": [pod]}
    )
    assert any(one.id == "vgpu-driver-regression-570-mig-mixed" for one in findings(facts)[0]) is broken


@pytest.mark.parametrize("there", [True, False])
def test_a_switch_shows_by_its_node_where_the_bus_is_hidden(there: bool) -> None:
    nodes: dict[str, object] = {"/dev/nvidia-nvswitchctl": {} if there else None}
    host = {"cuda": {"init": 802}, "services": {"nvidia-fabricmanager": None}, "device_nodes": nodes}
    facts = facts_of(host={**host, "nvml": {"devices": [{"index": 0, "fabric_state": 1}]}})
    shown = {item.fact for item in found("fabric-manager-not-running", facts).evidence}
    assert ("host.device_nodes" in shown) is there


@pytest.mark.parametrize(
    ("folder", "path", "stray"),
    [
        ("/opt/old", "/opt/old/:/x", True),
        ("/opt/old", "/x", False),
        ("/opt/old", None, False),
        ("/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", False),
    ],
)
def test_an_old_library_is_stray_if_a_variable_leads_to_it(folder: str, path: str | None, stray: bool) -> None:
    library = {"path": f"{folder}/libnvidia-ml.so.1", "version": "535.54.03"}
    host = {"nvml": {"init": 18, "library": library}, "env": {"LD_LIBRARY_PATH": path} if path else {}}
    facts = facts_of(kernel={"nvidia": {"version": "550.54.15"}}, host=host)
    assert any(one.id == "stray-driver-library" for one in findings(facts)[0]) is stray


@pytest.mark.parametrize("cudnn", ["9", "9.10", None])
def test_an_image_has_cudnn_if_the_build_needs_it(cudnn: str | None) -> None:
    built = variant_of("onnxruntime-gpu", "1.26.0")
    assert built
    image = image_with(built.model_copy(update={"cudnn": cudnn}), None)
    assert image
    assert image.startswith("nvidia/cuda:12.")
    assert ("-cudnn-runtime-" in image) is (cudnn is not None)


def test_a_cause_is_likely_without_a_fact_that_could_rule_it_out_and_says_how_to_see_it() -> None:
    text = replace(rule_texts()["wrong-arch-image"], certain_with=("kernel.pci", "host.wsl | host.tegra"))
    facts = facts_of(host={"wsl": None})
    assert ways_to_see(text.certain_with, ()) == (
        Decider("kernel.pci", "lspci -d 10de:"),
        Decider("host.wsl", "uname -r"),
    )
    assert ways_to_see(text.certain_with, (Decider("kernel.pci", "x"),)) == (Decider("host.wsl", "uname -r"),)
    assert [has_fact(facts, path) for path in text.certain_with] == [False, True]


def test_every_fact_that_makes_a_cause_certain_has_a_command() -> None:
    for text in rule_texts().values():
        assert all(ways_to_see((path,), ()) for path in text.certain_with)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("host.toolkit.log", ("level=error msg=failed to generate CDI spec: invalid device, empty device edits",)),
        (
            "host.services",
            {"nvidia-cdi-refresh": Service(active="failed", log=("error: empty device edits",))},
        ),
        ("host.services", {"nvidia-cdi-refresh": Service(active="inactive", log=("error: empty device edits",))}),
    ],
)
@pytest.mark.parametrize("name", ["bare-metal-open-with-container", "bare-metal-closed", "kubernetes-node"])
def test_an_old_failure_to_generate_cdi_is_no_alarm(name: str, path: str, value: object) -> None:
    facts = put(hosts("healthy")[name], path, value)
    assert [finding.id for finding in findings(facts)[0] if "cdi" in finding.id] == []


@pytest.mark.parametrize(
    ("requests", "runtime", "found_there"),
    [({"nvidia.com/gpu": 1}, "runc", True), ({"cpu": 1}, "runc", False), ({"nvidia.com/gpu": 1}, "nvidia", False)],
)
def test_a_pod_without_a_gpu_is_not_blamed_on_containerd(
    requests: dict[str, int], runtime: str, found_there: bool
) -> None:
    facts = hosts()["containerd-does-not-read-cdi"]
    cluster = known(facts.kubernetes)
    assert cluster
    pod = Pod(name="vectoradd", role="workload", requests=dict(requests))
    facts = put(put(facts, "kubernetes", replace(cluster, pods=(pod,))), "container.host_config.runtime", runtime)
    ids = {finding.id for finding in findings(facts)[0]}
    assert ("containerd-does-not-read-cdi" in ids) is found_there


@pytest.mark.parametrize("revision", ["ff", "a1"])
def test_a_gpu_that_sleeps_and_answers_has_not_fallen_off_the_bus(revision: str) -> None:
    asleep = {**GPU, "revision": revision}
    facts = facts_of(kernel={"pci": [asleep]}, host={"nvml": {"init": 0, "device_count": 1, "devices": [{"index": 0}]}})
    assert "gpu-fallen-off-the-bus" not in {finding.id for finding in findings(facts)[0]}


@pytest.mark.parametrize(
    ("status", "code", "found_there"),
    [("Unlicensed (Unrestricted)", 0, False), ("Unlicensed (Unrestricted)", 46, True), ("Unlicensed", 0, True)],
)
def test_a_vgpu_without_a_license_is_a_cause_if_it_is_restricted(status: str, code: int, found_there: bool) -> None:
    device = {"index": 0, "virtualization_mode": "vgpu", "license_status": status}
    host = {"nvml": {"init": 0, "devices": [device]}, "cuda": {"init": code, "library": None}}
    ids = {finding.id for finding in findings(facts_of(host=host))[0]}
    assert ("vgpu-unlicensed-46" in ids) is found_there


def test_no_wheel_is_advised_for_the_drivers_own_library() -> None:
    flow = {"version": "2.17.0", "cuda_version": "12.3", "gpus": 0, "missing_libraries": ["libcuda.so.1"]}
    environment = {"distributions": {"tensorflow": "2.17.0"}, "tensorflow": flow}
    facts = facts_of(container={"cuda": {"library": None}, "pythons": [environment]})
    fixes = [command for one in findings(facts)[0] for step in one.fix for command in step.commands]
    assert not any(command.startswith("pip install") and "cuda]" in command for command in fixes)


def test_a_lost_gpu_in_an_event_of_the_node_is_a_cause() -> None:
    event = "nvidia-container-cli: detection error: nvml error: gpu is lost"
    for groups in ({"kubernetes": {"events": [event]}}, {"container": {"error": event}}):
        assert found("gpu-fallen-off-the-bus", facts_of(kernel={"pci": [GPU]}, **groups)).certainty == "likely"


@pytest.mark.parametrize(("devices", "is_cause"), [([{"index": 0}], False), (None, True)])
def test_an_event_of_a_lost_gpu_is_old_only_if_nvml_describes_the_gpus(devices: object, is_cause: bool) -> None:
    """NVML still counts a GPU that it lost."""
    nvml = {"init": 0, "device_count": 1} | ({"devices": devices} if devices else {})
    event = {"events": ["nvidia-container-cli: detection error: nvml error: gpu is lost"]}
    facts = facts_of(kernel={"pci": [GPU]}, host={"nvml": nvml}, kubernetes=event)
    assert ("gpu-fallen-off-the-bus" in {finding.id for finding in findings(facts)[0]}) is is_cause


def test_the_driver_of_vgpu_hosts_does_not_lack_a_package() -> None:
    devices = [{"index": 0, "virtualization_mode": "host-vgpu"}]
    facts = facts_of(host={"nvml": {"init": 0, "device_count": 1, "devices": devices}, "cuda": {"library": None}})
    assert not findings(facts)[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"kernel": "6.8.0-59-generic", "state": "installed"}, "nvidia is built for: 6.8.0-59-generic"),
        ({"kernel": "6.8.0-60-generic", "state": "built"}, "nvidia is built for: 6.8.0-60-generic (built)"),
        ({"kernel": None, "state": "added"}, "nvidia is built for: no kernel (added)"),
    ],
)
def test_what_dkms_built_is_said_with_its_state(line: dict[str, str | None], said: str) -> None:
    kernel = {
        "release": "6.8.0-60-generic",
        "pci": [{**GPU, "driver": None}],
        "modules": {"nvidia": None},
        "module_files": {"nvidia": None},
        "dkms": [{"module": "nvidia", "version": "570.133.20", **line}],
    }
    evidence = found(
        "driver-not-loaded-after-kernel-update", facts_of(kernel=kernel, host={"nvml": {"init": 9}})
    ).evidence
    assert said in [item.value for item in evidence]


def test_a_failing_pod_of_the_node_is_named_as_the_cause() -> None:
    driver = {"name": "d", "role": "driver", "phase": "Pending", "ready": False, "reason": "ImagePullBackOff"}
    kernel = {"pci": [{**GPU, "driver": None}], "modules": {"nvidia": None}, "module_files": {"nvidia": None}}
    bare = {"nvml": {"init": 12, "library": None}, "wsl": None, "tegra": None}
    facts = facts_of(kernel=kernel, host=bare, kubernetes={"pods": [driver]})
    assert found("driver-not-installed", facts).cause.endswith("no NVIDIA driver: pod d: ImagePullBackOff")
    plugin = {"name": "p", "role": "device-plugin", "ready": True, "log": ["error checking MPS daemon health"]}
    wants = {"name": "w", "role": "workload", "phase": "Pending", "requests": {"nvidia.com/gpu": 1}}
    facts = facts_of(
        kernel={"pci": [GPU]},
        host={"nvml": {"init": 0}},
        kubernetes={"capacity": {}, "allocatable": {}, "pods": [plugin, wants]},
    )
    assert found("k8s-resource-not-offered", facts).cause.endswith("pod p: error checking MPS daemon health")


def test_a_gpu_in_confidential_mode_on_a_machine_that_lacks_it() -> None:
    log = ["NVRM: CPU does not support confidential compute.", "NVRM: GPU 0000:ca:00.0: RmInitAdapter failed!"]
    facts = facts_of(kernel={"pci": [GPU], "log": log}, host={"nvml": {"init": 0, "device_count": 0}})
    assert "confidential mode" in found("gpu-does-not-initialise", facts).cause


def test_onnxruntime_that_lacks_libraries_is_no_cpu_package() -> None:
    onnx = {
        "version": "1.23.2",
        "session_providers": ["CPUExecutionProvider"],
        "missing_libraries": ["libcublasLt.so.12"],
    }
    facts = facts_of(
        kernel={"pci": [GPU]}, host={"nvml": {"init": 0, "device_count": 1}, "pythons": [{"onnxruntime": onnx}]}
    )
    assert "cpu-only-onnxruntime" not in {finding.id for finding in findings(facts)[0]}


def test_values_of_facts_compare_in_any_case() -> None:
    denial = 'avc: denied { read write } path="/dev/nvidiactl"'
    box = {"engine": "podman", "status": "running", "nvml": {"init": 4}, "cuda": {"init": 100}}
    facts = facts_of(host={"nvml": {"init": 0}, "selinux": {"mode": "enforcing", "denials": [denial]}}, container=box)
    assert found("selinux-denies-device-nodes", facts).id == "selinux-denies-device-nodes"


def test_without_a_reload_on_record_another_engine_may_have_lost_the_gpu_otherwise() -> None:
    """As after a restored checkpoint, whose nodes are denied, too."""
    recorded = hosts()["nvml-unknown-error-after-daemon-reload--nerdctl"]
    forgotten = replace(recorded, host=replace(recorded.host, systemd_reloaded_at=UNKNOWN))
    finding = found("nvml-unknown-error-after-daemon-reload", forgotten)
    assert (finding.certainty, finding.decides[0].fact) == ("likely", "host.systemd_reloaded_at")


def test_a_node_that_only_a_container_of_a_system_container_lacks_is_not_passed_on_again() -> None:
    lacks = {"nvml": {"init": 0}, "cuda": {"init": 999}, "device_nodes": {"/dev/nvidia-uvm": None}}
    host = {"virtualization": "lxc", "nvml": {"init": 0}, "cuda": {"init": 0}}
    (finding,) = findings(facts_of(host=host, container={"engine": "docker", **lacks}))[0]
    says = [step.say for step in finding.fix]
    assert any("Recreate the container" in say for say in says)
    assert not any("to this system container" in say for say in says)


@pytest.mark.parametrize(
    ("line", "is_cause"),
    [
        ("Loading of unsigned module is rejected", False),
        ("Loading of module with unavailable key is rejected", True),
    ],
)
def test_a_rejected_module_without_a_signature_is_not_the_signed_one(line: str, is_cause: bool) -> None:
    """As VirtualBox's, while nvidia is signed with an enrolled key, and only not loaded."""
    named = hosts()["secure-boot-unsigned-module--a-key-of-that-name"]
    causes = [finding.id for finding in findings(put(named, "kernel.log", (line,)))[0]]
    assert ("secure-boot-unsigned-module" in causes) is is_cause


@pytest.mark.parametrize(("module", "key"), [("zfs", "/etc/pki/akmods"), ("nvidia", "/var/lib/dkms")])
def test_the_key_on_fedora_is_that_of_what_built_the_module(module: str, key: str) -> None:
    named = put(hosts()["secure-boot-unsigned-module--a-key-of-that-name"], "host.packages.manager", "dnf")
    built = put(put(named, "host.os.id", "fedora"), "kernel.dkms", (Dkms(module=module),))
    (step, *_) = found("secure-boot-unsigned-module", built).fix
    assert key in step.commands[0]


def test_a_line_of_the_bus_does_not_say_that_the_driver_rejected_the_gpu() -> None:
    bus, failed = "pcieport 0000:00:01.0: quux is not supported by this platform", "probe with driver nvidia failed"
    kernel = {
        "pci": [{**GPU, "driver": None}],
        "modules": {"nvidia": {}},
        "log": [bus, f"nvidia: {failed} with error -1"],
    }
    facts = facts_of(kernel=kernel, host={"nvml": {"init": 0, "device_count": 0}})
    assert found("gpu-does-not-initialise", facts).certainty == "certain"
    assert not any(bus in symptom.seen for symptom in symptoms(facts))


@pytest.mark.parametrize(("wanted", "creates"), [("all-1g.10gb", True), ("all-disabled", False)])
def test_the_mig_manager_creates_what_the_label_wants(wanted: str, creates: bool) -> None:
    recorded = hosts()["mig-enabled-no-instances--with-the-mig-manager"]
    labelled = put(recorded, "kubernetes.labels", {"nvidia.com/mig.config": wanted})
    fix = found("mig-enabled-no-instances", labelled).fix
    assert any("MIG manager" in step.say for step in fix) is creates


@pytest.mark.parametrize(
    ("allowed", "opened", "certainty"),
    [(True, "ok", "likely"), (True, "EACCES", "certain"), (False, "ok", "certain")],
)
def test_a_denial_may_be_older_than_the_boolean_that_allows_it(allowed: bool, opened: str, certainty: str) -> None:
    recorded = hosts()["selinux-denies-device-nodes--boolean-is-on"]
    changed = put(recorded, "host.selinux.booleans", {"container_use_devices": allowed})
    nodes = {"/dev/nvidia0": DeviceNode(mode="0666", open=opened)}
    finding = found("selinux-denies-device-nodes", put(changed, "container.device_nodes", nodes))
    assert finding.certainty == certainty


@pytest.mark.parametrize(("kind", "installs"), [("none", True), ("lxc", False)])
def test_a_system_container_needs_no_module_in_place_of_nouveau(kind: str, installs: bool) -> None:
    kernel = {"pci": [{**GPU, "driver": "nouveau"}], "module_files": {"nvidia": None}}
    fix = found("nouveau-owns-gpu", facts_of(kernel=kernel, host={"virtualization": kind})).fix
    assert any("Install NVIDIA's driver" in step.say for step in fix) is installs
