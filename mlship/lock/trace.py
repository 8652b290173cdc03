"""The trace of imports that the build made, as mlship.lock keeps it. Reads the served code."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from mlship.errors import UsageError
from mlship.files import sha256_file, sha256_text
from mlship.lock.pins import Pin
from mlship.lock.record import Trace
from mlship.project.config import Config
from mlship.project.paths import shipped_paths
from mlship.versioned import adapter, parse_line

_DATA = 1_000_000  # bytes
HINT = "fix that and run `mlship lock` again; until then the build compiles bytecode for every module"


class UntracedError(UsageError):
    """The server did not become ready, or did not answer the sample."""


def read_trace(content: bytes) -> Trace:
    """Read a trace and sort it, so that the same modules give the same bytes.

    Raises:
        UntracedError: the server could not be traced.
    """
    try:
        found = adapter(Trace).validate_json(content)
    except ValidationError:
        raise UntracedError(f"the server could not be traced: {_reason(content)}", hint=HINT) from None
    packages = {name: dict(sorted(folders.items())) for name, folders in sorted(found.packages.items())}
    return Trace(packages, dict(sorted(found.python.items())))


def served_digest(repo: Path, config: Config) -> str:
    """Hash of what decides the server's imports, apart from the packages: its code, its settings and the sample."""
    settings = {
        "command": config.serve.command,
        "routes": (config.serve.ready, config.serve.predict, config.serve.live),
        "request": config.smoke.request.model_dump(mode="json") if config.smoke.request else config.model.sample,
        "env": config.env,
    }
    folders = (path for source in config.source for path in shipped_paths(repo / source))
    named = (source for source in config.source if not (repo / source).is_dir())
    paths = {*(path.relative_to(repo).as_posix() for path in folders), *named, *config.test_files}
    files = {path: _content(repo / path) for path in sorted(paths)}
    return sha256_text(json.dumps([settings, files], sort_keys=True))


def _content(path: Path) -> str | int | None:
    """A file's hash; its size if it is as large as data, which imports nothing; None if it cannot be read."""
    try:
        size = path.stat().st_size
        return sha256_file(path) if size < _DATA else size
    except OSError:
        return None


def carry_over(trace: Trace | None, before: Iterable[Pin], after: Iterable[Pin]) -> tuple[Trace | None, Trace | None]:
    """The part of a trace that is still valid: Python, and packages that did not move; and the trace if that is all."""
    if trace is None:
        return None, None
    same = {pin.name for pin in {*before} & {*after}}
    part = replace(trace, packages={name: folders for name, folders in trace.packages.items() if name in same})
    return part, part if part == trace else None


def merge_traces(new: Trace, old: Trace | None) -> Trace:
    """Both traces together: a module that is imported only sometimes must not change a layer each time."""
    if old is None:
        return new
    names = sorted({*new.packages, *old.packages})
    packages = {name: _both(new.packages.get(name, {}), old.packages.get(name, {})) for name in names}
    return replace(new, packages=packages, python=_both(new.python, old.python))


def _both(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    folders = sorted({*one, *other})
    return {name: " ".join(sorted({*one.get(name, "").split(), *other.get(name, "").split()})) for name in folders}


def _reason(content: bytes) -> str:
    found = parse_line(content, dict[str, str]) or {}
    return found.get("why", "the trace contains invalid module names")
