"""Codes that have several causes: which facts tell them apart, and how to get them."""

from fnmatch import fnmatchcase

from mlship.doctor.finding import Decider

_MODULE = Decider("kernel.nvidia.version", "cat /proc/driver/nvidia/version")
_LIBCUDA = Decider("cuda.library", "ldconfig -p | grep libcuda.so; echo $LD_LIBRARY_PATH")
_NODES = Decider("device_nodes", "ls -l /dev/nvidia*")
_LOG = Decider("kernel.log", "sudo dmesg | grep -iE 'nvrm|nvidia|xid|nouveau'")
_ENV = Decider("env", "env | grep -E '^(NVIDIA|CUDA|LD)_'")
_DEVICES = Decider("nvml.devices", "nvidia-smi -q")
_PYTHONS = Decider("pythons", "pip list | grep -iE 'torch|onnxruntime|tensorflow|jax|cupy|nvidia'")
_BY_SYMPTOM: tuple[tuple[str, tuple[Decider, ...]], ...] = (
    ("nvml.init=18", (_MODULE, Decider("nvml.library", "ldconfig -p | grep libnvidia-ml"))),
    ("nvml.init=4", (_NODES, Decider("user.groups", "id"))),
    (
        "nvml.init=9",
        (
            Decider("kernel.modules", "lsmod | grep -E 'nvidia|nouveau'"),
            Decider("kernel.module_files", "modinfo nvidia"),
            _LOG,
        ),
    ),
    ("nvml.init=12", (Decider("nvml.library", "ldconfig -p | grep libnvidia-ml"),)),
    ("nvml.init=999", (_NODES, Decider("host.docker.cgroup_driver", "docker info"), _LOG)),
    ("nvml.*", (_LOG, _DEVICES)),
    ("cuda.init=34", (_LIBCUDA,)),
    ("cuda.init=100", (_ENV, _NODES, _DEVICES)),
    (
        "cuda.init=802",
        (
            Decider("host.services.nvidia-fabricmanager", "systemctl status nvidia-fabricmanager"),
            _DEVICES,
            _LOG,
            Decider("messages", "nvidia-smi conf-compute -grs  # in a confidential VM: are the GPUs set ready?"),
        ),
    ),
    ("cuda.init=80[34]", (_LIBCUDA, _MODULE, _DEVICES)),
    ("cuda.init=*", (_NODES, _LOG, _LIBCUDA)),
    ("cuda.library", (_NODES, _ENV, Decider("container.host_config", "docker inspect CONTAINER"))),
    ("cuda.runtime=35", (_LIBCUDA, _MODULE)),
    ("cuda.context=46", (_DEVICES, Decider("host.services.nvidia-gridd", "systemctl status nvidia-gridd"))),
    ("cuda.kernel=*", (_PYTHONS, _DEVICES)),
    ("cuda.*", (_DEVICES, _LOG)),
    ("torch", (Decider("pythons", "python -c 'import torch; print(torch.__version__, torch.version.cuda)'"), _ENV)),
    ("image.registry=404", (Decider("image.base", "grep FROM Dockerfile"),)),
    ("message.image-not-found", (Decider("image.registry_status", "docker manifest inspect IMAGE"),)),
    *((name, (_PYTHONS, _ENV, _LIBCUDA)) for name in ("onnxruntime", "tensorflow", "jax", "cupy", "triton")),
    ("message.*", (Decider("host.docker", "docker info"), Decider("host.toolkit.version", "nvidia-ctk --version"))),
    ("*", (_ENV, _LIBCUDA)),
)


def deciders(symptom: str) -> tuple[Decider, ...]:
    """What would decide between the causes of a symptom, by its id."""
    return next(found for pattern, found in _BY_SYMPTOM if fnmatchcase(symptom, pattern))
