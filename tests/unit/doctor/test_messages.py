"""What lines that programs print stand for: each row finds its example, and the innermost error of a line counts."""

import tomllib
from dataclasses import replace

import pytest

from mlship.doctor.chain.likely import likely_causes
from mlship.doctor.chain.link import Symptom, link_of, links
from mlship.doctor.chain.messages import is_error, message_of
from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Kernel
from mlship.doctor.finding import LAYERS
from mlship.resources import read_package_file
from tests.helpers.doctor_hosts import hosts
from tests.helpers.regex_texts import texts_of

KEYS = {"pattern", "symptom", "say", "source", "example"}
FILES = [f"data/messages/{layer.replace(' ', '-')}.toml" for layer in LAYERS]
TABLES = [tomllib.loads(read_package_file(name)) for name in FILES]
GENERAL = [row for table in TABLES for row in table.get("general", ())]
ROWS = [*GENERAL, *(row for table in TABLES for row in table["messages"])]

HOST = hosts("healthy")["bare-metal-closed"]
NORMAL = """
nvidia: loading out-of-tree module taints kernel.
UserWarning: Torch was not compiled with flash attention. (Triggered internally at ../aten/src/ATen/native/transfor
W0000 00:00:1700000000.123456 cuda_executor.cc:1802] GPU interconnect information not available: INTERNAL: NVML doe
[W:onnxruntime:, transformer_memcpy.cc:74 ApplyImpl] 2 Memcpy nodes are added to the graph main_graph for CUDAExecu
DeepSpeed C++/CUDA extension op report
[WARNING]  async_io requires the dev libaio .so object and headers but these were not found.
bitsandbytes: INFO: Loading bitsandbytes native library from: /venv/lib/python3.11/site-packages/bitsandbytes/libbi
I1129 08:00:00.000000 1 metrics.cc:890] "Collecting metrics for GPU 0: NVIDIA H100 80GB HBM3"
I1129 08:00:00.000000 1 pinned_memory_manager.cc:277] "Pinned memory pool is created at '0x7f' with size 268435456"
W1129 08:00:00.000000 1 server.cc:249] failed to enable peer access for some device pairs
NOTE: The SHMEM allocation limit is set to the default of 64MB.  This may be insufficient for PyTorch.  NVIDIA reco
I1129 08:00:00.000 1 factory.go:107] Detected NVML platform: found NVML library
nvidia: module verification failed: signature and/or required key missing - tainting kernel
nvidia-nvlink: Nvlink Core is being initialized, major device number 239
nvidia-uvm: Loaded the UVM driver, major device number 508.
NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024
[drm] Initialized nvidia-drm 0.0.0 20160202 for 0000:01:00.0 on minor 1
nvidia 0000:01:00.0: vgaarb: VGA decodes changed: olddecodes=io+mem,decodes=none:owns=none
nvidia-modeset: Loading NVIDIA Kernel Mode Setting Driver for UNIX platforms  550.54.15
[drm] [nvidia-drm] [GPU ID 0x00000100] Loading driver
nvidia 0000:01:00.0: enabling device (0000 -> 0003)
pci 0000:01:00.0: BAR 1 [mem 0x6000000000-0x67ffffffff 64bit pref]: assigned
ACPI Warning: \\_SB.PCI0.PE60.S1F0._DSM: Argument #4 type mismatch - Found [Buffer], ACPI requires [Package]
NVRM: Failed to load gsp_log_ga10x.bin, no GSP-RM logs will be printed (non-fatal)
NVRM: Xid (PCI:0000:17:00): 106, SMBPBI Test Message
NVRM: Persistence mode is deprecated and will be removed in a future release. Please use nvidia-persistenced instead.
NVRM: testIfDsmSubFunctionEnabled: GPS ACPI DSM called before _acpiDsmSupportedFuncCacheInit subfunction = 11.
I tensorflow/core/platform/cpu_feature_guard.cc:210] This binary is optimized to use available CPU instructions.
E0000 00:00:1 cuda_dnn.cc:8310] Unable to register cuDNN factory: one has already been registered
INFO:jax._src.xla_bridge:Unable to initialize backend 'tpu': libtpu.so: cannot open shared object file
Created device /device:GPU:0 with 38364 MB memory: -> name: NVIDIA A100-SXM4-40GB, compute capability: 8.0
node1:77:88 [0] NCCL INFO NET/Plugin: No plugin found (libnccl-net.so)
node1:77:88 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.2<0>
ggml_cuda_init: found 1 CUDA devices (Total VRAM: 40444 MiB):
llama_model_load: offloaded 33/33 layers to GPU
INFO 11-29 07:00:00 [cuda.py:275] Using Flash Attention backend.
INFO 11-29 07:00:00 [gpu_worker.py:220] Available KV cache memory: 12.3 GiB
[LightGBM] [Info] This is the GPU trainer!!
[TensorRT] INFO: Loaded engine size: 43 MiB
I1129 07:00:00.000000 1 server.cc:604] Started HTTPService at 0.0.0.0:8000
nvidia-persistenced: Started (1234)
nvidia-gridd: License acquired successfully. (Info: 10.0.0.9, NVIDIA RTX Virtual Workstation)
nv-fabricmanager: Successfully configured all the available NVSwitches to route GPU NVLink traffic.
WARNING [topk_topp_sampler.py:66] FlashInfer is not available. Falling back to the PyTorch-native implementation.
[W:onnxruntime:] Some nodes were not assigned to the preferred execution providers
nvidia-gridd: Acquiring license. (Info: 10.0.0.9, NVIDIA Virtual Applications)
load_tensors: offloading 32 repeating layers to GPU
W1129 08:00:00.000000 9 ucx_utils.cpp:9] memory is detected as host, because UCX CUDA support was not found!
""".strip().splitlines()


