"""Steps towards what runs on this host, chosen as the build chooses, so that the two never disagree. Pure."""

from dataclasses import replace
from functools import cache
from shlex import quote

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import PackageRequest, Pick, choose
from mlship.cuda.fit.judge import Stack, judge_stack, offered_by
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.cuda.tables.lookup import architecture_of, compat_of, gpu_class, nvidia_image, tables, wheel_index
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Step, Where
from mlship.doctor.queries import is_wsl
from mlship.frameworks import framework_table
from mlship.requirement_line import package_version

_WITH_TORCH = ("torchvision", "torchaudio")
_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x")


def install_step(package: str, version: str, host: HostProfile, where: Where, here: dict[str, str]) -> Step | None:
    """Install a build of the package that runs on this host; `build_for` explains the choice."""
    found = build_for(package, version, host, here)
    if found is None:
        return None
    built, command = found
    begin, end = ("In the image, install", ", and rebuild the image:") if where == "container" else ("Install", ":")
    return Step(f"{begin} the build for CUDA {built}, which runs here{end}", (command,))


def build_for(package: str, version: str, host: HostProfile, here: dict[str, str]) -> tuple[str, str] | None:
    """The CUDA of a build that runs on this host, and the command: the same version if possible, otherwise the newest.

    Args:
        here: the other installed distributions.
    """
    for ask in _asks(package, version):
        picks = choose((ask,), Fleet((host,), "this host", committed=False), host.platform).picks
        if picks and picks[0].outcome == "runs":
            return str(picks[0].built), _pip(picks[0], ask, here)
    return None


def _asks(package: str, version: str) -> tuple[PackageRequest, ...]:
    """The same version first, then any version."""
    if package.startswith("cupy"):
        return tuple(PackageRequest(name, SpecifierSet()) for name in _CUPY)
    name = "jax" if package.startswith("jax") else package
    extras, known = _extras(name), package_version(version)
    wanted = (*((SpecifierSet(f"=={known.public}"),) if known else ()), SpecifierSet())
    return tuple(PackageRequest(name, each, extras) for each in wanted)


@cache
def _extras(package: str) -> tuple[str, ...]:
    """Those with which it brings CUDA's libraries."""
    wanted = (Requirement(text) for row in framework_table().frameworks for text in row.gpu_requirements)
    return tuple(sorted({extra for one in wanted if one.name == package for extra in one.extras}))


def _pip(pick: Pick, ask: PackageRequest, here: dict[str, str]) -> str:
    """The pip command; torch is reinstalled because pip accepts an installed 2.11.0+cu130 as 2.11.0."""
    band = str(ask.specifier) or (pick.limit or "").removeprefix(pick.package)
    if pick.package in wheel_index().packages:
        wanted = " ".join((quote(f"{pick.package}{band}"), *(name for name in _WITH_TORCH if name in here)))
        return f"pip install --force-reinstall {wanted} --index-url {wheel_index().of(pick.variant)}"
    extras = (pick.variant,) if pick.package == "jax" else ask.extras
    return f"pip install {quote(f'{pick.package}{brackets(extras)}{band}')}"


def brackets(extras: tuple[str, ...]) -> str:
    """Such as "[cuda,cudnn]"."""
    return f"[{','.join(extras)}]" if extras else ""


def driver(facts: Facts, host: HostProfile, needs: Driver | None) -> Step | None:
    """Update the driver; None if it is new enough, or no such driver supports these GPUs."""
    current = Driver.parse(host.driver)
    if needs is None or current is None or current >= needs or not drives(host, needs):
        return None
    what = "NVIDIA's driver in Windows" if is_wsl(facts) else "the host's driver"
    return Step(f"Or update {what} to {needs} or newer.", instead=True)


def without_or(step: Step) -> Step:
    """The same step without "Or", for the first in a list."""
    text = step.say.removeprefix("Or ").removeprefix("Or, ")
    return replace(step, say=f"{text[0].upper()}{text[1:]}", instead=False)


def drives(host: HostProfile, needs: Driver) -> bool:
    """The driver branch still supports every GPU of the host."""
    for gpu in host.gpus:
        capability = Capability.parse(gpu.capability) if gpu.capability else None
        known = architecture_of(capability) if capability else None
        if known and known.last_branch and known.last_branch < needs.branch:
            return False
    return True


def forward(host: HostProfile, cuda: Cuda) -> Step | None:
    """NVIDIA's forward-compatibility libraries, if NVIDIA supports them on these GPUs and this driver."""
    package, current = compat_of(cuda), Driver.parse(host.driver)
    served = host.gpus and all(gpu_class(gpu.name) == "data-center" for gpu in host.gpus)
    if package is None or current is None or not served or package.on(current.branch) != "ok":
        return None
    name = f"cuda-compat-{cuda.major}-{cuda.minor}"
    return Step(f"Or, as this is a data-center GPU, install NVIDIA's {name} in the image.", instead=True)


def base_image(host: HostProfile) -> str | None:
    """The newest nvidia/cuda image whose CUDA this driver supports, and whose libraries support the GPUs."""
    offered = offered_by(host)
    for cuda in sorted({image.cuda for image in tables().images}, reverse=True):
        found = nvidia_image(cuda, "runtime", "ubuntu22.04") if offered and cuda <= offered else None
        if (
            found
            and judge_stack(Stack(f"CUDA {cuda}", cuda, cuda, host.platform, found.source), host).outcome == "runs"
        ):
            return f"nvidia/cuda:{found.tag('runtime')}"
    return None
