"""Whether a lock of any tool runs on hosts: the answer of `mlship fits`. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlship.cuda.fit.carriers import carries_cuda, named_cuda
from mlship.cuda.fit.changes import changes
from mlship.cuda.fit.judge import Outcome, Stack, Verdict, worst
from mlship.cuda.fit.match import Match, match_needs
from mlship.cuda.fit.needs import Needs, read_needs
from mlship.cuda.fit.requested import INCLUDES, completed, is_name, is_open, left_out
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.lookup import tables
from mlship.cuda.versions import Cuda
from mlship.lock.foreign import ForeignLock
from mlship.lock.pins import Pin
from mlship.units import few

_DISTRO = "bookworm"
_TOGETHER = {"two-distributions", "two-majors", "two-variants", "wrong-library"}
_OPEN = "the file names no build of torch and none of its CUDA libraries, so which build it installs is unknown"


@dataclass(frozen=True)
class PackageFit:
    """What a package meets on a host, with the reasons that decide.

    Attributes:
        needs: the oldest driver that would change it; None where no driver does.
    """

    package: str
    outcome: Outcome
    why: tuple[str, ...]
    sources: tuple[str, ...]
    needs: str | None


@dataclass(frozen=True)
class HostFit:
    """The answer for one host, with the packages that limit it, or those that run if none does."""

    host: str
    driver: str
    outcome: Outcome
    limits: tuple[PackageFit, ...]


@dataclass(frozen=True)
class Fits:
    """Whether a lock runs on hosts.

    Attributes:
        outcome: of all hosts together; unknown where no package is judged.
        packages: how many are locked.
        problems: faults of the lock itself, on any host.
        notes: what the answer does not cover.
        changes: what helps, each enough by itself or with what is unknown after it; empty where nothing is known.
    """

    outcome: Outcome
    packages: int
    hosts: tuple[HostFit, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    changes: tuple[str, ...]


def fit_lock(lock: ForeignLock, fleet: Fleet, platform: str) -> Fits:
    """Match a lock to the hosts, as `mlship build` does for its own."""

    def judge(lock: ForeignLock, fleet: Fleet) -> Match:
        return match_needs(needs_of(lock, platform), fleet, _DISTRO)

    match = judge(lock, fleet)
    hosts = tuple(_host(match, host.name, host.driver) for host in fleet.hosts)
    return Fits(
        outcome=match.outcome,
        packages=len(lock.pins) + len(lock.loose) + len(lock.foreign),
        hosts=hosts,
        problems=tuple(problem.text for problem in match.needs.problems),
        notes=tuple(_notes(lock, match, platform)),
        changes=tuple(changes(lock, match, fleet, platform, judge)),
    )


def needs_of(lock: ForeignLock, platform: str) -> Needs:
    """What the pins need; what the lock leaves open cannot be judged."""
    pins = completed(lock, platform)
    needs = read_needs(tuple(pin for pin in pins if not is_open(pin, lock, pins)), platform, gpu=True)
    apart = tuple(problem for problem in needs.problems if lock.more and problem.kind in _TOGETHER)
    floors = tuple(_floors(lock, platform))
    unjudged = (
        *_unjudged(lock, needs),
        *left_out(lock, pins),
        *((pin.name, _OPEN) for pin in pins if is_open(pin, lock, pins)),
        *(("extras", f"{problem.text}; this may be of extras that are not installed together") for problem in apart),
    )
    if not unjudged and not floors:
        return needs
    if needs.lacking and not lock.in_image:  # mlship would choose libraries for its own image
        needs = replace(needs, takes=None)
    return replace(
        needs,
        stacks=(*needs.stacks, *floors),
        unjudged=(*needs.unjudged, *unjudged),
        way=needs.way or "wheels",
        problems=tuple(p for p in needs.problems if p.kind != "cpu-only" and p not in apart),
        warnings=tuple(problem for problem in needs.warnings if problem.kind != "nothing-known"),
    )


def _unjudged(lock: ForeignLock, needs: Needs) -> Iterator[tuple[str, str]]:
    """Entries without a version that may bring CUDA, and packages whose CUDA libraries come from elsewhere."""
    for text in lock.loose:
        if text.startswith(INCLUDES):
            yield text, f"`{text}` includes a file that is not read; run `pip freeze` or name a lock instead"
        elif _brings(text) and _named(text) is None:
            yield text, _open(text)
    if lock.foreign:
        named = few(sorted(lock.foreign, key=_brings, reverse=True), 5)
        yield "conda", f"from conda, whose builds differ from PyPI's, so not judged: {named}"
    if lock.stray:
        yield "files", f"device code of no package, or that cannot be read, so not judged: {few(lock.stray, 5)}"
    if not lock.in_image:
        for name in needs.compiled_for_unknown:
            yield name, f"PyPI has no wheel of {name}, and for which GPUs a build of it has code is unknown"
        for name in needs.lacking:
            yield name, f"no locked package brings the CUDA libraries that {name} needs"


def _floors(lock: ForeignLock, platform: str) -> Iterator[Stack]:
    """Packages without a version whose name has a CUDA major, which every version needs a driver for."""
    for text in lock.loose:
        if cuda := _named(text):
            name = text.partition(" ")[0]
            yield Stack(name, cuda, cuda, platform, "its name", exact=False, least_cuda=True, unknown=_open(text))


def _named(text: str) -> Cuda | None:
    """The CUDA in the name of a package that has no version; None for addresses and files."""
    name = text.partition(" ")[0]
    return named_cuda(Pin(name, "0", ())) if is_name(name) else None


def _open(text: str) -> str:
    return f"the lock has no single version of {text.partition(' ')[0]}"


def _brings(text: str) -> bool:
    """Whether the tables or the name say that a package may bring CUDA."""
    name = text.partition(" ")[0]
    return name in tables().packages.by_package or carries_cuda(Pin(name, "0", ()))


def _host(match: Match, name: str, driver: str) -> HostFit:
    verdicts = [verdict for verdict in match.verdicts if verdict.host == name]
    outcome = worst(verdict.outcome for verdict in verdicts) if verdicts else "unknown"
    limiting = [verdict for verdict in verdicts if verdict.outcome == outcome]
    return HostFit(name, driver, outcome, tuple(map(_limit, limiting)))


def _limit(verdict: Verdict) -> PackageFit:
    why = tuple(reason.text for reason in verdict.deciding)
    sources = tuple(dict.fromkeys(reason.source for reason in verdict.deciding if reason.source))
    return PackageFit(verdict.stack, verdict.outcome, why, sources, str(verdict.driver) if verdict.driver else None)


def _notes(lock: ForeignLock, match: Match, platform: str) -> Iterator[str]:
    yield from (problem.text for problem in match.needs.warnings)
    if completed(lock, platform) != lock.pins:
        yield "the file does not list all CUDA libraries: judged as pip installs it, with what PyPI's wheels require"
    if lock.loose:
        yield f"without one version, so not judged: {few(lock.loose, 5)}; pass a lock, or what `pip freeze` prints"
    if lock.more:
        yield "the lock also lists packages of extras and of development; export what you install for an exact answer"
