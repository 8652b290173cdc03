"""Rules about WSL2, where the driver lives in Windows and Linux gets its libraries from /usr/lib/wsl."""

from mlship.doctor.conditions import Values
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence
from mlship.doctor.queries import is_compat
from mlship.doctor.rules.base import computes

_DRIVER_PACKAGES = (
    *("libnvidia-compute", "nvidia-utils", "nvidia-driver", "nvidia-dkms", "nvidia-kernel", "cuda-drivers"),
    *("libcuda1", "libnvidia-ml1", "kmod-nvidia", "nvidia-compute-utils"),
)


@computes("wsl-linux-driver-installed")
def _linux_driver(facts: Facts) -> Values:
    """Driver libraries that the loader picks from elsewhere; compat and stub folders are other failures."""
    libraries = (("host.cuda.library", facts.host.cuda.library), ("host.nvml.library", facts.host.nvml.library))
    found = [(fact, library.path) for fact, one in libraries if (library := known(one))]
    cached = (known(facts.host.loader.cache) or {}).get("libcuda.so.1") or ()
    found += [("host.loader.cache", path) for path in cached[:1]]
    foreign = tuple(
        Evidence(fact, path)
        for fact, path in found
        if "/wsl/" not in path and "/stubs/" not in path and not is_compat(path)
    )
    installed = known(facts.host.packages.installed)
    packages = tuple(sorted(name for name in installed or {} if name.startswith(_DRIVER_PACKAGES)))
    return {
        "foreign": foreign,
        "taken": foreign[0].value if foreign else "its libraries",
        "packages": packages,
        "by_hand": installed is not None and not packages,
    }
