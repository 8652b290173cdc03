"""A minimal model repository for GPUs, with a stand-in for torch that calls libcuda like the real one."""

from pathlib import Path

from tests.helpers.toy import YAML, toy
from tests.helpers.wheels import write_wheel

# The calls that the smoke test makes to torch, and a tensor in GPU memory, through libcuda.
TORCH = """\
import ctypes
import types

__version__ = "2.14.1+cu126"
_held = 0


def _cuda():
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return library if library.cuInit(0) == 0 else None


class Tensor:
    def __init__(self, values, device="cpu"):
        self.values, self.device = values, device

    def to(self, device):
        global _held
        library, context, address = _cuda(), ctypes.c_void_p(), ctypes.c_ulonglong()
        if library is None:
            raise RuntimeError("Found no NVIDIA driver on your system")
        assert library.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
        assert library.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(32 << 20)) == 0
        _held += 32 << 20
        return Tensor(self.values, "cuda:0")


class nn:
    class Module:
        def parameters(self):
            return ()

        def buffers(self):
            return ()


version = types.SimpleNamespace(cuda="12.6")
cuda = types.SimpleNamespace(
    is_available=lambda: _cuda() is not None, is_initialized=lambda: _held > 0, memory_allocated=lambda: _held,
    max_memory_allocated=lambda: _held,
)
"""
MODEL = '''\
"""A model of three lines, on the GPU where there is one."""
import torch


class Model:
    def __init__(self):
        self.weights = torch.Tensor([float(line) for line in open("weights.txt")])
        if torch.cuda.is_available():
            self.weights = self.weights.to("cuda")

    def predict(self, payload):
        return [[sum(payload["x"]) * w for w in self.weights.values]]


def load():
    return Model().predict
'''
RUNTIME = "nvidia-cuda-runtime-cu12==12.6.77"


def gpu_toy(folder: Path) -> Path:
    """Write the repository, and next to it a wheel index like PyTorch's with one torch for CUDA 12.6."""
    page = folder / "whl" / "cu126" / "torch"
    write_wheel(page, "torch", "2.14.1+cu126", (RUNTIME,), {"torch/__init__.py": TORCH.encode()})
    index = f"gpu: {{wheel_index: 'file://{folder}/whl'}}\n"
    return toy(folder, model_py=MODEL, requirements_in="torch\n", mlship_yaml=YAML + index)