def _lines_of(row: dict[str, str]) -> list[str]:
    return [row["example"]] if "example" in row else texts_of(row["pattern"])


@pytest.mark.parametrize("row", [pytest.param(row, id=row["pattern"]) for row in ROWS])
def test_a_row_finds_its_example_and_has_a_source(row: dict[str, str]) -> None:
    assert row.keys() <= KEYS
    assert row["source"]
    link_of(row["symptom"], "container")
    found = {text: message_of(text) for text in _lines_of(row)}
    assert any(one and one.say == row.get("say", "") for one in found.values()), found
    # One line of each alternative: what an earlier row takes breaks the same link.
    assert not [
        text for text, one in found.items() if not one or (one.symptom != row["symptom"] and "{" not in row["symptom"])
    ]


@pytest.mark.parametrize("row", [pytest.param(row, id=row["pattern"]) for row in ROWS])
def test_the_report_names_the_cause_of_a_row_first(row: dict[str, str]) -> None:
    line = next(line for line in _lines_of(row) if (found := message_of(line)) and found.say == row.get("say", ""))
    diagnosis = diagnose(replace(HOST, messages=(line,)))
    causes = [one.causes[0] for one in diagnosis.unexplained]
    assert diagnosis.verdict == "problem"
    if row in GENERAL:  # what the link's causes know of these words comes first
        causes = [say for one in diagnosis.unexplained for say in one.causes]
    assert row.get("say") in {None, *causes} or diagnosis.causes  # or a rule names it, with its steps


@pytest.mark.parametrize("line", NORMAL)
def test_a_line_of_a_healthy_system_breaks_nothing(line: str) -> None:
    assert diagnose(replace(HOST, messages=(line,))).verdict == "unknown"


def test_the_kernel_log_names_the_cause_of_a_break() -> None:
    facts = Facts(kernel=Kernel(log=("NVRM: GPU 0000:0a:00.0: RmInitAdapter failed! (0x1:0x2:3)",)))
    link = next(link for link in links() if link.id == "gpus-counted")
    seen = Symptom("nvml.count", "host", "NVML counts no GPU")
    assert "could not start it" in likely_causes(facts, link, (seen,))[0]
    assert "could not start it" not in likely_causes(Facts(), link, (seen,))[0]


