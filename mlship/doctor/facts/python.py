"""Python environments: installed packages, and what each framework reports about the GPU."""

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup, Number


class Torch(FactGroup):
    version: Fact[str] = UNKNOWN
    cuda: Fact[str] = UNKNOWN
    arch_list: Fact[tuple[str, ...]] = UNKNOWN
    is_available: Fact[bool] = UNKNOWN
    device_count: Fact[Number] = UNKNOWN
    cudnn_version: Fact[Number] = UNKNOWN
    error: Fact[str] = UNKNOWN


class OnnxRuntime(FactGroup):
    version: Fact[str] = UNKNOWN
    available_providers: Fact[tuple[str, ...]] = UNKNOWN
    session_providers: Fact[tuple[str, ...]] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


class TensorFlow(FactGroup):
    version: Fact[str] = UNKNOWN
    cuda_version: Fact[str] = UNKNOWN
    cudnn_version: Fact[str] = UNKNOWN
    gpus: Fact[Number] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


class Jax(FactGroup):
    version: Fact[str] = UNKNOWN
    jaxlib_version: Fact[str] = UNKNOWN
    backend: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


class Cupy(FactGroup):
    version: Fact[str] = UNKNOWN
    cuda: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


class Triton(FactGroup):
    version: Fact[str] = UNKNOWN
    error: Fact[str] = UNKNOWN


class PythonEnvironment(FactGroup):
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
