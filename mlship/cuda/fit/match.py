"""A lock's needs against every host: the verdicts, and NVIDIA's images that the build takes from."""

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.choose import PackageRequest
from mlship.cuda.fit.explain import match_error
from mlship.cuda.fit.judge import Outcome, Reason, Verdict, judge_stack, offered_by, worst
from mlship.cuda.fit.needs import Needs, read_needs
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.cuda.tables.lookup import nvidia_image, tables
from mlship.cuda.versions import Cuda, Driver
from mlship.lock.pins import Pin
from mlship.project.config import Config, Gpu

# Ubuntu's glibc must not be newer than Debian's: 22.04 has 2.35, 24.04 2.39, bookworm 2.36, trixie 2.41.
_UBUNTUS = {"bookworm": ("ubuntu22.04",), "trixie": ("ubuntu22.04", "ubuntu24.04")}


@dataclass(frozen=True)
class Match:
    """A lock matched to a fleet.

    Attributes:
        cuda: the version of the libraries in the image; None where nothing needs any.
        runtime: NVIDIA's image that they are copied from, as name and tag; None where wheels bring them.
        devel: the image that is mounted for nvcc; None where nothing is compiled.
        compat: the image whose forward-compatibility libraries are shipped; None where no host needs them.
        verdicts: of every stack on every host.
        missing: why there is no such image; empty where there is one or none is needed.
        require: NVIDIA_REQUIRE_CUDA: at most what the oldest of the hosts offers; empty where nothing is known to need
            CUDA.
    """

    needs: Needs
    cuda: Cuda | None
    runtime: str | None
    devel: str | None
    compat: str | None
    verdicts: tuple[Verdict, ...]
    missing: str
    require: str

    @property
    def outcome(self) -> Outcome:
        """Refused where a host refuses, the lock itself has a fault, or an image is missing."""
        if self.needs.problems or self.missing:
            return "refused"
        unknown: tuple[Outcome, ...] = ("unknown",) if self.needs.way is None else ()
        return worst((*unknown, *(verdict.outcome for verdict in self.verdicts)))

    @property
    def blocked(self) -> tuple[Verdict, ...]:
        """The verdicts of what does not run."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "refused")


def match_lock(config: Config, pins: tuple[Pin, ...], fleet: Fleet) -> Match:
    """Match a lock to the hosts.

    Raises:
        MatchError: it does not run on every host, or has a fault itself.
    """
    gpu = config.gpu or Gpu.model_validate({})
    needs = read_needs(pins, config.platform, gpu=True, compiled=gpu.compile)
    match = match_needs(needs, fleet, config.base.distro, compat=gpu.forward_compat)
    if match.outcome == "refused":
        known = tables().packages.by_package
        requests = tuple(PackageRequest(pin.name, SpecifierSet(), pin.extras) for pin in pins if pin.name in known)
        raise match_error(match.needs, match.missing, match.blocked, requests, fleet, config.platform)
    return match


def match_needs(needs: Needs, fleet: Fleet, distro: str, *, compat: bool = False) -> Match:
    """Match what a lock needs to the hosts.

    Args:
        distro: Debian release of the image: NVIDIA's libraries must not need a newer glibc.
        compat: the image contains NVIDIA's forward-compatibility libraries.
    """
    missing: list[str] = []

    def take(cudas: tuple[Cuda, Cuda], flavour: str, cudnn: int | None = None) -> tuple[Cuda, str] | None:
        found = _image(cudas, flavour, cudnn, fleet, distro)
        missing.extend([] if found else [_no_image(needs, flavour, distro)])
        return found

    runtime = take(needs.takes, "cudnn-runtime" if needs.cudnn else "runtime", needs.cudnn) if needs.takes else None
    if runtime:
        needs = needs.with_libraries(runtime[0])
    verdicts = tuple(verdict for host in fleet.hosts for verdict in _verdicts(needs, host, compat=compat))
    exact = (needs.cuda, Cuda(needs.cuda.major, needs.cuda.minor + 1)) if needs.cuda else None
    devel = take(exact, "devel") if exact and needs.compiled else None
    shipped = take(exact, "runtime") if exact and _by_compat(verdicts) else None
    return Match(
        needs=needs,
        cuda=needs.cuda,
        runtime=runtime and runtime[1],
        devel=devel and devel[1],
        compat=shipped and shipped[1],
        verdicts=verdicts,
        missing=next(iter(missing), ""),
        require=_require(needs, fleet, verdicts),
    )


def _verdicts(needs: Needs, host: HostProfile, *, compat: bool) -> Iterator[Verdict]:
    yield from (judge_stack(stack, host, compat=compat) for stack in needs.stacks)
    for name, why in needs.unjudged:
        yield Verdict(host.name, name, (Reason("unknown-release", why, "mlship's tables"),))


def _by_compat(verdicts: tuple[Verdict, ...]) -> set[str]:
    """The hosts that run it only through forward compatibility."""
    return {verdict.host for verdict in verdicts for reason in verdict.reasons if reason.kind == "forward-compat"}


def _image(
    takes: tuple[Cuda, Cuda], flavour: str, cudnn: int | None, fleet: Fleet, distro: str
) -> tuple[Cuda, str] | None:
    """The newest image that every host's driver supports outright; else the oldest, by minor-version compatibility."""
    least, below = takes
    offered = min((cuda for host in fleet.hosts if (cuda := offered_by(host))), default=None)
    fitting: list[tuple[Cuda, str]] = []
    for cuda in sorted({image.cuda for image in tables().images if least <= image.cuda < below}):
        images = [nvidia_image(cuda, flavour, ubuntu) for ubuntu in _UBUNTUS[distro]]
        kept = [i for i in images if i and (cudnn is None or (i.cudnn or "").partition(".")[0] == str(cudnn))]
        if kept:
            fitting.append((cuda, f"nvidia/cuda:{kept[0].tag(flavour)}"))
    outright = [item for item in fitting if offered is None or item[0] <= offered]
    return outright[-1] if outright else fitting[0] if fitting else None


def _no_image(needs: Needs, flavour: str, distro: str) -> str:
    least, below = needs.takes or (needs.cuda, None)
    cuda = f"CUDA {least} or newer, older than {below}," if below else f"CUDA {least}"
    cudnn = f" and cuDNN {needs.cudnn}" if needs.cudnn else ""
    return f"NVIDIA publishes no {flavour} image with {cuda}{cudnn} that works with {distro}'s glibc"


def _require(needs: Needs, fleet: Fleet, verdicts: tuple[Verdict, ...]) -> str:
    """The newest CUDA that the libraries need and no host that runs them lacks: an older driver is rejected."""
    if needs.cuda is None:
        return ""
    hosts = _by_compat(verdicts)
    other = hosts | {verdict.host for verdict in verdicts if verdict.outcome == "refused"}
    offered = [cuda for host in fleet.hosts if host.name not in other and (cuda := offered_by(host))]
    branches = sorted({d.branch for host in fleet.hosts if host.name in hosts and (d := Driver.parse(host.driver))})
    least = f"cuda>={min([needs.cuda, *offered])}"
    return " ".join([least, *(f"driver>={branch},driver<{branch + 1}" for branch in branches)])
