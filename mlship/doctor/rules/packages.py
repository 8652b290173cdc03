"""Rules about packages that are missing or wrong here: libcuda, CuPy, PyTorch for Jetson, XLA's compiler."""

import re
from shlex import quote

from mlship.cuda.versions import Cuda
from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import host_driver
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.python import PythonEnvironment, Torch
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.frameworks import as_cuda, environments, errors, installed
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import Rule, computes

_CUPY = re.compile(r"^cupy(-cuda\d+x?|-rocm.*)?$")
_JETPACK_6 = "R36"
_OF_JETSON = frozenset({"sm_53", "sm_62", "sm_72", "sm_87", "sm_101", "sm_110"})
_SERVERS = re.compile(r"^R(3[2-6])\b")
_NO_PTXAS = (
    r"No PTX compilation provider|Couldn't find a suitable version of ptxas|Couldn't invoke ptxas|ptxas not found"
)
_NO_VMM = r"does not support CUDA Virtual Memory Management"


@computes("libcuda-not-installed")
def _with_libcuda(facts: Facts) -> Values:
    return {"package": commands.install_libcuda(facts, host_driver(facts))}


class TwoCupy(Rule, id="two-cupy-packages"):
    def look(self, facts: Facts) -> Finding | None:
        for where, place, environment in environments(facts):
            names = sorted(name for name in installed(environment) if _CUPY.match(name))
            cupy = known(environment.cupy)
            line = line_of(facts, r"multiple CuPy packages|(?i:cupy).{0,80}(undefined symbol|NVRTC|libnvrtc|version)")
            error = (known(cupy.error) if cupy else None) or (line.value if line else None)
            if len(names) < 2 or error is None:
                continue
            cuda = as_cuda(str((known(place.cuda.driver_version) or 0) // 1000) + ".0")
            return self.found(
                facts,
                {
                    "named": " and ".join(names),
                    "names": " ".join(map(quote, names)),
                    "keep": self._keep(names, cuda),
                },
                where=where,
                evidence=(
                    Evidence(f"{where}.pythons.distributions", ", ".join(names)),
                    Evidence(f"{where}.pythons.cupy.error" if cupy else "messages", error.strip()),
                ),
            )
        return None

    @staticmethod
    def _keep(names: list[str], offered: Cuda | None) -> str:
        """The newest of them that the driver's CUDA supports."""
        major = offered.major if offered and offered.major else 99
        built = {name: int(found[1]) for name in names if (found := re.search(r"cuda(\d+)x", name))}
        fits = [name for name in built if built[name] <= major]
        return quote(max(fits or built or names, key=lambda name: built.get(name, 0)))


class TorchForServers(Rule, id="jetson-torch-for-servers"):
    def look(self, facts: Facts) -> Finding | None:
        tegra = known(facts.host.tegra)
        release = (known(tegra.release) if tegra else None) or ""
        if not _SERVERS.match(release):
            return None
        for where, _, environment in environments(facts):
            torch = known(environment.torch)
            version = (known(torch.version) if torch else None) or installed(environment).get("torch", "")
            if torch is None or known(torch.is_available) is not False or self._is_for_jetson(torch, version):
                continue
            archs = " ".join(each(torch.arch_list))
            return self.found(
                facts,
                {
                    "version": version,
                    "archs": archs,
                    "release": release,
                    "index": "https://pypi.jetson-ai-lab.io/jp6/cu126" if release.startswith(_JETPACK_6) else None,
                },
                where=where,
                evidence=(
                    Evidence("host.tegra.release", release),
                    Evidence(f"{where}.pythons.torch.version", version),
                    Evidence(f"{where}.pythons.torch.arch_list", archs) if archs else None,
                    Evidence(f"{where}.pythons.torch.is_available", "False"),
                ),
            )
        return None

    @staticmethod
    def _is_for_jetson(torch: Torch, version: str) -> bool:
        """It contains code for a Jetson, or nothing shows that it does not."""
        archs = known(torch.arch_list)
        return "nv" in version or (bool(set(archs) & _OF_JETSON) if archs else "+" not in version)


@computes("xla-without-ptxas")
def _without_ptxas(facts: Facts) -> Values:
    here = {name for _, _, environment in environments(facts) for name in installed(environment)}
    thirteen = any("cuda13" in name or name.endswith("-cu13") for name in here)
    package = "nvidia-cuda-nvcc" if thirteen else "nvidia-cuda-nvcc-cu12"
    return {"found": _reported(facts, _NO_PTXAS), "package": package}


@computes("xla-without-virtual-memory")
def _without_vmm(facts: Facts) -> Values:
    return {"found": _reported(facts, _NO_VMM)}


def _reported(facts: Facts, pattern: str) -> Evidence | None:
    """A framework's own error, or a line that a user saw."""
    raised: list[tuple[str, PythonEnvironment]] = [(where, one) for where, _, one in environments(facts)]
    for where, environment in raised:
        for line in errors(environment):
            if re.search(pattern, line):
                return Evidence(f"{where}.pythons.error", line.strip())
    return line_of(facts, pattern)
