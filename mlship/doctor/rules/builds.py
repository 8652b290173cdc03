"""Rules about frameworks that were installed without CUDA support."""

from collections.abc import Iterator

from mlship.doctor import advice
from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Where
from mlship.doctor.frameworks import environments, installed, mismatched_plugin, profile, works_on_gpu
from mlship.doctor.queries import gpu_is_known_absent, gpus
from mlship.doctor.rules.base import computes

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


def _has_gpu(facts: Facts, place: Place) -> bool:
    """An NVIDIA GPU was seen here, or its driver answered."""
    answers = (place.nvml.init, place.cuda.init, facts.host.nvml.init, facts.host.cuda.init)
    return not gpu_is_known_absent(facts) and (bool(gpus(facts)) or any(known(answer) == 0 for answer in answers))


def _install(facts: Facts, where: Where, place: Place, environment: PythonEnvironment, *asked: str) -> Values:
    """The step that installs a build for this host, for the texts, which have their own if there is none."""
    host = profile(facts, place)
    package, version = asked
    step = advice.install_step(package, version, host, where, installed(environment)) if host else None
    return {"say": step.say if step else None, "commands": step.commands if step else ()}


@computes("cpu-only-torch")
def _cpu_torch(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        torch, version = known(environment.torch), installed(environment).get("torch", "")
        local = version.partition("+")[2]
        without = torch is not None and is_absent(torch.cuda)
        fails = torch is None or known(torch.is_available) is not True
        if (without or local == "cpu" or local.startswith(("rocm", "xpu"))) and fails and _has_gpu(facts, place):
            yield {
                "where": where,
                "shown": (known(torch.version) if torch else None) or version,
                "without": without,
                "rocm": local.startswith("rocm"),
                "xpu": local == "xpu",
                "cpu": local != "xpu" and not local.startswith("rocm"),
                **_install(facts, where, place, environment, "torch", version),
            }


@computes("cpu-only-onnxruntime")
def _cpu_onnxruntime(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        onnx, here = known(environment.onnxruntime), installed(environment)
        providers = known(onnx.available_providers) if onnx else None
        built_in = providers is not None and "CUDAExecutionProvider" in providers
        fails = works_on_gpu(environment, "onnxruntime") is False or providers is not None
        if "onnxruntime" in here and not built_in and fails and _has_gpu(facts, place):
            version = here.get("onnxruntime-gpu", here["onnxruntime"])
            yield {
                "where": where,
                "both": "onnxruntime-gpu" in here,
                "version": here["onnxruntime"],
                "packages": tuple(name for name in sorted(here) if "onnx" in name),
                "providers": providers,
                **_install(facts, where, place, environment, "onnxruntime-gpu", version),
            }


@computes("jax-cpu-only-jaxlib")
def _jax_without_plugin(facts: Facts) -> Iterator[Values]:
    for where, place, environment in environments(facts):
        jax, here = known(environment.jax), known(environment.distributions)
        if jax is None or here is None or known(jax.backend) != "cpu" or not _has_gpu(facts, place):
            continue
        odd = mismatched_plugin(environment)
        if odd or not any(name in here for name in _PLUGINS):
            version = known(jax.version) or here.get("jax", "")
            step = _install(facts, where, place, environment, "jax", version)
            yield {"where": where, "odd": odd, "version": version, **step}
