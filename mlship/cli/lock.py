"""`mlship lock`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.fetch import lock_sources
from mlship.cli.options import (
    HERE,
    Capabilities,
    Directory,
    Driver,
    Json,
    Platforms,
    fleet_finder,
    only_one,
    platforms_of,
)
from mlship.console import emit, say, warn
from mlship.errors import BuildError, Interrupted, LockError, MatchError, TransientError, UsageError
from mlship.files import check_writable
from mlship.units import count_of

if TYPE_CHECKING:
    from mlship.build.prepare import FindFleet
    from mlship.cuda.hosts.profile import Fleet
    from mlship.lock.compile import Upgrade
    from mlship.lock.gpu import LockTarget
    from mlship.lock.record import Trace
    from mlship.project.config import Config


def lock_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    directory: Directory = HERE,
    check: Annotated[bool, typer.Option("--check", help="Only check the lock; exit 3 if it is stale.")] = False,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", "-U", help="Upgrade every pin, the base image, model files.")
    ] = False,
    upgrade_package: Annotated[
        list[str] | None,
        typer.Option("--upgrade-package", "-P", metavar="NAME", help="Upgrade this package. Repeatable."),
    ] = None,
    trace: Annotated[
        bool | None,
        typer.Option(
            "--trace/--no-trace",
            help="Trace the server's imports again, or skip tracing and compile every module. [default: if it changed]",
        ),
    ] = None,
    platform: Platforms = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    json: Json = False,
) -> None:
    """Lock the requirements for the image, with hashes.

    Existing pins stay if they still fit. For a model on GPUs, mlship first chooses the newest CUDA that every host can
    run. It then starts the server once in a build to trace its imports: only these modules get precompiled bytecode.
    """
    from mlship.lock.compile import Upgrade
    from mlship.project.base import for_platform
    from mlship.project.load import load_unfinished

    written, missing = load_unfinished(directory)
    if check:
        only_one({"--check": True, "--trace": trace, "--upgrade": upgrade, "--upgrade-package": upgrade_package})
    targets = platforms_of(platform)
    if json and len(targets) > 1:
        raise UsageError("`--json` reports one platform", hint="run `mlship lock` once for each")
    asked = None if check else Upgrade(upgrade, tuple(upgrade_package or ()))
    if upgrade or upgrade_package:
        check_writable(directory)
    lock_sources(directory, written, again=upgrade, check=check)
    for config in [for_platform(written, target) for target in targets]:
        fleet = fleet_finder(directory, driver, compute_capability)
        _lock(directory, config, asked, fleet, traces=False if missing else trace, json=json)
    if missing:
        warn(
            f"mlship.yaml has no {', '.join(missing)}: the packages can be locked, and nothing can be built yet\n"
            "fill in these keys, then run `mlship lock` again to trace the server's imports"
        )


def _lock(
    directory: Path,
    config: "Config",
    upgrade: "Upgrade | None",
    find_fleet: "FindFleet",
    *,
    traces: bool | None,
    json: bool,
) -> None:
    """Lock for one platform, or only check if `upgrade` is None."""
    if upgrade is not None:
        _build_packages(directory, config)
    fleet = find_fleet(config)
    gpu = _target(directory, config, fleet) if fleet else None
    now = gpu.key if gpu and fleet and (fleet.committed or fleet.options) else None
    with _reporting_what_is_left(directory, config, now):
        known = None
        if upgrade and (upgrade.all or upgrade.packages or _stale(directory, config, now)):
            check_writable(directory)
            known = _resolve(directory, config, upgrade, gpu, json=json)
        else:
            _check(directory, config, now, json=json)
        if upgrade is None:
            return
        if gpu:
            _add_code(directory, config)
        if traces is not False:
            _trace(directory, config, fleet, None if traces else known, again=bool(traces))


def _add_code(directory: Path, config: "Config") -> None:
    """Write into the lock what a build has measured since."""
    from mlship.lock.measured import CodeCache, write_known_code
    from mlship.project.base import record_name
    from mlship.resources import cache_folder

    added = write_known_code(directory, record_name(config), CodeCache(cache_folder(), config.platform))
    if added:
        say(f"{record_name(config)}: added the measured device code of {', '.join(added)}")


@contextmanager
def _reporting_what_is_left(directory: Path, config: "Config", cuda: str | None) -> Iterator[None]:
    """An interruption may come before or after the lock is written."""
    try:
        yield
    except KeyboardInterrupt as error:
        state = "out of date" if _stale(directory, config, cuda) else "valid, but maybe without traced imports"
        raise Interrupted(f"run the same command again; until then, the lock is {state}") from error


def _build_packages(directory: Path, config: "Config") -> None:
    """Build the wheels of packages that the requirements name by their folder."""
    from mlship.lock.inputs import read_requirement_files
    from mlship.lock.packages import build_packages
    from mlship.lock.record import earlier_record
    from mlship.project.base import record_name

    files = read_requirement_files(directory, config)
    folders = dict.fromkeys(folder for file in files for folder in file.folders.values())
    if not folders:
        return
    known = earlier_record(directory, record_name(config))
    for wheel in build_packages(directory, folders, known.inputs if known else {}):
        say(f"built {wheel}; commit it with the lock")


def _target(directory: Path, config: "Config", fleet: "Fleet") -> "LockTarget":
    from mlship.cuda.fit.target import lock_target
    from mlship.lock.inputs import read_inputs

    target = lock_target(config, read_inputs(directory, config), fleet)
    names = ", ".join(host.name for host in fleet.hosts)
    say(f"CUDA for {names} ({fleet.origin}): {target.key}")
    if target.pages:
        say(f"wheel index for this CUDA: {target.pages[0].rsplit('/', 2)[0]}")
    return target


def _stale(directory: Path, config: "Config", cuda: str | None) -> bool:
    from mlship.lock.check import check_lock

    try:
        check_lock(directory, config, cuda)
    except LockError:
        return True
    return False


def _check(directory: Path, config: "Config", cuda: str | None, *, json: bool) -> None:
    from mlship.lock.check import check_lock
    from mlship.versioned import to_json

    lock = check_lock(directory, config, cuda)
    if json:
        emit(to_json({"fresh": True, "pins": len(lock.pins), "base": lock.record.base, "digest": lock.record.digest}))
    say(f"{config.requirements.lock} is up to date: {count_of(len(lock.pins), 'pin')}, {lock.record.base}")


def _resolve(
    directory: Path, config: "Config", upgrade: "Upgrade", gpu: "LockTarget | None", *, json: bool
) -> "Trace | None":
    """Resolve and write the lock; returns what is still valid of the earlier trace."""
    from mlship.cuda.fit.target import cpu_target
    from mlship.engine import connect
    from mlship.lock.compile import choose_place
    from mlship.lock.inputs import read_inputs
    from mlship.lock.resolve import resolve
    from mlship.report.lock import lock_json, lock_lines
    from mlship.resources import cache_folder

    place = choose_place(config)
    where = "on this machine" if place.local else "in the base image"
    say(f"resolving {config.requirements.input} {where}: {place.reason}")
    started = time.monotonic()
    target = gpu or cpu_target(config, read_inputs(directory, config))
    resolved = resolve(directory, config, connect, upgrade, cache_folder(), target)
    seconds = time.monotonic() - started
    for line in lock_lines(resolved, config.requirements.lock, seconds):
        say(line)
    for doubt in resolved.doubts:
        warn(doubt)
    if json:
        emit(lock_json(resolved, seconds))
    return resolved.traced


def _trace(directory: Path, config: "Config", fleet: "Fleet | None", known: "Trace | None", *, again: bool) -> None:
    """Trace the server's imports unless the lock has a trace of this code and these packages.

    A failure is only a warning: the lock stays valid.

    Args:
        known: what is still valid of an earlier trace; it is kept.
        again: trace even if there is a trace.
    """
    from mlship.build import run
    from mlship.build.prepare import prepare
    from mlship.cli.reporter import ConsoleReporter
    from mlship.engine import connect
    from mlship.lock.record import read_record
    from mlship.lock.trace import UntracedError, merge_traces, served_digest
    from mlship.project.base import record_name

    code, record = served_digest(directory, config), read_record(directory, record_name(config))
    earlier = record.trace
    if record.untraced == code and not again:
        warn("this server could not be traced before, and nothing changed; `mlship lock --trace` tries again")
        return
    if earlier and not again:
        if earlier.code == code:
            return
        say("the served code has changed since its imports were traced")
        known = earlier
    reporter = ConsoleReporter()
    try:
        prepared = prepare(directory, config.platform, lambda _config: fleet)
        reporter.step("tracing the server's imports")
        started = time.monotonic()
        with reporter.building() as watch:
            trace = run.trace(prepared, connect(), watch)
    except (UsageError, BuildError, MatchError, TransientError) as error:
        warn(f"{error.message}\n{error.hint}")
        if isinstance(error, UntracedError):
            replace(record, untraced=code).write(directory, record_name(config))
        return
    trace = replace(merge_traces(trace, known), code=code)
    replace(record, trace=trace, untraced=None).write(directory, record_name(config))
    seconds = time.monotonic() - started
    say(f"{record_name(config)}: the server imports {count_of(trace.count, 'module')}; traced in {seconds:.1f} s")
