"""From a match to the GPU part of a plan, and why it is so. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlship.cuda.fit.judge import Verdict
from mlship.cuda.fit.match import Match, lock_target, match_lock
from mlship.cuda.fit.needs import LockProblem, read_needs
from mlship.cuda.hosts.profile import Fleet, HostGpu, HostProfile
from mlship.cuda.tables.lookup import wheel_index
from mlship.errors import LockError
from mlship.image.gpu import CudaImage, GpuPlan, PlanReason
from mlship.lock.check import Lock
from mlship.lock.inputs import read_inputs
from mlship.project.base import cuda_reference
from mlship.project.config import Config, Gpu

_PROVE = "prove the image on such a host: `mlship smoke IMAGE --on gpu`"


@dataclass(frozen=True)
class Matched:
    """A lock matched to hosts.

    Attributes:
        warnings: what is not certain, or is worth knowing before the build; it stops nobody.
    """

    plan: GpuPlan
    reasons: tuple[PlanReason, ...]
    warnings: tuple[str, ...]


def chosen(repo: Path, config: Config, fleet: Fleet) -> str | None:
    """What would be chosen now; None for hosts that the repository does not name: the lock was not made for those.

    Raises:
        MatchError: nothing that is asked for runs on every host.
    """
    key = lock_target(config, read_inputs(repo, config), fleet).key
    return key if fleet.committed else None


def match_to(config: Config, lock: Lock, fleet: Fleet) -> Matched:
    """Match a lock to hosts.

    Raises:
        MatchError: some host does not run it, or it is at fault itself.
        LockError: it pins no digest of an image that is needed now.
    """
    match = match_lock(config, lock.pins, fleet)
    plan = plan_gpu(config, lock, match, fleet)
    return Matched(plan, tuple(gpu_reasons(plan, match, fleet)), tuple(dict.fromkeys(_warnings(match, fleet))))


def unwanted_cuda(config: Config, lock: Lock) -> tuple[str, ...]:
    """Warnings of CUDA in a lock for the CPU."""
    return tuple(_said(warning) for warning in read_needs(lock.pins, config.platform, gpu=False).warnings)


def _said(problem: LockProblem) -> str:
    return f"{problem.text}: {problem.hint}"


def _warnings(match: Match, fleet: Fleet) -> Iterator[str]:
    yield from (_said(warning) for warning in match.needs.warnings)
    for verdict in match.verdicts:
        yield from (f"{verdict.host}: {reason.text}; {_PROVE}" for reason in verdict.reasons if reason.doubtful)
    yield from (f"{host.name} is a simulated host, not a real one" for host in fleet.hosts if host.simulated)


def plan_gpu(config: Config, lock: Lock, match: Match, fleet: Fleet) -> GpuPlan:
    """The GPU part of a plan.

    Raises:
        LockError: the lock pins no digest of an image that is needed now.
    """
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
    )


def gpu_reasons(plan: GpuPlan, match: Match, fleet: Fleet) -> Iterator[PlanReason]:
    """Each choice of the GPU part, and why."""
    kinds = "1 kind" if len(fleet.hosts) == 1 else f"{len(fleet.hosts)} kinds"
    yield PlanReason("hosts", f"{kinds}, from {fleet.origin}", "\n".join(map(_host, fleet.hosts)))
    yield PlanReason("cuda", plan.cuda or "none that is known", _why(plan, match))
    yield from _matches(match.verdicts)
    if plan.index:
        yield PlanReason("wheel index", plan.index, "for the packages of this CUDA alone; the others keep their index")
    if plan.runtime:
        lacking = ", ".join(match.needs.lacking)
        yield PlanReason(
            "cuda image", plan.runtime.reference, f"no locked wheel brings the CUDA libraries of {lacking}"
        )
    if plan.devel:
        yield PlanReason("nvcc", plan.devel.reference, f"compiles {', '.join(plan.compiled)}; mounted, not shipped")
    if plan.compat:
        yield PlanReason(
            "compat", plan.compat.reference, "gpu.forward_compat: its libraries let an older driver run this CUDA"
        )
    if plan.require:
        yield PlanReason("requires", plan.require, f"NVIDIA_REQUIRE_CUDA: {_why_required(plan, match)}")


def _matches(verdicts: tuple[Verdict, ...]) -> Iterator[PlanReason]:
    """A line for each thing that is to be known of a host; stacks of which the same is to be known share a row."""
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
    """A host with an older driver refuses to start the container, with a message that says why."""
    refuses = "NVIDIA's container toolkit (not in CDI mode) refuses to start it where the driver is older"
    if plan.compat:
        return f"what the matched hosts offer, those of forward compatibility by their branch; {refuses}"
    if plan.require == f"cuda>={match.needs.cuda}":
        return f"every host offers the image's CUDA; {refuses}"
    return f"what the oldest of these drivers offers; {refuses}"


def _why(plan: GpuPlan, match: Match) -> str:
    if plan.cuda is None:
        return "nothing in the lock is known to use CUDA"
    names = ", ".join(stack.name for stack in match.needs.stacks) or "the lock"
    how = "copied from NVIDIA's image" if plan.runtime else "brought by the locked wheels"
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
        raise LockError(f"the lock is stale: it pins no digest of {name}, which these hosts need")
    return CudaImage(cuda_reference(config, name), digest)
