"""How a container is given the host's GPUs, and what engine and NVIDIA's toolkit say where that fails. Pure.

Every pattern has the text it was captured from in the tests.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlship.engine.causes import KnownText, explain
from mlship.errors import EngineError, MlshipError

_INSTALL = (
    "install NVIDIA's container toolkit "
    "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html)"
)
_CONFIGURE = "`sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`"
_GENERATE = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
_ON_CPU = "without a GPU, `mlship build --smoke cpu` or `mlship smoke IMAGE --on cpu` proves what can be proven"
_SEE_HOST = "`nvidia-smi` on the engine's host must work first"


@dataclass(frozen=True)
class GpuRequest:
    """One way to ask an engine for all its GPUs.

    Attributes:
        name: as docker's users know it.
        driver: the rest is the engine's device request, as its API has it.
    """

    name: str
    driver: str = ""
    count: int = 0
    ids: tuple[str, ...] = ()
    capabilities: tuple[tuple[str, ...], ...] = ()


# First what asks the host itself: `--gpus` finds the driver that runs now, and NVIDIA's hook refuses an image whose
# NVIDIA_REQUIRE_CUDA the host cannot meet. A CDI specification is a file: it may be of a driver that is gone, and it
# checks nothing. Engine 29.2 and newer make CDI of `--gpus` by themselves. Engines that only have CDI say at once
# that they know no `--gpus`, and so nothing is lost. Nobody can be asked beforehand: engines list neither.
WAYS = (
    GpuRequest("--gpus all", count=-1, capabilities=(("gpu",),)),
    GpuRequest("CDI", driver="cdi", ids=("nvidia.com/gpu=all",)),
)

# The engine's "I do not have that": the next way is tried, and nothing else is wrong.
_LACKS = (
    (
        r"could not select device driver \"(?:nvidia)?\" with capabilities",
        "no NVIDIA container toolkit is set up for this engine",
    ),
    (r"could not select device driver \"cdi\" with capabilities", "CDI is off in this engine"),
    (r"unresolvable CDI devices", "no CDI specification on the engine's host names its GPUs"),
    (
        r"invoking the NVIDIA Container Runtime Hook directly",
        "NVIDIA's toolkit is configured for another way than --gpus",
    ),
)

_TOOLKIT = (
    KnownText(
        r"unsatisfied condition: (?P<condition>[^,\n]+)",
        EngineError,
        "the driver of the engine's host is too old for this image: unsatisfied condition: {condition}",
        "update the driver of that host, or build for what it has: `mlship hosts record` there, "
        "then `mlship lock` and `mlship build`",
    ),
    KnownText(
        r"driver/library version mismatch",
        EngineError,
        "the host's NVIDIA driver was updated while the old one runs: driver/library version mismatch",
        "reboot the engine's host (`sudo reboot`); " + _SEE_HOST,
    ),
    KnownText(
        r"(?P<said>nvml error: driver not loaded|driver rpc error: [^\n]+|load library failed: libnvidia-ml\.so[^\n]+)",
        EngineError,
        "the engine's host has no NVIDIA driver that works: {said}",
        "install or load it (`sudo modprobe nvidia`); " + _SEE_HOST,
    ),
    KnownText(
        r"(?P<said>cuda error: [^\n]+|no adapters were found[^\n]*|device error: [^\n]+)",
        EngineError,
        "NVIDIA's toolkit finds no GPU that it can use on the engine's host: {said}",
        _SEE_HOST + "; then try again",
    ),
    KnownText(
        r"bpf_prog_query\(BPF_CGROUP_DEVICE\) failed|/devices\.allow: permission denied",
        EngineError,
        "this engine is rootless, and NVIDIA's toolkit is set to manage cgroups, which it may not do",
        "`sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place`, then "
        "`systemctl --user restart docker`; or use CDI: " + _GENERATE,
    ),
    KnownText(
        r"exec: \"(?P<program>nvidia-[\w-]+)\": executable file not found",
        EngineError,
        "the engine was set up for NVIDIA's toolkit, and {program} is not there",
        f"{_INSTALL} again, then {_CONFIGURE}",
    ),
    KnownText(
        r"(?P<said>failed to stat CDI host device [^\n]+)",
        EngineError,
        "the CDI specification on the engine's host is not of what that host has now: {said}",
        f"make it anew: {_GENERATE}; " + _SEE_HOST,
    ),
    KnownText(
        r"(?P<said>(?:nvidia-container-cli(?:\.real)?|nvidia-ctk|nvidia-cdi-hook|CDI device injection failed): [^\n]+)",
        EngineError,
        "NVIDIA's toolkit could not give the container a GPU: {said}",
        f"{_SEE_HOST}; then {_CONFIGURE}",
    ),
)


def lacks(text: str) -> str | None:
    """Why an engine does not know a way at all, in words; None where the text says something else."""
    return next((why for pattern, why in _LACKS if re.search(pattern, text)), None)


def gpu_failure(text: str) -> MlshipError | None:
    """Why a container could not be given a GPU that the engine does know of; None where that is not what failed."""
    return explain(text, _TOOLKIT)


def no_gpu(refused: Mapping[str, str]) -> EngineError:
    """An engine that has no way to give a GPU; for each way its own words."""
    lines = [f"  {way}: {lacks(text)} ({' '.join(text.split())})" for way, text in refused.items()]
    return EngineError(
        "\n".join(("this Docker Engine can give a container no GPU", *lines)),
        hint=f"{_INSTALL}, then {_CONFIGURE}; or, for CDI, {_GENERATE}{_switch(refused)}; {_ON_CPU}",
    )


def _switch(refused: Mapping[str, str]) -> str:
    """CDI is on by itself from Engine 28.3."""
    off = any('"cdi"' in text for text in refused.values())
    return ' and `{"features": {"cdi": true}}` in /etc/docker/daemon.json' if off else ""
