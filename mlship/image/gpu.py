"""Matches the lock to the hosts: the GPU part of a plan, and why. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlship.cuda.fit.faults import LockProblem
from mlship.cuda.fit.judge import Verdict
from mlship.cuda.fit.match import Match, match_lock
from mlship.cuda.fit.needs import read_needs
from mlship.cuda.fit.target import lock_target
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import is_far_newer, support_of, tables, wheel_index
from mlship.cuda.versions import Driver
from mlship.errors import LockError
from mlship.image.plan import CudaImage, GpuPlan, PlanReason
from mlship.lock.check import Lock
from mlship.lock.inputs import read_inputs
from mlship.lock.pins import Pin
from mlship.project.base import cuda_reference
from mlship.project.config import Config, Gpu
from mlship.units import count_of

_PROVE = "prove the image on such a host: `mlship smoke IMAGE --on gpu`"


@dataclass(frozen=True)
class Matched:
    """A lock matched to hosts.

    Attributes:
        warnings: uncertainties and notes that do not stop the build.
        unknown: what is not known to run on every host, and why; empty where all of it runs.
    """

    plan: GpuPlan
    reasons: tuple[PlanReason, ...]
    warnings: tuple[str, ...]
    unknown: tuple[str, ...]


def chosen_cuda(repo: Path, config: Config, fleet: Fleet) -> str | None:
    """The CUDA that `mlship lock` would choose now; None for hosts outside the repository: a lock ignores those.

    Raises:
        MatchError: no version of the requested packages runs on every host.
    """
    key = lock_target(config, read_inputs(repo, config), fleet).key
    return key if fleet.committed else None


def match_hosts(config: Config, lock: Lock, fleet: Fleet) -> Matched:
    """Match a lock to hosts.

    Raises:
        MatchError: a host does not run the lock, or the lock contradicts itself.
        LockError: the lock pins no digest for an image that is now needed.
    """
    match = match_lock(config, lock.pins, fleet)
    plan = _gpu_plan(config, lock, match, fleet)
    warnings = tuple(dict.fromkeys(_warnings(match, fleet, lock.pins)))
    return Matched(plan, tuple(_reasons(plan, match, fleet)), warnings, tuple(_unknown(match)))


def _unknown(match: Match) -> Iterator[str]:
    reasons = ((verdict, reason) for verdict in match.verdicts for reason in verdict.reasons)
    yield from (f"{on.host}: {on.stack}: {reason.text}" for on, reason in reasons if reason.outcome == "unknown")
    if match.needs.way is None:
        yield "no locked package is known to use CUDA"


def unwanted_cuda(config: Config, lock: Lock) -> tuple[str, ...]:
    """Warnings about CUDA packages in a lock for the CPU."""
    return tuple(_warning(warning) for warning in read_needs(lock.pins, config.platform, gpu=False).warnings)


def _warning(problem: LockProblem) -> str:
    return f"{problem.text}: {problem.hint}"


def _warnings(match: Match, fleet: Fleet, pins: tuple[Pin, ...]) -> Iterator[str]:
    yield from (_warning(warning) for warning in match.needs.warnings)
    yield from _old_tables(pins)
    for verdict in match.verdicts:
        yield from (f"{verdict.host}: {reason.text}; {_PROVE}" for reason in verdict.reasons if reason.doubtful)
    for host in fleet.hosts:
        driver = Driver.parse(host.driver)
        support = support_of(driver) if driver else None
        if support and support[1]:
            yield f"{host.name}: {support[0]}; plan an update of its driver"
    yield from (f"{host.name} is a simulated host, not a real one" for host in fleet.hosts if host.simulated)


def _old_tables(pins: tuple[Pin, ...]) -> Iterator[str]:
    newer = [pin for pin in pins if is_far_newer(pin.name, pin.version)]
    if newer:
        by_package, named = tables().packages.by_package, ", ".join(f"{pin.name} {pin.version}" for pin in newer)
        day = max(row.read_on for pin in newer for row in by_package[pin.name])
        text = f"mlship's CUDA tables, read on {day}, are more than one minor release older than {named}"
        yield f"{text}; update mlship: `pip install --upgrade mlship`"


def _gpu_plan(config: Config, lock: Lock, match: Match, fleet: Fleet) -> GpuPlan:
    gpu = config.gpu or Gpu.model_validate({})
    return GpuPlan(
        cuda=str(match.cuda) if match.cuda else None,
        way=match.needs.way or "wheels",
        require=match.require,
        runtime=_image(config, lock, match.runtime),
        devel=_image(config, lock, match.devel),
        compiled=match.needs.compiled,
        compat=_image(config, lock, match.compat),
        index=f"{gpu.wheel_index or wheel_index().address}/{match.needs.variant}" if match.needs.variant else None,
        hosts=tuple(host.name for host in fleet.hosts),
        devices=tuple(sorted({f"{each.name} ({each.capability})" for host in fleet.hosts for each in host.gpus})),
        architectures=_architectures(fleet),
    )


def _architectures(fleet: Fleet) -> tuple[str, ...]:
    """Compute capabilities of the hosts, in order; none if one of them is unknown."""
    found = {gpu.capability for host in fleet.hosts for gpu in host.gpus}
    known = [capability for capability in found if capability]
    return tuple(sorted(known, key=lambda text: [int(part) for part in text.split(".")])) if None not in found else ()


def _reasons(plan: GpuPlan, match: Match, fleet: Fleet) -> Iterator[PlanReason]:
    yield PlanReason(
        "hosts", f"{count_of(len(fleet.hosts), 'kind')}, from {fleet.origin}", "\n".join(map(_host, fleet.hosts))
    )
    yield PlanReason("cuda", plan.cuda or "none", _why(plan, match))
    yield from _matches(match.verdicts)
    if plan.index:
        yield PlanReason("wheel index", plan.index, "for packages built for this CUDA; others keep their index")
    if plan.runtime:
        lacking = ", ".join(match.needs.lacking)
        yield PlanReason(
            "cuda image", plan.runtime.reference, f"no locked wheel brings the CUDA libraries that {lacking} needs"
        )
    if plan.devel:
        yield PlanReason(
            "nvcc", plan.devel.reference, f"compiles {', '.join(plan.compiled)}; mounted in the build, not shipped"
        )
    if plan.compat:
        yield PlanReason(
            "compat", plan.compat.reference, "`gpu.forward_compat`: its libraries let older drivers run this CUDA"
        )
    if plan.require:
        yield PlanReason("requires", plan.require, f"NVIDIA_REQUIRE_CUDA: {_why_required(plan, match)}")


def _matches(verdicts: tuple[Verdict, ...]) -> Iterator[PlanReason]:
    """One line per fact about a host; stacks with the same facts share a row."""
    rows: dict[str, list[Verdict]] = {}
    for stack in dict.fromkeys(verdict.stack for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.stack == stack]
        lines = "\n".join(f"{verdict.host}: {reason.text}" for verdict in own for reason in verdict.reasons)
        rows.setdefault(lines, []).extend(own)
    for lines, own in rows.items():
        stacks = ", ".join(dict.fromkeys(verdict.stack for verdict in own))
        unknown = ", ".join(dict.fromkeys(verdict.host for verdict in own if verdict.outcome == "unknown"))
        sources = dict.fromkeys(reason.source for verdict in own for reason in verdict.reasons if reason.source)
        yield PlanReason(
            "match", f"{stacks}{f': not known to run on {unknown}' * bool(unknown)}", lines, tuple(sources)
        )


def _why_required(plan: GpuPlan, match: Match) -> str:
    """Why the image requires this much, and what a host with an older driver does."""
    refuses = "NVIDIA's container toolkit (except in CDI mode) refuses to start the image on an older driver"
    if plan.compat:
        return f"what the matched hosts support, by driver branch with forward compatibility; {refuses}"
    if plan.require == f"cuda>={match.needs.cuda}":
        return f"every host supports the image's CUDA; {refuses}"
    return f"what the oldest of these drivers supports; {refuses}"


def _why(plan: GpuPlan, match: Match) -> str:
    if plan.cuda is None:
        return "no locked package is known to use CUDA"
    names = ", ".join(stack.name for stack in match.needs.stacks) or "the lock"
    how = "copied from NVIDIA's image" if plan.runtime else "from the locked wheels"
    return f"{how}, for {names}"


def _host(host: HostProfile) -> str:
    return f"{host.name}: driver {host.driver}, {', '.join(map(_gpu, host.gpus))}{' (simulated)' * host.simulated}"


def _gpu(gpu: HostGpu) -> str:
    count = f"{gpu.count} x " if gpu.count > 1 else ""
    return f"{count}{gpu.name} ({gpu.capability or 'compute capability unknown'})"


def _image(config: Config, lock: Lock, name: str | None) -> CudaImage | None:
    if name is None:
        return None
    digest = lock.record.images.get(name)
    if digest is None:
        raise LockError(f"the lock is stale: it pins no digest for `{name}`, which these hosts need")
    return CudaImage(cuda_reference(config, name), digest)
