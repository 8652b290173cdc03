"""Python environments: installed packages, and what each framework reports about the GPU."""

from dataclasses import dataclass

from mlship.doctor.facts.fact import UNKNOWN, Fact, FactGroup


@dataclass(frozen=True)
class Torch(FactGroup):
    """PyTorch.

    Attributes:
        version: torch.__version__, such as "2.11.0+cu130".
        cuda: torch.version.cuda; absent in a CPU build.
        arch_list: torch.cuda.get_arch_list(), such as ["sm_80", "compute_90"].
        cudnn_version: torch.backends.cudnn.version(), such as 90100.
        error: the exception from importing it or querying CUDA; absent if none.
    """

    version: Fact[str] = UNKNOWN
    cuda: Fact[str] = UNKNOWN
    arch_list: Fact[tuple[str, ...]] = UNKNOWN
    is_available: Fact[bool] = UNKNOWN
    device_count: Fact[int] = UNKNOWN
    cudnn_version: Fact[int] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class OnnxRuntime(FactGroup):
    """onnxruntime.

    Attributes:
        available_providers: get_available_providers(): built-in providers, which may not work.
        session_providers: session.get_providers() of a real session.
        missing_libraries: sonames needed by libonnxruntime_providers_cuda.so that the loader does not find.
    """

    version: Fact[str] = UNKNOWN
    available_providers: Fact[tuple[str, ...]] = UNKNOWN
    session_providers: Fact[tuple[str, ...]] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class TensorFlow(FactGroup):
    """TensorFlow.

    Attributes:
        cuda_version: tf.sysconfig.get_build_info(); absent in a CPU build. cudnn_version likewise.
        gpus: number of devices in tf.config.list_physical_devices("GPU").
        missing_libraries: sonames that it cannot load with dlopen.
    """

    version: Fact[str] = UNKNOWN
    cuda_version: Fact[str] = UNKNOWN
    cudnn_version: Fact[str] = UNKNOWN
    gpus: Fact[int] = UNKNOWN
    missing_libraries: Fact[tuple[str, ...]] = UNKNOWN
    error: Fact[str] = UNKNOWN


@dataclass(frozen=True)
class Jax(FactGroup):
    """jax; its plugins are in `distributions` (jax-cuda12-plugin, jax-cuda13-plugin).

    Attributes:
        backend: jax.default_backend(): "cpu" or "gpu".
    """

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
    """One environment. A framework that is not installed is null.

    Attributes:
        prefix: sys.prefix, such as "/opt/venv".
        distributions: name to version, for the frameworks and all nvidia-* and jax-* distributions; others are
            not installed.
        missing: libraries in wheels with unresolved dependencies: {"libcusparse.so.12": ["libnvJitLink.so.12"]}.
        loaded: CUDA libraries by soname, with the file mapped into a process that imported the framework.
    """

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
