"""Python environments: installed packages, and what each framework reports about the GPU."""

from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


@dataclass(frozen=True)
class Torch(FactGroup):
    """PyTorch."""

    version: Fact[str] = UNKNOWN
    cuda: Fact[str] = UNKNOWN
    arch_list: Fact[tuple[str, ...]] = UNKNOWN
    is_available: Fact[bool] = UNKNOWN
    device_count: Fact[int] = UNKNOWN
    cudnn_version: Fact[int] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class OnnxRuntime(FactGroup):
    """onnxruntime."""

    version: Fact[str] = UNKNOWN
    available_providers: Fact[tuple[str, ...]] = UNKNOWN
    session_providers: Fact[tuple[str, ...]] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class TensorFlow(FactGroup):
    """TensorFlow."""

    version: Fact[str] = UNKNOWN
    cuda_version: Fact[str] = UNKNOWN
    cudnn_version: Fact[str] = UNKNOWN
    gpus: Fact[int] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Jax(FactGroup):
    """jax; its plugins are in `distributions` (jax-cuda12-plugin, jax-cuda13-plugin)."""

    version: Fact[str] = UNKNOWN
    jaxlib_version: Fact[str] = UNKNOWN
    backend: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Cupy(FactGroup):
    """cupy; `cuda` is the CUDA version it was built with, such as "12.8"."""

    version: Fact[str] = UNKNOWN
    cuda: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Triton(FactGroup):
    """triton; `error` is the exception from compiling a first kernel, absent if it worked."""

    version: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class PythonEnvironment(FactGroup):
    """One environment. A framework that is not installed is null."""

    prefix: Fact[str] = UNKNOWN
    version: Fact[str] = UNKNOWN
    distributions: Fact[dict[str, str]] = UNKNOWN
    missing: Fact[dict[str, tuple[str, ...]]] = UNKNOWN
    loaded: Fact[dict[str, str]] = UNKNOWN
    torch: Fact[Torch] = UNKNOWN
    onnxruntime: Fact[OnnxRuntime] = UNKNOWN
    tensorflow: Fact[TensorFlow] = UNKNOWN
    jax: Fact[Jax] = UNKNOWN
    cupy: Fact[Cupy] = UNKNOWN
    triton: Fact[Triton] = UNKNOWN