def test_the_innermost_error_of_a_line_counts() -> None:
    line = "OCI runtime create failed: nvidia-container-cli: nvml error: driver/library version mismatch: unknown"
    found = message_of(line)
    assert found is not None
    assert found.symptom == "nvml.init=18"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('time="2026" level=error msg="quux failed"', True),
        ('time="2026" level=info msg="skip loading quux" error="quux is not supported"', False),
        ('{"level":"debug","msg":"quux not found"}', False),
        ("I1129 07:00:00.000000       1 main.go:1] quux failed", False),
        ("E1129 07:00:00.000000       1 main.go:1] quux failed", True),
        ("INFO: quux failed", True),
    ],
)
def test_what_a_log_calls_information_is_no_error(line: str, error: bool) -> None:
    assert is_error(line) is error


# Normal lines of the programs whose errors the tables list, with our own values.
HEALTHY = (
    "[W1129 08:00:00.1 socket.cpp:697] [c10d] The client socket has failed to connect to [localhost]:29500",
    "The attention mask is not set and cannot be inferred from input because pad token is same as eos token.",
    "WARNING:tensorflow:AutoGraph could not transform <function f at 0x7f> and will run it as-is.",
    "[TRT] [W] CUDA lazy loading is not enabled. Enabling it can significantly reduce device memory usage",
    'W1129 08:00:00.000000 1 metrics.cc:643] "Unable to get power limit for GPU 0. Status:Success, value:0.000000"',
    'time="2026-11-29T08:00:00Z" level=warning msg="Skipping (\'DCGM_FI_PROF_PCIE_TX_BYTES\'): metric not enabled"',
    "Nov 29 08:00:00 host kernel: ACPI BIOS Error (bug): Could not resolve symbol [_SB.PCI0], AE_NOT_FOUND",
    "Nov 29 08:00:00 host kernel: usb 1-1: device descriptor read/64, error -71",
    "nvidia-container-cli: version 1.17.8",
    "debconf: unable to initialize frontend: Dialog",
    "2026-11-29 08:00:00 [W:onnxruntime:Default, device_discovery.cc:164] GPU discovery failed",
    "cupy_backends/cuda/libs: cuTENSOR is not available, using default",
    'time="2026" level=info msg="skip loading plugin" error="devmapper not configured: skip plugin" id=quux',
    'time="2026" level=warning msg="failed to load plugin" error="devmapper not configured" id=io.containerd.quux',
    'time="2026" level=info msg="containerd successfully booted in 0.9s"',
    'time="2026" level=info msg="CDI directory does not exist, skipping: failed to monitor for changes" dir=/quux',
    'time="2026" level=warning msg="Could not locate libnvidia-quux.so.9: pattern libnvidia-quux.so.9 not found"',
    'time="2026" level=info msg="Selecting /dev/nvidia0 as /dev/nvidia0"',
    'time="2026" level=info msg="Generated CDI spec with version 0.8.0"',
    'time="2026" level=info msg="Using mode nvml"',
    'time="2026" level=warning msg="Ignoring error in locating libnvidia-sandboxutils.so.1: quux"',
    "W1129 07:00:00.000000 9 nvc_info.c:402] missing library libnvidia-quux.so",
    "W1129 07:00:00.000000 9 nvc.c:259] failed to detect NVIDIA devices",
    "I1129 07:00:00.000000 9 nvc.c:376] initializing library context (version=1.17.8, build=quux)",
    "I1129 07:00:00.000000 1 main.go:235] Starting NVIDIA Device Plugin",
    "I1129 07:00:00.000000 1 factory.go:112] Detected non-Tegra platform: /sys/quux file not found",
    "2026/11/29 07:00:00 Detected non-Tegra platform: /sys/quux file not found",
    "I1129 07:00:00.000000 1 server.go:197] Registered device plugin for 'nvidia.com/gpu' with Kubelet",
    '"failRequestsGreaterThanOne": true, "renameByDefault": false, "deviceDiscoveryStrategy": "auto"',
    "I1129 07:00:00.000000 1 nvlib.go:99] no-clique fallback: NVLink fabric not supported by device (device 0/quux)",
    '{"level":"info","msg":"ClusterPolicy is ready."}',
    "toolkit is ready",
    "Not a CC capable node, skipping CC Manager validation",
    "W1129 07:00:00.000000 1 quux.go:9] Ignoring error getting device memory: Not Supported",
    "pod/nvidia-cuda-validator-quux 0/1 Completed 0 9m",
    "slurmstepd: pyxis: importing docker image ...",
    "pyxis: imported docker image: quux",
    "[INFO] Extracting image layers...",
    "WARNING: underlay of /usr/bin/nvidia-smi required more than 50 (291) bind mounts",
    "Loading checkpoint shards: 100%",
    'Normal  Pulled  9s  kubelet  Container image "quux" already present on machine',
    "Normal  Scheduled  9s  default-scheduler  Successfully assigned quux/quux to quux",
)


