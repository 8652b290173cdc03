"""`mlship doctor`, and `mlship doctor explain ID`."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mlship.cli.options import Json

if TYPE_CHECKING:
    from mlship.doctor.diagnose import Diagnosis
    from mlship.doctor.facts.facts import Facts

_Replay: TypeAlias = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="The facts of this file instead of this machine's.")
]
_Record: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FILE",
        help="Also write all that was seen into FILE, to send to somebody. Private data is masked; a file that is "
        "there is never overwritten.",
    ),
]
_Root: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--root",
        metavar="DIR",
        help="A folder that stands for /, such as a disk of another machine: files are read below it, no program "
        "of it or of this machine is run, and no library is called (but a simulated one on LD_LIBRARY_PATH).",
        exists=True,
        file_okay=False,
        resolve_path=True,
    ),
]
_Html: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Also write the report into FILE as a page that needs nothing else. A file that is there is never "
        "overwritten.",
    ),
]
doctor = typer.Typer(invoke_without_command=True, rich_markup_mode=None)


@doctor.callback()
def diagnose(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    ctx: typer.Context,
    replay: _Replay = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMG", help="And whether this local image will work here.")
    ] = None,
    container: Annotated[
        str | None, typer.Option("--container", metavar="NAME", help="And what this container sees.")
    ] = None,
    record: _Record = None,
    root: _Root = Path("/"),
    facts_schema: Annotated[
        bool, typer.Option("--facts-schema", help="Print the JSON schema of a facts file, and do nothing else.")
    ] = False,
    html: _Html = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every check, and each probe's time.")] = False,
    json: Json = False,
) -> None:
    """Say why containers cannot use the GPU here, and what mends it. Exit 1 where something is wrong."""
    if ctx.invoked_subcommand is not None:
        return
    if facts_schema:
        _schema()
        return
    asked = _Asked(replay, root, image, container)
    _check(asked, record, html)
    facts = _seen(asked)
    if record is not None:
        _record(facts, record)
    _conclude(facts, html, verbose=verbose, json=json)


@doctor.command()
def explain(
    diagnosis: Annotated[
        str | None, typer.Argument(metavar="ID", help="Such as nouveau-owns-gpu. Without it, all are listed.")
    ] = None,
) -> None:
    """Tell the long story of one diagnosis, with its source."""
    from difflib import get_close_matches

    from mlship.console import emit
    from mlship.doctor.rules import RULES
    from mlship.errors import UsageError
    from mlship.report.doctor.text import stories_text, story_text

    if diagnosis is None:
        emit(stories_text(RULES))
        return
    rules = {rule.id: rule for rule in RULES}
    if diagnosis not in rules:
        close = get_close_matches(diagnosis, rules, n=1)
        raise UsageError(
            f"there is no diagnosis {diagnosis}{f'; did you mean {close[0]}?' if close else ''}",
            hint="mlship doctor explain, without an ID, lists them all",
        )
    emit(story_text(rules[diagnosis]))


@dataclass(frozen=True)
class _Asked:
    """Where the facts come from."""

    replay: Path | None
    root: Path
    image: str | None
    container: str | None


def _check(asked: _Asked, *new: Path | None) -> None:
    """Before anything is looked at."""
    from mlship.errors import UsageError
    from mlship.files import check_new

    if (asked.replay, asked.image, asked.container).count(None) < 2:
        raise UsageError("--replay, --image and --container exclude each other", hint="ask for one of them at a time")
    for path in new:
        if path is not None:
            check_new(path)


def _seen(asked: _Asked) -> "Facts":
    if asked.replay is None:
        return _looked(asked)
    from mlship.doctor.facts.replay import read_facts

    return read_facts(asked.replay)


def _looked(asked: _Asked) -> "Facts":
    from threading import Thread

    # The rules take as long to import as the probes to look, and probes mostly wait for other processes.
    Thread(target=import_module, args=("mlship.doctor.diagnose",), daemon=True).start()
    from mlship.doctor.probes.asked import check
    from mlship.doctor.probes.base import Look
    from mlship.doctor.probes.run import look
    from mlship.engine import connect_read_only

    what = Look(asked.root, asked.image, asked.container)
    check(connect_read_only(), what)
    return look(what)


def _write_page(diagnosis: "Diagnosis", path: Path) -> None:
    from mlship.console import say
    from mlship.files import save_new
    from mlship.report.doctor.page import diagnosis_page

    save_new(path, diagnosis_page(diagnosis))
    say(f"wrote {path}")


def _record(facts: "Facts", path: Path) -> None:
    from mlship.console import say
    from mlship.doctor.mask import mask
    from mlship.doctor.probes.private import private_names
    from mlship.files import save_new

    save_new(path, mask(facts, private_names()).to_json())
    say(f"wrote {path}; private data is masked, but read it before you send it")


def _conclude(facts: "Facts", html: Path | None, *, verbose: bool, json: bool) -> None:
    from mlship.console import emit
    from mlship.doctor.diagnose import diagnose as conclude
    from mlship.report.doctor.text import show_diagnosis
    from mlship.report.json import to_json

    diagnosis: Diagnosis = conclude(facts)
    if json:
        emit(to_json(diagnosis))
    else:
        show_diagnosis(diagnosis, verbose=verbose)
    if html is not None:
        _write_page(diagnosis, html)
    if diagnosis.verdict == "problem":
        raise typer.Exit(1)


def _schema() -> None:
    import json

    from mlship.console import emit
    from mlship.doctor.facts.schema import json_schema

    emit(json.dumps(json_schema(), indent=2))
