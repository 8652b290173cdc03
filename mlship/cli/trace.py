"""The second part of `mlship lock`: what the server imports, noted in mlship.lock."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlship.cuda.hosts.profile import Fleet
    from mlship.lock.record import Trace


def trace_into_lock(directory: Path, fleet: "Fleet | None", known: "Trace | None", *, anew: bool) -> None:
    """Trace where nothing was traced yet. What cannot be traced is said, and the lock is as good without it.

    Args:
        known: what was traced before and is still true; it stays.
        anew: trace although there is a trace.
    """
    import time

    from mlship.build import run
    from mlship.build.prepare import prepare
    from mlship.cli.reporter import ConsoleReporter
    from mlship.console import say, warn
    from mlship.engine.docker import DockerEngine
    from mlship.errors import BuildError, MatchError, TransientError, UsageError
    from mlship.lock.record import read_record
    from mlship.lock.trace import merged, write_trace

    if read_record(directory).trace and not anew:
        return
    reporter = ConsoleReporter(verbose=False)
    try:
        prepared = prepare(directory, find_fleet=lambda _config: fleet)
        reporter.step("tracing what the server imports")
        started = time.monotonic()
        with reporter.building() as watch:
            trace = run.trace(prepared, DockerEngine(), watch)
    except (UsageError, BuildError, MatchError, TransientError) as error:
        warn(f"{error.message}\n{error.hint}")
        return
    trace = merged(trace, known)
    write_trace(directory, trace)
    seconds = time.monotonic() - started
    say(f"mlship.lock: byte code for {trace.count} modules, which the server imports; traced in {seconds:.1f} s")
