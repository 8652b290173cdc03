"""Rules about packages that are missing or wrong here: libcuda, CuPy, PyTorch for Jetson, XLA's compiler."""

import re
from collections.abc import Iterator
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.conditions import Values
from mlship.doctor.container import host_driver
from mlship.doctor.facts.fact import each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.python import PythonEnvironment, Torch
from mlship.doctor.finding import Evidence
from mlship.doctor.frameworks import environments, errors, installed
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import computes

_CUPY = re.compile(r"^cupy(-cuda\d+x?|-rocm.*)?$")
_OF_JETSON = frozenset({"sm_53", "sm_62", "sm_72", "sm_87", "sm_101", "sm_110"})
_NO_PTXAS = (
    r"No PTX compilation provider|Couldn't find a suitable version of ptxas|Couldn't invoke ptxas|ptxas not found"
)
_NO_VMM = r"does not support CUDA Virtual Memory Management"


@computes("libcuda-not-installed")
def _with_libcuda(facts: Facts) -> Values:
    return {"package": commands.install_libcuda(facts, host_driver(facts))}


@computes("two-cupy-packages")
def _two_cupy(facts: Facts) -> Iterator[Values]:
    line = line_of(facts, r"multiple CuPy packages|(?i:cupy).{0,80}(undefined symbol|NVRTC|libnvrtc|version)")
    for where, place, environment in environments(facts):
        names = tuple(sorted(name for name in installed(environment) if _CUPY.match(name)))
        cupy = known(environment.cupy)
        error = (known(cupy.error) if cupy else None) or (line.value if line else None)
        if len(names) > 1 and error:
            keep = _newest_cupy(names, (known(place.cuda.driver_version) or 0) // 1000 or 99)
            quoted = " ".join(map(quote, names))
            yield {"where": where, "cupy": cupy, "error": error.strip(), "names": names, "quoted": quoted, "keep": keep}


def _newest_cupy(names: tuple[str, ...], major: int) -> str:
    """The newest of them that a driver of this CUDA major version supports."""
    built = {name: int(found[1]) for name in names if (found := re.search(r"cuda(\d+)x", name))}
    fits = [name for name in built if built[name] <= major]
    return max(fits or built or names, key=lambda name: built.get(name, 0))


@computes("jetson-torch-for-servers")
def _torch_for_servers(facts: Facts) -> Iterator[Values]:
    for where, _, environment in environments(facts):
        torch = known(environment.torch)
        version = (known(torch.version) if torch else None) or installed(environment).get("torch", "")
        if torch and known(torch.is_available) is False and not _is_for_jetson(torch, version):
            yield {"where": where, "version": version, "archs": " ".join(each(torch.arch_list))}


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
