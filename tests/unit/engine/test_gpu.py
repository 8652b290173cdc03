"""What engines and NVIDIA's toolkit say where a container gets no GPU; every pattern with a text that it must know.

Captured from Engine 26.1.5: what it says of a way that it does not have. The toolkit's texts are quoted from reports
of its users (NVIDIA/nvidia-container-toolkit 394, 885, 1487, NVIDIA/TensorRT-LLM 799, MauriceNino/dashdot 1226),
shortened.
"""

import pytest

from mlship.engine.failures import engine_failure, no_gpu, unsupported_gpu_method
from mlship.engine.sdk import GPU_METHODS
from mlship.errors import EngineError

NO_GPUS = 'could not select device driver "" with capabilities: [[gpu]]'
NO_CDI_SPEC = "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all"
CDI_OFF = 'could not select device driver "cdi" with capabilities: []'
OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: error running prestart hook #0: exit status 1, "
    "stdout: , stderr: Auto-detected mode as 'legacy'\n"
)
NOT_BY_GPUS = OCI.replace("legacy", "csv") + (
    "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) is not supported. "
    "Please use the NVIDIA Container Runtime (e.g. specify the --runtime=nvidia flag) instead.: unknown"
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (NO_GPUS, "NVIDIA Container Toolkit is not set up"),
        (
            'could not select device driver "nvidia" with capabilities: [[gpu]]',
            "NVIDIA Container Toolkit is not set up",
        ),
        (CDI_OFF, "CDI is disabled"),
        (NO_CDI_SPEC, "no CDI specification"),
        (NOT_BY_GPUS, "not configured for `--gpus`"),
    ],
)
def test_an_engine_that_does_not_know_a_way(text: str, why: str) -> None:
    assert why in (unsupported_gpu_method(text) or "")


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        (
            OCI
            + "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver "
            "to a newer version, or use an earlier cuda container: unknown",
            "unsatisfied condition: cuda>=12.8",
            "update the driver",
        ),
        (
            OCI + "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown.",
            "driver/library version mismatch",
            "reboot",
        ),
        (
            OCI + "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
            "has no working NVIDIA driver: nvml error: driver not loaded",
            "modprobe nvidia",
        ),
        (
            OCI
            + "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared "
            "object file: no such file or directory: unknown.",
            "load library failed: libnvidia-ml.so.1",
            "nvidia-smi",
        ),
        (
            OCI + "nvidia-container-cli: initialization error: cuda error: unknown error: unknown",
            "cuda error: unknown error",
            "nvidia-smi",
        ),
        (
            OCI + "nvidia-container-cli: initialization error: WSL environment detected but no adapters were found",
            "no adapters were found",
            "nvidia-smi",
        ),
        (
            OCI + "nvidia-container-cli: mount error: failed to add device rules: unable to find any existing device "
            "filters attached to the cgroup: bpf_prog_query(BPF_CGROUP_DEVICE) failed: operation not permitted",
            "rootless",
            "no-cgroups",
        ),
        (
            'exec: "nvidia-container-runtime-hook": executable file not found in $PATH',
            "`nvidia-container-runtime-hook` is missing",
            "Container Toolkit",
        ),
        (
            'CDI device injection failed: failed to stat CDI host device "/dev/nvidia0": no such file or directory',
            'failed to stat CDI host device "/dev/nvidia0"',
            "nvidia-ctk cdi generate",
        ),
        (
            OCI + "nvidia-container-cli: ldcache error: process /sbin/ldconfig terminated with signal 9",
            "nvidia-container-cli: ldcache error",
            "nvidia-ctk runtime configure",
        ),
    ],
)
def test_the_toolkits_own_errors_keep_their_words(text: str, why: str, hint: str) -> None:
    assert unsupported_gpu_method(text) is None
    known = engine_failure(text, gpu=True)
    assert isinstance(known, EngineError)
    assert why in known.message
    assert hint in known.hint


def test_what_is_no_matter_of_gpus() -> None:
    text = 'exec: "uvicorn": executable file not found in $PATH'
    assert unsupported_gpu_method(text) is None
    assert "the Docker Engine refused" in engine_failure(text, gpu=True).message


def test_an_engine_with_neither_way_gives_both_reasons_and_what_to_do() -> None:
    error = no_gpu({"--gpus all": NO_GPUS, "CDI": NO_CDI_SPEC})
    assert error.exit_code == 5
    assert error.message.splitlines() == [
        "this Docker Engine cannot give containers a GPU",
        f"  --gpus all: the NVIDIA Container Toolkit is not set up for this engine ({NO_GPUS})",
        f"  CDI: no CDI specification on the engine's host describes its GPUs ({NO_CDI_SPEC})",
    ]
    for command in ("nvidia-ctk runtime configure", "nvidia-ctk cdi generate", "--smoke cpu", "--on cpu"):
        assert command in error.hint
    assert "features" not in error.hint
    assert '{"features": {"cdi": true}}' in no_gpu({"--gpus all": NO_GPUS, "CDI": CDI_OFF}).hint


def test_the_host_itself_is_asked_before_a_file_of_it() -> None:
    assert list(GPU_METHODS) == ["--gpus all", "CDI"]
