"""The container in question: what it requested, and how the GPU gets into it. Pure."""

from mlship.doctor import commands
from mlship.doctor.facts.container import Injection
from mlship.doctor.facts.fact import Fact, each, is_known, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Podman
from mlship.doctor.facts.place import Place
from mlship.doctor.queries import is_tegra, kernel_driver, line_of, toolkit_config
from mlship.doctor.versions import version_numbers

_JIT_CDI = (1, 18)  # since then nvidia-container-runtime generates a CDI specification in memory
_GPUS_BY_CDI = (29, 2)  # since then Docker turns --gpus into CDI devices if it finds nvidia-cdi-hook
_MODES: dict[str, Injection] = {"legacy": "legacy", "cdi": "cdi", "jit-cdi": "jit-cdi", "csv": "csv"}
CDI = frozenset({"cdi", "jit-cdi"})


def environment(facts: Facts) -> dict[str, str]:
    """The container's environment, or the image's if no container was examined. Empty if both are unknown."""
    return known(facts.container.env) or known(facts.image.env) or {}


def runtime(facts: Facts) -> str | None:
    """The OCI runtime of the container: its own, or the engine's default."""
    return known(facts.container.host_config.runtime) or known(facts.host.docker.default_runtime)


def works(facts: Facts) -> bool:
    return known(facts.container.cuda.init) == 0


def version_of_engine(facts: Facts) -> str | None:
    """Of the engine of the container in question."""
    podman = known(facts.host.podman) or Podman()
    return known(podman.version if commands.engine(facts) == "podman" else facts.host.docker.version)


def has_started(facts: Facts) -> bool:
    """The container is running, or calls were made in it."""
    box = facts.container
    called = (known(box.nvml.init), known(box.cuda.init), known(box.cuda.runtime_code))
    return known(box.status) == "running" or any(code is not None for code in called)


def is_lxc(facts: Facts) -> bool:
    """The container is one of LXC, LXD or Incus."""
    return known(facts.container.engine) == "lxc" or known(facts.container.lxc) is not None


def may_start(place: Place) -> bool:
    """CUDA starts here, or was not tried: no layer below the framework is known to fail."""
    return known(place.cuda.init) in {0, None}


def host_is_well(facts: Facts) -> bool:
    """NVML answers on the host, and CUDA starts there or was not tried."""
    return known(facts.host.nvml.init) == 0 and may_start(facts.host)


def host_driver(facts: Facts) -> str | None:
    """The driver's version: from the module, or from NVML if no module is visible (WSL2)."""
    return kernel_driver(facts) or known(facts.host.nvml.driver_version) or known(facts.container.nvml.driver_version)


def at_least(version: Fact[str], wanted: tuple[int, ...]) -> bool | None:
    """The version is that or newer; None if it is unknown."""
    text = known(version)
    return version_numbers(text) >= wanted if text and version_numbers(text) else None


def injection(facts: Facts) -> Injection | None:
    """How the GPU gets into the container: as observed, otherwise as this engine and toolkit do it."""
    config = facts.container.host_config
    observed: Injection | None = known(facts.container.injection)
    if observed is not None:
        return observed
    if is_tegra(facts):
        return "csv"
    if line_of(facts, r"nvidia-container-cli|Auto-detected mode as .legacy"):
        return "legacy"
    if each(config.cdi_devices) or known(facts.container.engine) == "podman":
        return "cdi"
    if known(config.runtime) == "nvidia":
        return runtime_mode(facts)
    return gpus_mode(facts) if each(config.gpus) or not is_known(config.gpus) else None


def runtime_mode(facts: Facts) -> Injection | None:
    """What nvidia-container-runtime does here."""
    mode = known(toolkit_config(facts).mode)
    if mode in _MODES:
        return _MODES[mode]
    newer = at_least(facts.host.toolkit.version, _JIT_CDI)
    if newer is None:
        return None
    return "jit-cdi" if newer else "legacy"


def gpus_mode(facts: Facts) -> Injection | None:
    """What Docker does with --gpus here."""
    newer = at_least(facts.host.docker.version, _GPUS_BY_CDI)
    hook = looked_up(facts.host.docker.daemon_hooks, "nvidia-cdi-hook")
    if newer is None or (newer and not is_known(hook)):
        return None
    return "cdi" if newer and hook is not None else "legacy"


def gpus_need_no_hook(facts: Facts) -> bool | None:
    """Docker turns --gpus into CDI devices, so that nvidia-cdi-hook is enough; None if that is unknown."""
    newer = at_least(facts.host.docker.version, _GPUS_BY_CDI)
    return False if known(facts.host.docker.cdi) is False or newer is False else newer


def is_rootless(facts: Facts) -> bool:
    """Docker runs as an ordinary user."""
    docker = facts.host.docker
    return known(docker.rootless) is True or any("rootless" in option for option in each(docker.security_options))


def is_elsewhere(facts: Facts) -> bool:
    """Docker runs on another machine: Docker Desktop's VM, or one behind a context."""
    docker = facts.host.docker
    endpoint = known(docker.endpoint) or "unix://"
    return "Docker Desktop" in (known(docker.operating_system) or "") or not endpoint.startswith("unix://")
