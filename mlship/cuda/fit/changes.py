"""What helps a lock that does not run: each change is applied and judged before it is printed. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

from packaging.specifiers import SpecifierSet

from mlship.cuda.fit.carriers import local_version
from mlship.cuda.fit.choose import PackageRequest, Pick, choose
from mlship.cuda.fit.faults import is_release, required_torch
from mlship.cuda.fit.judge import newer_drivers
from mlship.cuda.fit.match import Match
from mlship.cuda.fit.requested import completed
from mlship.cuda.hosts.profile import Fleet
from mlship.cuda.tables.lookup import library_pin, release_of, tables, wheel_index
from mlship.lock.foreign import ForeignLock
from mlship.lock.pins import Pin
from mlship.units import few

Judge: TypeAlias = Callable[[ForeignLock, Fleet], Match]
_Change: TypeAlias = tuple[str, str, ForeignLock, Fleet]  # the text, its end if it is enough, and what is changed


def changes(lock: ForeignLock, match: Match, fleet: Fleet, platform: str, judge: Judge) -> Iterator[str]:
    """Each is enough by itself, or says what is still unknown after it; a driver and a release together if none is."""
    if match.outcome != "refused":
        return
    drivers = tuple(_drivers(lock, match, fleet))
    both = (one for driver, *_, of in drivers for one in _releases(lock, of, platform, f"{driver}, and "))
    helping = [*_judged((*_releases(lock, fleet, platform), *drivers), judge)]
    yield from helping or _judged(both, judge)


def _judged(tried: Iterable[_Change], judge: Judge) -> Iterator[str]:
    for text, end, on, of in tried:
        after = judge(on, of)
        unknown = next((r.text for verdict in after.verdicts for r in verdict.reasons if r.outcome == "unknown"), "")
        if after.outcome == "runs":
            yield text + end
        elif after.outcome == "unknown" and unknown:
            yield f"{text}; whether it then runs is unknown: {unknown}"


def _releases(lock: ForeignLock, fleet: Fleet, platform: str, first: str = "") -> Iterator[_Change]:
    """Other releases or builds of what is locked, with the CUDA libraries that they bring, and torch's companions."""
    known = tables().packages.by_package
    requests = tuple(PackageRequest(pin.name, SpecifierSet(), pin.extras) for pin in lock.pins if pin.name in known)
    locked = {pin.name: pin for pin in lock.pins}
    picks = [p for p in choose(requests, fleet, platform).picks if not _is_locked(p, locked.get(p.package))]
    pins = tuple(pin for pin in lock.pins if library_pin(pin.name, pin.version) is None)
    brought = len(pins) < len(lock.pins)
    chosen = {pick.package: _pin(pick, locked.get(pick.package), brought=brought) for pick in picks}
    beside = {*(wheel_index().packages if "torch" in chosen else ())} - chosen.keys()
    others = tuple(pin for pin in pins if pin.name not in {*chosen, *beside})
    changed = replace(lock, pins=(*others, *chosen.values()), whole=False, places=())
    changed = replace(changed, pins=completed(changed, "linux/amd64"), whole=True)
    if picks and _fits_torch(changed.pins):
        text, end = _named(picks, sorted(name for name in beside & locked.keys() if "triton" not in name))
        yield first + text, end, changed, fleet


def _is_locked(pick: Pick, pin: Pin | None) -> bool:
    if pin is None or release_of(pin.name, pin.version) is not pick.release:
        return False
    local = local_version(pin)
    return not pick.indexed if local is None else local == pick.variant


def _pin(pick: Pick, before: Pin | None, *, brought: bool) -> Pin:
    """The first release of a band, with extras for CUDA's libraries if the lock has some."""
    extras = pick.extras if brought else before.extras if before else ()
    local = f"+{pick.variant}" if pick.indexed else ""
    version = str(pick.release.band[0]) if pick.release.versions or before is None else before.version
    return Pin(pick.package, f"{version.partition('+')[0]}{local}", (), extras=extras)


def _fits_torch(pins: tuple[Pin, ...]) -> bool:
    """Whether each package is built for this torch, if it is built for one."""
    wanted = {release for pin in pins if (release := required_torch(pin))}
    return all(is_release(pin, release) for pin in pins if pin.name == "torch" for release in wanted)


def _named(picks: list[Pick], beside: list[str]) -> tuple[str, str]:
    builds = [f"{p.variant} from " + ("PyTorch's wheel index" if p.indexed else "PyPI") for p in picks]
    names = [f"`{pick.limit or pick.package}`" for pick in picks]
    also = f" (and {' and '.join(beside)} for that torch)" if beside else ""
    if len(picks) == 1:
        return f"lock {names[0]}: its build {builds[0]}{also}", " runs on all of these hosts"
    listed = ", ".join(f"{name} ({build})" for name, build in zip(names, builds, strict=True))
    return f"lock {listed}{also}", ": together they run on all of these hosts"


def _drivers(lock: ForeignLock, match: Match, fleet: Fleet) -> Iterator[_Change]:
    """Newer drivers, where one is all that is missing on each host."""
    newest = newer_drivers(match.blocked)
    if match.needs.problems or not newest:
        return
    hosts = tuple(replace(host, driver=str(newest.get(host.name, host.driver))) for host in fleet.hosts)
    named = [f"{name} to >= {driver}" for name, driver in newest.items()]
    yield f"update the driver: {few(named, 5)}", "", lock, replace(fleet, hosts=hosts)
