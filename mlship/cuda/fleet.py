"""The CUDA that every host of a fleet can run: by its driver's branch and its GPUs' architectures. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.cuda.hosts import Fleet, HostProfile
from mlship.cuda.tables import architecture_of, cuda_of
from mlship.cuda.versions import Capability, Cuda, Driver
from mlship.errors import UsageError

Side: TypeAlias = Literal["most", "least"]


@dataclass(frozen=True)
class Bound:
    """One thing that limits what a host can run.

    Attributes:
        side: "most": this CUDA and no newer one; "least": this CUDA and no older one.
        by: what kind of thing sets it.
        because: that thing, such as "driver 550.54.15".
    """

    host: str
    side: Side
    cuda: str
    by: Literal["driver", "gpu"]
    because: str


@dataclass(frozen=True)
class Unknown:
    """What could not be told of a host, and why."""

    host: str
    why: str


@dataclass(frozen=True)
class HostCuda:
    """The CUDA that a host's driver branch offers; None where that is not known."""

    host: str
    cuda: str | None


@dataclass(frozen=True)
class FleetCuda:
    """What all hosts can run.

    Attributes:
        most: the newest CUDA that all of them can run; None where a host's is not known.
        least: the oldest CUDA that knows all their GPUs; None where nothing sets one.
        hosts: what each driver offers, in the fleet's order.
        bounds: everything that limits a host, in the fleet's order.
        unknown: what keeps the answer from being whole.
    """

    most: str | None
    least: str | None
    hosts: tuple[HostCuda, ...]
    bounds: tuple[Bound, ...]
    unknown: tuple[Unknown, ...]

    @property
    def fits(self) -> bool | None:
        """One CUDA can serve all hosts; None where that is not known."""
        if self.most is None:
            return None
        return self.least is None or Cuda.parse(self.least) <= Cuda.parse(self.most)

    def deciding(self, side: Side) -> tuple[Bound, ...]:
        """The bounds that set `most` or `least`."""
        value = self.most if side == "most" else self.least
        return tuple(bound for bound in self.bounds if bound.side == side and bound.cuda == value)


def fleet_cuda(fleet: Fleet) -> FleetCuda:
    """What all hosts of a fleet can run.

    Raises:
        UsageError: a host's driver or compute capability is written as nothing is.
    """
    found = [_host(host) for host in fleet.hosts]
    bounds = tuple(bound for _, host_bounds, _ in found for bound in host_bounds)
    unknown = tuple(each for _, _, unknowns in found for each in unknowns)
    hosts = tuple(host for host, _, _ in found)
    known = all(host.cuda is not None for host in hosts)
    return FleetCuda(
        most=_edge(bounds, "most") if known else None,
        least=_edge(bounds, "least"),
        hosts=hosts,
        bounds=bounds,
        unknown=unknown,
    )


def _edge(bounds: Iterable[Bound], side: Side) -> str | None:
    values = sorted(Cuda.parse(bound.cuda) for bound in bounds if bound.side == side)
    if not values:
        return None
    return str(values[0] if side == "most" else values[-1])


def _host(host: HostProfile) -> tuple[HostCuda, list[Bound], list[Unknown]]:
    said = list(dict.fromkeys([*_of_driver(host), *_of_gpus(host)]))
    driver = next((each for each in said if isinstance(each, Bound) and each.by == "driver"), None)
    bounds = [each for each in said if isinstance(each, Bound)]
    unknown = [each for each in said if isinstance(each, Unknown)]
    return HostCuda(host.name, driver.cuda if driver else None), bounds, unknown


def _of_driver(host: HostProfile) -> Iterator[Bound | Unknown]:
    driver = Driver.parse(host.driver)
    if driver is None:
        raise _bad(host, f"{host.driver!r} is not a driver version such as 550.54.15, as `nvidia-smi` prints it")
    offered = cuda_of(driver)
    if offered.cuda is not None:
        yield Bound(host.name, "most", str(offered.cuda), "driver", f"driver {driver}")
    if offered.reason is not None:
        yield Unknown(host.name, offered.reason)


def _of_gpus(host: HostProfile) -> Iterator[Bound | Unknown]:
    for gpu in host.gpus:
        if gpu.capability is None:
            yield Unknown(host.name, f"the compute capability of {gpu.name} is not known")
            continue
        known = architecture_of(_capability(host, gpu.capability))
        if known is None:
            yield Unknown(host.name, f"no table knows compute capability {gpu.capability}, which {gpu.name} has")
            continue
        because = f"compute capability {gpu.capability} ({known.name})"
        if known.last is not None:
            yield Bound(host.name, "most", str(known.last), "gpu", because)
        if known.first is not None:
            yield Bound(host.name, "least", str(known.first), "gpu", because)


def _capability(host: HostProfile, text: str) -> Capability:
    try:
        return Capability.parse(text)
    except ValueError as error:
        raise _bad(host, str(error)) from error


def _bad(host: HostProfile, why: str) -> UsageError:
    return UsageError(
        f"host {host.name}: {why}",
        hint="record it on that host: `mlship hosts record FILE` (docs/reference.md describes the format)",
    )
