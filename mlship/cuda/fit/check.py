"""After the lock: do its pins run on every host, and which of NVIDIA's images does the build take from? Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlship.cuda.fit.judge import Outcome, Reason, Verdict, judge, offered_by, worst
from mlship.cuda.fit.needs import Needs
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.cuda.tables.load import image_tag, tables
from mlship.cuda.versions import Cuda, Driver

# Ubuntu's glibc must not be newer than Debian's: 22.04 has 2.35, 24.04 2.39, bookworm 2.36, trixie 2.41.
_UBUNTUS = {"bookworm": ("ubuntu22.04",), "trixie": ("ubuntu22.04", "ubuntu24.04")}


@dataclass(frozen=True)
class Match:
    """A lock against a fleet.

    Attributes:
        cuda: of the libraries in the image; None where nothing needs any.
        runtime: name and tag of NVIDIA's image that they are copied from; None where wheels bring them.
        devel: the one that is mounted for nvcc; None where nothing is compiled.
        compat: the one whose forward-compatibility libraries are shipped; None where no host needs them.
        verdicts: of every stack on every host.
        missing: why there is no such image; empty where there is one or none is needed.
        require: NVIDIA_REQUIRE_CUDA: no more than what the oldest of the hosts offers, since that was matched; empty
            where nothing is known to need CUDA.
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
        """Refused, where a host refuses, the lock itself is at fault, or an image is missing."""
        if self.needs.problems or self.missing:
            return "refused"
        unknown: tuple[Outcome, ...] = ("unknown",) if self.needs.way is None else ()
        return worst((*unknown, *(verdict.outcome for verdict in self.verdicts)))

    @property
    def blocked(self) -> tuple[Verdict, ...]:
        """What is refused, and where."""
        return tuple(verdict for verdict in self.verdicts if verdict.outcome == "refused")


def check(needs: Needs, fleet: Fleet, distro: str, *, compat: bool = False) -> Match:
    """Match what a lock needs to the hosts.

    Args:
        distro: Debian release of the image: NVIDIA's libraries must not need a newer glibc.
        compat: NVIDIA's forward-compatibility libraries are in the image.
    """
    runtime, devel, shipped, missing = None, None, None, ""
    if needs.takes:
        flavour = "cudnn-runtime" if needs.cudnn else "runtime"
        found = _image(needs.takes, flavour, needs.cudnn, fleet, distro)
        missing = "" if found else _none(needs, flavour, distro)
        if found:
            runtime, needs = found[1], needs.on(found[0])
    verdicts = tuple(verdict for host in fleet.hosts for verdict in _verdicts(needs, host, compat=compat))
    if needs.compiled and needs.cuda:
        devel = _same(needs.cuda, "devel", distro)
        missing = missing or ("" if devel else _none(needs, "devel", distro))
    if needs.cuda and _helped(verdicts):
        shipped = _same(needs.cuda, "runtime", distro)
        missing = missing or ("" if shipped else _none(needs, "runtime", distro))
    return Match(needs, needs.cuda, runtime, devel, shipped, verdicts, missing, _require(needs, fleet, verdicts))


def _verdicts(needs: Needs, host: HostProfile, *, compat: bool) -> Iterator[Verdict]:
    yield from (judge(stack, host, compat=compat) for stack in needs.stacks)
    for name, why in needs.unjudged:
        yield Verdict(host.name, name, (Reason("unknown-release", why, "mlship's tables"),))


def _helped(verdicts: tuple[Verdict, ...]) -> set[str]:
    """Hosts that run it by forward compatibility alone."""
    return {verdict.host for verdict in verdicts for reason in verdict.reasons if reason.kind == "forward-compat"}


def _same(cuda: Cuda, flavour: str, distro: str) -> str | None:
    """The image of exactly this CUDA."""
    found = (image_tag(cuda, flavour, ubuntu) for ubuntu in _UBUNTUS[distro])
    return next((f"nvidia/cuda:{image.tag(flavour)}" for image in found if image), None)


def _image(
    takes: tuple[Cuda, Cuda], flavour: str, cudnn: int | None, fleet: Fleet, distro: str
) -> tuple[Cuda, str] | None:
    """The newest image that every host's driver offers outright; else the oldest that fits, by minor compatibility."""
    least, below = takes
    offered = min((cuda for host in fleet.hosts if (cuda := offered_by(host))), default=None)
    fitting: list[tuple[Cuda, str]] = []
    for cuda in sorted({image.cuda for image in tables().images if least <= image.cuda < below}):
        images = [image_tag(cuda, flavour, ubuntu) for ubuntu in _UBUNTUS[distro]]
        kept = [i for i in images if i and (cudnn is None or (i.cudnn or "").partition(".")[0] == str(cudnn))]
        if kept:
            fitting.append((cuda, f"nvidia/cuda:{kept[0].tag(flavour)}"))
    outright = [item for item in fitting if offered is None or item[0] <= offered]
    return outright[-1] if outright else fitting[0] if fitting else None


def _none(needs: Needs, flavour: str, distro: str) -> str:
    least, below = needs.takes or (needs.cuda, None)
    wanted = f"CUDA {least}{f' to below {below}' if below else ''}{f' with cuDNN {needs.cudnn}' if needs.cudnn else ''}"
    return f"NVIDIA publishes no {flavour} image of {wanted} whose glibc {distro} can load"


def _require(needs: Needs, fleet: Fleet, verdicts: tuple[Verdict, ...]) -> str:
    """The larger of what the libraries need and no host lacks, so that a host older than any matched one is refused."""
    if needs.cuda is None:
        return ""
    helped = _helped(verdicts)
    offered = [cuda for host in fleet.hosts if host.name not in helped and (cuda := offered_by(host))]
    branches = sorted({d.branch for host in fleet.hosts if host.name in helped and (d := Driver.parse(host.driver))})
    least = f"cuda>={min([needs.cuda, *offered])}"
    return " ".join([least, *(f"driver>={branch},driver<{branch + 1}" for branch in branches)])
