"""On which GPUs and drivers a lock runs, whatever the hosts: what an image can say about itself. Pure.

The verdicts change only at the drivers and the compute capabilities that the tables list, so one host for each pair
of them shows all.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlship.cuda.fit.fits import needs_of
from mlship.cuda.fit.judge import judge_stack, worst
from mlship.cuda.fit.needs import Needs
from mlship.cuda.hosts.profile import HostGpu, HostProfile
from mlship.cuda.tables.lookup import floor_of, offer_of, tables
from mlship.cuda.versions import Capability, Driver
from mlship.errors import MatchError
from mlship.lock.foreign import ForeignLock

_OPEN = "prove an image on such a node with `mlship smoke IMAGE --on gpu`, and choose nodes by their names until then"
_NO_CUDA = "leave such a condition out if it runs on the CPU; else prove it with `mlship smoke IMAGE --on gpu`"

_DRIVERS = re.compile(r"\bdriver(?:>=|<=|<|>|=|!=)(\d{1,5})(?:\.(\d{1,5}))?")
_CONDITION = re.compile(r"(cuda|driver)(>=|<)(\d{1,5})(?:\.(\d{1,5}))?")


@dataclass(frozen=True, order=True)
class DriverSpan:
    """Drivers from `first` on.

    Attributes:
        below: the first driver branch that no longer runs it; None where none is known.
    """

    first: Driver
    below: int | None = None


@dataclass(frozen=True)
class Reach:
    """GPUs on which the same drivers run a lock."""

    drivers: DriverSpan
    capabilities: tuple[Capability, ...]


@dataclass(frozen=True)
class Promise:
    """Where every package of a lock is known to run. Any other host is refused or unknown.

    Attributes:
        platform: such as linux/amd64.
        packages: what was judged.
    """

    platform: str
    packages: tuple[str, ...]
    reaches: tuple[Reach, ...]


def promise_of_lock(lock: ForeignLock, platform: str) -> Promise:
    """What a lock of any tool, or an image, can promise.

    Raises:
        MatchError: see `promise_of`; or its CUDA libraries are not chosen yet.
    """
    needs = needs_of(lock, platform)
    if needs.takes:
        why = f"no locked package brings the CUDA libraries of {', '.join(needs.lacking)}"
        raise MatchError(f"where this runs is unknown: {why}", hint="build an image and ask for the image")
    return promise_of(needs, platform, lock.require)


def promise_of(needs: Needs, platform: str, require: str = "") -> Promise:
    """What a lock with these needs can promise, without NVIDIA's forward-compatibility libraries.

    Args:
        require: the image's NVIDIA_REQUIRE_CUDA; NVIDIA's container runtime starts it on no other host.

    Raises:
        MatchError: something in it cannot be judged, or nothing runs anywhere.
    """
    _refuse_unknown(needs)
    drivers = [*_drivers(needs), *(Driver(int(major), int(minor or 0)) for major, minor in _DRIVERS.findall(require))]
    allowed = {driver: _allows(require, driver) for driver in sorted(set(drivers))}
    found: dict[DriverSpan, list[Capability]] = {}
    rows = tables().gpus.architectures  # without Jetsons, whose drivers have their own version numbers
    for capability in sorted({each for row in rows for each in row.capabilities if each not in row.tegra}):
        for span in _spans(needs, capability, allowed, platform):
            found.setdefault(span, []).append(capability)
    if not found:
        raise MatchError(
            "no known GPU and driver run these packages together",
            hint="run `mlship fits` with `--driver` and `--compute-capability`, which names the package that does not",
        )
    spans = sorted(found, key=lambda span: (span.first, span.below or 0))
    reaches = tuple(Reach(span, tuple(found[span])) for span in spans)
    return Promise(platform, tuple(stack.name for stack in needs.stacks), reaches)


def _refuse_unknown(needs: Needs) -> None:
    problems = [problem.text for problem in needs.problems]
    if problems:
        raise MatchError(f"this runs on no GPU host: {problems[0]}", hint="fix the lock and ask again")
    unjudged = [f"{name}: {why}" for name, why in needs.unjudged]
    unjudged += [f"{name}: for which GPUs it is compiled is unknown" for name in needs.compiled_for_unknown]
    unjudged += [stack.unknown for stack in needs.stacks if stack.unknown]
    if unjudged or not needs.stacks:
        why = unjudged[0] if unjudged else "no package is known to use CUDA"
        raise MatchError(
            f"where this runs is unknown, so nothing can be promised: {why}", hint=_OPEN if unjudged else _NO_CUDA
        )


def _allows(require: str, driver: Driver) -> bool:
    """Whether NVIDIA's container runtime starts an image there: spaces are "or", commas "and".

    A condition on something else, such as a GPU's brand, is taken for false.
    """
    offered = offer_of(driver).cuda
    values = {"driver": (driver.major, driver.minor), "cuda": (offered.major, offered.minor) if offered else None}

    def holds(text: str) -> bool:
        found = _CONDITION.fullmatch(text)
        value = values[found[1]] if found else None
        if found is None or value is None:
            return False
        bound = (int(found[3]), int(found[4] or 0))
        return value >= bound if found[2] == ">=" else value < bound

    return not require.split() or any(all(map(holds, clause.split(","))) for clause in require.split())


def _drivers(needs: Needs) -> list[Driver]:
    """Every driver at which a verdict can change, ascending."""
    branches = [branch.branch for branch in tables().drivers.branches]
    ends = [end for known in tables().gpus.architectures for end in (known.first_branch, known.last_branch) if end]
    floors = [floor_of(stack.cuda.major) for stack in needs.stacks]
    exact = {floor.driver for floor in floors if floor} | {stack.floor for stack in needs.stacks if stack.floor}
    return sorted(exact | {Driver(number + more, 0) for number in {*branches, *ends} for more in (0, 1)})


def _spans(needs: Needs, capability: Capability, drivers: Mapping[Driver, bool], platform: str) -> Iterator[DriverSpan]:
    first: Driver | None = None
    for driver, allowed in drivers.items():
        host = HostProfile(str(driver), str(driver), (HostGpu("a GPU", str(capability)),), platform)
        runs = allowed and worst(judge_stack(stack, host).outcome for stack in needs.stacks) == "runs"
        if runs and first is None:
            first = driver
        elif not runs and first is not None:
            if driver.branch > first.branch:  # an end inside a branch leaves out that branch
                yield DriverSpan(first, driver.branch)
            first = None
    if first is not None:
        yield DriverSpan(first)
