"""The CUDA versions that run on every host of a fleet, by the verdict on each toolkit, and what limits them. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeAlias

from mlship.cuda.fit.judge import ReasonKind, Stack, Verdict, architecture_in, judge_stack
from mlship.cuda.hosts.profile import Fleet, HostProfile
from mlship.cuda.tables.lookup import CudaOffer, offer_of, tables
from mlship.cuda.versions import Cuda, Driver

Side: TypeAlias = Literal["most", "least"]


@dataclass(frozen=True)
class Bound:
    """A limit of what a host can run.

    Attributes:
        side: "most": this CUDA or older; "least": this CUDA or newer.
        by: what sets the limit.
        because: its name, such as "driver 550.54.15".
    """

    host: str
    side: Side
    cuda: str
    by: Literal["driver", "gpu"]
    because: str


@dataclass(frozen=True)
class Remark:
    """Something to know about a host, or an unknown."""

    host: str
    why: str


@dataclass(frozen=True)
class HostCuda:
    """The CUDA that a host's driver branch offers; None where unknown."""

    host: str
    cuda: str | None


@dataclass(frozen=True)
class FleetCuda:
    """What all hosts can run.

    Attributes:
        most: the newest CUDA that every driver offers and that still supports every GPU; None where a driver's CUDA is
            unknown.
        least: the oldest CUDA that supports every GPU; None where nothing sets one.
        outright: CUDA versions that every driver offers and that support every GPU, oldest first.
        by_minor_version: versions newer than some driver's that run on all hosts through minor-version compatibility.
        hosts: what each driver offers, in the fleet's order.
        bounds: the limits of each host, in the fleet's order.
        blocked: hosts on which no CUDA runs, and why.
        doubtful: hosts on which only a run can confirm `by_minor_version`, and why.
        unknown: what is unknown about a host.
    """

    most: str | None
    least: str | None
    outright: tuple[str, ...]
    by_minor_version: tuple[str, ...]
    hosts: tuple[HostCuda, ...]
    bounds: tuple[Bound, ...]
    blocked: tuple[Remark, ...]
    doubtful: tuple[Remark, ...]
    unknown: tuple[Remark, ...]

    @property
    def known(self) -> bool:
        """The CUDA of every host's driver is known."""
        return all(host.cuda is not None for host in self.hosts)

    def deciding(self, side: Side) -> tuple[Bound, ...]:
        """The bounds that set `most` or `least`."""
        value = self.most if side == "most" else self.least
        return tuple(bound for bound in self.bounds if bound.side == side and bound.cuda == value)


def fleet_cuda(fleet: Fleet) -> FleetCuda:
    """What all hosts of a fleet can run."""
    found = dict.fromkeys(each for host in fleet.hosts for each in _limits(host))
    bounds = tuple(each for each in found if isinstance(each, Bound))
    offers = {bound.host: bound.cuda for bound in bounds if bound.by == "driver"}
    known = all(host.name in offers for host in fleet.hosts)
    toolkits = sorted({toolkit.cuda for toolkit in tables().drivers.toolkits}) if known else []
    judged = {cuda: tuple(judge_stack(Stack(f"CUDA {cuda}", cuda, cuda, one.platform, ""), one) for one in fleet.hosts)
              for cuda in toolkits}  # fmt: skip
    running = {cuda: verdicts for cuda, verdicts in judged.items() if all(v.outcome != "refused" for v in verdicts)}
    by_minor = {cuda: verdicts for cuda, verdicts in running.items() if _remarks(verdicts, "minor-version")}
    every = zip(*judged.values(), strict=True)  # of a host, such as one whose driver does not support its GPU
    never = (verdicts[0] for verdicts in every if all(verdict.outcome == "refused" for verdict in verdicts))
    jetsons = next(iter(judged.values()), ())  # their drivers have their own numbers: the same for every CUDA
    return FleetCuda(
        most=_edge(bounds, "most") if known else None,
        least=_edge(bounds, "least"),
        outright=tuple(str(cuda) for cuda in running if cuda not in by_minor),
        by_minor_version=tuple(map(str, by_minor)),
        hosts=tuple(HostCuda(host.name, offers.get(host.name)) for host in fleet.hosts),
        bounds=bounds,
        blocked=tuple(Remark(first.host, first.reasons[0].text) for first in never),
        doubtful=tuple(dict.fromkeys(_remarks(chain(*by_minor.values()), "compressed-fatbin"))),
        unknown=(*(each for each in found if isinstance(each, Remark)), *_remarks(jetsons, "jetson")),
    )


def _remarks(verdicts: Iterable[Verdict], kind: ReasonKind) -> list[Remark]:
    return [Remark(verdict.host, r.text) for verdict in verdicts for r in verdict.reasons if r.kind == kind]


def _edge(bounds: Iterable[Bound], side: Side) -> str | None:
    values = sorted(Cuda.parse(bound.cuda) for bound in bounds if bound.side == side)
    return str(values[0 if side == "most" else -1]) if values else None


def _limits(host: HostProfile) -> Iterator[Bound | Remark]:
    driver = Driver.parse(host.driver)
    offered = offer_of(driver) if driver else CudaOffer(None, None, reason=f"driver {host.driver!r} is unknown")
    if offered.cuda is not None:
        yield Bound(host.name, "most", str(offered.cuda), "driver", f"driver {driver}")
    if offered.reason is not None:
        yield Remark(host.name, offered.reason)
    for gpu in host.gpus:
        capability, known = architecture_in(gpu)
        because = f"compute capability {capability} ({known.name})" if known else ""
        if capability is None:
            yield Remark(host.name, f"the compute capability of {gpu.name} is unknown")
        elif known is None:
            yield Remark(host.name, f"the tables do not list compute capability {capability} of {gpu.name}")
        if known and known.last is not None:
            yield Bound(host.name, "most", str(known.last), "gpu", because)
        if known and known.first is not None:
            yield Bound(host.name, "least", str(known.first), "gpu", because)
