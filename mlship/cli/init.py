"""`mlship init`."""

import sys
from typing import Annotated

import typer

from mlship.cli.options import HERE, Directory, Json
from mlship.console import emit


def init_command(  # noqa: PLR0913, PLR0917 -- each is an option
    directory: Directory = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing; print the diff on stdout.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not prompt; use the default choices.")] = False,
    serving: Annotated[
        bool, typer.Option("--serving", help="Write a server beside the one that the repository has.")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Let the server send copies of requests to a candidate.")
    ] = False,
    workers: Annotated[bool, typer.Option("--workers", help="Let the server run in several processes.")] = False,
    json: Json = False,
) -> None:
    """Detect what a model needs and write mlship.yaml.

    Also writes other missing files. Run it again after the listed steps: it completes the lines of mlship.yaml that it
    left open, and changes no other existing file.
    """
    from mlship.files import write_atomic
    from mlship.init.detect import detect
    from mlship.init.scaffold import keep_existing, scaffold, write_scaffold
    from mlship.report.init import as_json, diff, show_found, show_written

    found = detect(directory, serving=serving)
    if found.weights.choices and not yes and _is_terminal() and not (directory / "mlship.yaml").exists():
        found = detect(directory, _ask(found.weights.choices, found.weights.named[0]), serving=serving)
    parts = frozenset(name for name, wanted in (("shadow", shadow), ("workers", workers)) if wanted)
    planned = keep_existing(scaffold(found, parts), directory)
    written = () if dry_run else write_scaffold(directory, planned.files)
    if planned.completed and not dry_run:
        write_atomic(directory / planned.completed.path, planned.completed.text)
    show_found(found)
    show_written(planned, dry_run=dry_run)
    if json:
        emit(as_json(found, planned, written))
    elif dry_run:
        emit(diff(planned.files))


def _ask(choices: tuple[str, ...], default: str) -> str:
    """Prompt for the model to serve."""
    for number, path in enumerate(choices, 1):
        typer.echo(f"  {number}  {path}", err=True)
    answer: int = typer.prompt("Which model should be served?", type=int, default=choices.index(default) + 1, err=True)
    return choices[answer - 1] if 1 <= answer <= len(choices) else default


def _is_terminal() -> bool:
    return sys.stdin.isatty()
