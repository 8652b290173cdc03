"""The trace of imports that the build made, as mlship.lock keeps it. Pure except for writing mlship.lock."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from mlship.errors import UsageError
from mlship.lock.pins import Pin
from mlship.lock.record import Trace, read_record
from mlship.versioned import adapter

HINT = "fix that and run `mlship lock` again; until then the build compiles bytecode for every module"


def read_trace(content: bytes) -> Trace:
    """Read a trace and sort it, so that the same modules give the same bytes.

    Raises:
        UsageError: the server could not be traced.
    """
    try:
        found = adapter(Trace).validate_json(content)
    except ValidationError:
        raise UsageError(f"the server could not be traced: {_reason(content)}", hint=HINT) from None
    packages = {name: dict(sorted(folders.items())) for name, folders in sorted(found.packages.items())}
    return Trace(packages, dict(sorted(found.python.items())))


def carry_over(trace: Trace | None, before: Iterable[Pin], after: Iterable[Pin]) -> Trace | None:
    """The part of a trace that is still valid: packages that did not move, and Python itself."""
    if trace is None:
        return None
    same = {pin.name for pin in {*before} & {*after}}
    return Trace({name: folders for name, folders in trace.packages.items() if name in same}, trace.python)


def merge_traces(new: Trace, old: Trace | None) -> Trace:
    """Both traces together: a module that is imported only sometimes must not change a layer each time."""
    if old is None:
        return new
    names = sorted({*new.packages, *old.packages})
    packages = {name: _both(new.packages.get(name, {}), old.packages.get(name, {})) for name in names}
    return Trace(packages, _both(new.python, old.python))


def _both(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    folders = sorted({*one, *other})
    return {name: " ".join(sorted({*one.get(name, "").split(), *other.get(name, "").split()})) for name in folders}


def write_trace(repo: Path, trace: Trace) -> None:
    """Store the trace in mlship.lock."""
    replace(read_record(repo), trace=trace).write(repo)


def _reason(content: bytes) -> str:
    try:
        return adapter(dict[str, str]).validate_json(content)["why"]
    except (ValidationError, KeyError):
        return "the trace contains invalid module names"
