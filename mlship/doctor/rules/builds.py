"""Rules about frameworks that were installed without CUDA support."""

from mlship.doctor import advice
from mlship.doctor.facts.fact import is_absent, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.place import Place
from mlship.doctor.facts.python import PythonEnvironment
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.frameworks import environments, installed, mismatched_plugin, profile, works_on_gpu
from mlship.doctor.queries import gpu_is_known_absent, gpus
from mlship.doctor.rules.base import Rule
from mlship.driver import codes

_PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")


def _has_gpu(facts: Facts, place: Place) -> bool:
    """An NVIDIA GPU was seen here, or its driver answered."""
    answers = (place.nvml.init, place.cuda.init, facts.host.nvml.init, facts.host.cuda.init)
    return not gpu_is_known_absent(facts) and (bool(gpus(facts)) or any(known(answer) == 0 for answer in answers))


def _healthy(where: Where, place: Place) -> tuple[Evidence, ...]:
    """Evidence that the GPU works, so the build is what does not use it."""
    calls = (("nvml.init", known(place.nvml.init), codes.nvml), ("cuda.init", known(place.cuda.init), codes.cuda))
    return tuple(Evidence(f"{where}.{name}", say(code)) for name, code, say in calls if code == 0)


class CpuTorch(Rule, id="cpu-only-torch"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            torch = known(environment.torch)
            version = installed(environment).get("torch", "")
            local = version.partition("+")[2]
            without = torch is not None and is_absent(torch.cuda)
            fails = torch is None or known(torch.is_available) is not True
            shown = (known(torch.version) if torch else None) or version
            if (without or local == "cpu" or local.startswith(("rocm", "xpu"))) and fails and _has_gpu(facts, place):
                return self.found(
                    facts,
                    {"shown": shown or "here", "owner": self._of(local)},
                    where=where,
                    fix=self._fix(facts, where, place, environment, version),
                    evidence=(
                        Evidence(f"{where}.pythons.torch.version", shown) if shown else None,
                        Evidence(f"{where}.pythons.torch.cuda", "none") if without else None,
                        *_healthy(where, place),
                    ),
                )
        return None

    @staticmethod
    def _of(local: str) -> str:
        return "for AMD's ROCm" if local.startswith("rocm") else "for Intel" if local == "xpu" else "for the CPU"

    @staticmethod
    def _fix(
        facts: Facts, where: Where, place: Place, environment: PythonEnvironment, version: str
    ) -> tuple[Step, ...]:
        host = profile(facts, place)
        step = advice.install_step("torch", version, host, where, installed(environment)) if host else None
        return (
            step or Step("Reinstall torch from a CUDA index: https://download.pytorch.org/whl/cuXYZ."),
            Step("To keep it, name only that index for torch in the requirements or the lock file."),
        )


class CpuOnnxRuntime(Rule, id="cpu-only-onnxruntime"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            onnx, here = known(environment.onnxruntime), installed(environment)
            providers = known(onnx.available_providers) if onnx else None
            built_in = providers is not None and "CUDAExecutionProvider" in providers
            fails = works_on_gpu(environment, "onnxruntime") is False or providers is not None
            if "onnxruntime" in here and not built_in and fails and _has_gpu(facts, place):
                both = "onnxruntime-gpu" in here
                gone = ("pip uninstall -y onnxruntime onnxruntime-gpu",)
                host = profile(facts, place)
                version = here.get("onnxruntime-gpu", here["onnxruntime"])
                step = advice.install_step("onnxruntime-gpu", version, host, where, here) if host else None
                return self.found(
                    facts,
                    where=where,
                    cause="onnxruntime overwrites onnxruntime-gpu, and has no CUDA provider."
                    if both
                    else f"onnxruntime {here['onnxruntime']} is the CPU package; the CUDA package is onnxruntime-gpu.",
                    fix=(
                        Step("Remove both packages, and keep dependencies from installing onnxruntime again:", gone),
                        step or Step("Install the CUDA package:", ("pip install 'onnxruntime-gpu[cuda,cudnn]'",)),
                    ),
                    evidence=(
                        Evidence(f"{where}.pythons.distributions", ", ".join(n for n in sorted(here) if "onnx" in n)),
                        Evidence(f"{where}.pythons.onnxruntime.available_providers", ", ".join(providers))
                        if providers
                        else None,
                        *_healthy(where, place),
                    ),
                )
        return None


class JaxWithoutPlugin(Rule, id="jax-cpu-only-jaxlib"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            jax, here = known(environment.jax), known(environment.distributions)
            if jax is None or here is None or known(jax.backend) != "cpu" or not _has_gpu(facts, place):
                continue
            plugins, odd = [name for name in _PLUGINS if name in here], mismatched_plugin(environment)
            if plugins and not odd:
                continue
            version = known(jax.version) or here.get("jax", "")
            host = profile(facts, place)
            step = advice.install_step("jax", version, host, where, here) if host else None
            return self.found(
                facts,
                {"odd": odd, "version": version},
                where=where,
                fix=(step or Step("Install jax with its plugin:", ("pip install --upgrade 'jax[cuda12]'",)),),
                evidence=(
                    Evidence(f"{where}.pythons.jax.backend", "cpu"),
                    Evidence(
                        f"{where}.pythons.distributions", odd or "neither jax-cuda12-plugin nor jax-cuda13-plugin"
                    ),
                    *_healthy(where, place),
                ),
            )
        return None
