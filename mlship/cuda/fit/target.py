"""The CUDA that a lock is made for, and whether what was locked is what was chosen."""

from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.check import Match, check
from mlship.cuda.fit.choose import Choice, choose
from mlship.cuda.fit.explain import refuse_choice, refuse_match
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.fit.requested import Ask, read_asks
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.load import tables, wheel_index
from mlship.errors import MatchError
from mlship.lock.gpu import GpuTarget
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from mlship.project.config import Config, Gpu


def lock_target(config: Config, files: tuple[InputFile, ...], fleet: Fleet) -> GpuTarget:
    """Choose the CUDA to resolve for.

    Raises:
        MatchError: nothing that is asked for runs on every host.
    """
    gpu = config.gpu or Gpu.model_validate({})
    asks = read_asks(files, config.python)
    choice = choose(asks, fleet, config.platform, compat=gpu.forward_compat)
    if choice.refused:
        raise refuse_choice(choice, asks, fleet, config.platform)

    def judge(pins: tuple[Pin, ...]) -> tuple[str, ...]:
        _refuse_strays(choice, pins, gpu)
        match = match_lock(config, pins, fleet)
        return tuple(image for image in (match.runtime, match.devel, match.compat) if image)

    return GpuTarget(
        key=choice.key,
        pages=wheel_pages(gpu, choice.variant, wheel_index().packages),
        limits=choice.limits,
        packages=frozenset(tables().packages.releases),
        judge=judge,
    )


def match_lock(config: Config, pins: tuple[Pin, ...], fleet: Fleet) -> Match:
    """What a lock needs, matched to the hosts.

    Raises:
        MatchError: some host does not run it, or it is at fault itself.
    """
    gpu = config.gpu or Gpu.model_validate({})
    needs = read_needs(pins, config.platform, gpu=True, compiled=gpu.compile)
    match = check(needs, fleet, config.base.distro, compat=gpu.forward_compat)
    if match.outcome == "refused":
        known = tables().packages.releases
        asks = tuple(Ask(pin.name, SpecifierSet(), pin.extras) for pin in pins if pin.name in known)
        raise refuse_match(match, asks, fleet, config.platform)
    return match


def wheel_pages(gpu: Gpu, variant: str | None, packages: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses of the pages that list a variant's wheels, one a package."""
    base = gpu.wheel_index or wheel_index().address
    return tuple(f"{base}/{variant}/{package}/" for package in packages) if variant else ()


def _refuse_strays(choice: Choice, pins: tuple[Pin, ...], gpu: Gpu) -> None:
    """A wheel of another index, which pip took since it has a newer version there."""
    by_name = {pin.name: pin.version for pin in pins}
    for pick in choice.picks:
        version = by_name.get(pick.package, "")
        if pick.indexed and version.endswith("+cpu"):
            continue  # it is asked for as such, and what it needs says so
        if pick.indexed and version and not version.endswith(f"+{pick.variant}"):
            (page,) = wheel_pages(gpu, pick.variant, (pick.package,))
            raise MatchError(
                f"{pick.package} {version} is not of the chosen CUDA: {page} has no such version as +{pick.variant}, "
                "and another index does",
                hint=f"ask for {pick.package}<{version} in requirements.in, then `mlship lock`; "
                f"`pip index versions {pick.package} --no-index --find-links {page}` shows what is there",
            )