def test_a_filter_of_network_packets_is_not_that_of_devices() -> None:
    """As of Cilium, whose programs the same verifier of the kernel rejects."""
    said = "attaching quux program: load program: invalid argument: last insn is not an exit or jmp"
    found, of_devices = message_of(said), message_of(f"unable to create new device filters program: {said}")
    assert of_devices
    assert "libnvidia-container" in of_devices.say
    assert not (found and "libnvidia-container" in found.say)


@pytest.mark.parametrize("line", HEALTHY)
def test_a_normal_line_of_a_known_program_is_no_failure(line: str) -> None:
    assert message_of(line) is None
    assert not is_error(line)


@pytest.mark.parametrize(
    ("line", "link"),
    [
        ("nvidia-ctk: quux failed", "toolkit-ready"),
        ("nvidia-cdi-hook: unable to quux", "toolkit-ready"),
        ("Warning  quux  9s  kubelet  quux failed", "kubelet-offers"),
        ("E1129 07:00:00.000000 1 quux.go:9] quux", "kubelet-offers"),
        ("dockerd: failed to quux", "engine-configured"),
        ("crun: cannot quux", "container-created"),
        ("slurmstepd: error: pyxis: quux", "container-created"),
        ("srun: error: quux", "gpu-requested"),
        ("slurmctld: error: quux", "gpu-requested"),
        ("RuntimeError: quux", "framework-works"),
    ],
)
def test_an_unknown_error_breaks_the_link_of_the_program_that_reports_it(line: str, link: str) -> None:
    assert message_of(line) is None
    assert is_error(line)
    program = message_of(line, "programs")
    assert program is not None
    assert link_of(program.symptom, "container") == link


@pytest.mark.parametrize(
    ("line", "symptom"),
    [
        ("pynvml.NVMLError_InvalidArgument: Invalid Argument", "framework.reported"),
        ("pynvml.nvml.NVMLError_LibRmVersionMismatch: Driver/library version mismatch", "nvml.init=18"),
        ("NVMLError_DriverNotLoaded", "nvml.init=9"),
    ],
)
def test_an_error_of_nvml_is_known_by_the_class_of_its_python_library(line: str, symptom: str) -> None:
    found = message_of(line)
    assert found is not None
    assert found.symptom == symptom


def test_a_library_that_needs_another_glibc_is_not_a_missing_program() -> None:
    found = message_of("nvidia-smi: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /usr/lib/quux.so)")
    assert found is not None
    assert found.symptom == "library.glibc"


def test_a_row_for_general_words_yields_to_a_specific_one() -> None:
    found = message_of("error executing hook `nvidia-ctk`: driver/library version mismatch (exit code: 1)")
    assert found is not None
    assert found.symptom == "nvml.init=18"
