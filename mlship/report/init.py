"""Reports of `mlship init`: text, JSON and diff."""

import difflib
from collections.abc import Sequence
from itertools import groupby

from mlship.console import say
from mlship.init.found import Detection, GpuUse
from mlship.init.scaffold import NewFile, Scaffold
from mlship.versioned import to_json

_LINE = 100


def show_found(found: Detection) -> None:
    say(f"Found in {found.name}", style="bold")
    _row("framework", found.framework.value, _fitting(found.evidence) or found.framework.why)
    _row("python", found.python.value, found.python.why)
    _row("weights", _fitting(found.weights.named, ", ") or None, found.weights.why)
    _row("loader", found.loader.value, found.loader.why)
    server = found.server
    no_server = f"another one beside {found.beside}" if found.beside else "no server that `init` can start"
    _row("server", " ".join(server.command) if server else None, server.why if server else no_server)
    _row("sample", found.sample.value, found.sample.why)
    _row("golden", found.golden.value, found.golden.why)
    if found.training:
        _row("training", found.training, "the record of the training")
    _gpus(found.gpus)
    for note in found.notes:
        say(f"  note: {note}", style="yellow")
    say()


def show_written(planned: Scaffold, *, dry_run: bool) -> None:
    """Print the files written and kept, the manual steps, and the next command."""
    for why, group in groupby(planned.files, key=lambda file: file.why):
        first, *more = (file.path for file in group)
        what = f"{first.rpartition('/')[0]}/: {why}, {len(more) + 1} files" if more else f"{first}: {why}"
        say(f"  {'would write' if dry_run else 'wrote'}  {what}", style="green")
    if planned.completed:
        verb = "would complete" if dry_run else "completed"
        say(f"  {verb}  {planned.completed.path}: {planned.completed.why.removeprefix('completed: ')}", style="green")
    for kept in planned.kept:
        say(f"  kept   {kept.path}: {kept.why}")
    for note in planned.notes:
        say(f"  note: {note}", style="yellow")
    if planned.todo:
        say()
        say("To do", style="bold")
        for number, step in enumerate(planned.todo, 1):
            say(f"  {number}. {step}")
    following = "`mlship init`" if dry_run else "`mlship lock`"
    say()
    say(f"Next: {'complete the steps above, then run ' if planned.todo else ''}{following}")


def diff(new: Sequence[NewFile]) -> str:
    """The new files as a unified diff for `git apply`."""
    lines = [
        line
        for file in new
        for line in difflib.unified_diff([], file.text.splitlines(), "/dev/null", f"b/{file.path}", lineterm="")
    ]
    return "".join(f"{line}\n" for line in lines)


def as_json(found: Detection, planned: Scaffold, written: Sequence[str]) -> str:
    """The whole report as JSON; null for values not found."""
    server = found.server
    return to_json(
        {
            "found": {
                "name": found.name,
                "framework": found.framework.value,
                "evidence": found.evidence,
                "python": found.python.value,
                "models": [{"path": f.path, "kind": f.kind, "bytes": f.size} for f in found.weights.models],
                "refused": [{"path": f.path, "kind": f.kind} for f in found.weights.refused],
                "absent": [file.path for file in found.weights.absent],
                "weights": found.weights.named,
                "load": found.loader.value,
                "server": {"kind": server.kind, "command": server.command, "why": server.why} if server else None,
                "port": found.port,
                "sample": found.sample.value,
                "golden": found.golden.value,
                "training": found.training,
                "requirements": [declared.origin for declared in found.declared],
                "source": found.source,
                "gpu": {"wanted": found.gpus.wanted, "evidence": found.gpus.evidence, "hosts": found.gpus.hosts},
                "notes": (*found.notes, *planned.notes),
            },
            "written": written,
            "kept": [kept.path for kept in planned.kept],
            "completed": planned.completed.path if planned.completed else None,
            "todo": planned.todo,
        }
    )


def _gpus(gpus: GpuUse) -> None:
    """Print GPU use only if the repository mentions GPUs."""
    if gpus.wanted:
        _row("gpu", "NVIDIA", _fitting(gpus.evidence))
    elif gpus.note:
        _row("gpu", None, gpus.note)


def _fitting(items: Sequence[str], separator: str = "; ") -> str:
    """The first items that fit one line, and how many more there are."""
    kept = list(items[:1])
    for item in items[1:]:
        if len(separator.join([*kept, item])) > _LINE:
            break
        kept.append(item)
    more = len(items) - len(kept)
    return separator.join(kept) + (f"{separator}{more} more" if more else "")


def _row(what: str, value: str | None, why: str) -> None:
    say(f"  {what:<10} {value or 'none'}")
    if why != value:
        say(f"  {'':<10}   {why}", style="dim")
