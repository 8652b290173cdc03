"""Reports registered models."""

import json
from collections.abc import Iterable, Iterator

from pydantic import JsonValue

from mlship.console import out
from mlship.models.registered import ModelChange, RegisteredModel
from mlship.report.story import UNKNOWN
from mlship.units import size


def model_text(model: RegisteredModel) -> str:
    """A registered model for people."""
    return "\n".join([str(model.version), *(f"  {name:<14}{value}" for name, value in _facts(model))])


def _facts(model: RegisteredModel) -> Iterator[tuple[str, str]]:
    git = model.git
    states = {True: ", with uncommitted changes", False: "", None: "; uncommitted changes are unknown"}
    yield "commit", f"{git.commit}{states[git.dirty]}" if git else UNKNOWN
    yield "trained", model.created.isoformat() if model.created else UNKNOWN
    yield "python", f"{model.python or UNKNOWN} on {model.platform or UNKNOWN}"
    yield "cuda", model.cuda or "none recorded"
    yield "packages", f"{len(model.packages)}; `--json` lists them"
    for name, value in sorted(model.metrics.items()):
        yield "metric", f"{name} = {_short(value)}"
    for parent in model.registration.parents:
        yield "parent", parent.version
    for path, file in model.files.items():
        yield "file", f"{path} ({size(file.size)}) sha256:{file.sha256}"


def show_changes(changes: Iterable[ModelChange]) -> None:
    """Print differences, one a line."""
    rows = [f"{one.kind:<10}{one.name}: {_short(one.before)} → {_short(one.after)}" for one in changes]
    out("\n".join(rows) or "no difference")


def _short(value: JsonValue) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
