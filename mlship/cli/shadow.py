"""`mlship shadow report` and `mlship shadow promote`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlship.shadow.figures import Figure

shadow = typer.Typer(
    rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True,
    help="Judge a candidate by the records of a shadow.",
)  # fmt: skip
Records = Annotated[
    Path,
    typer.Argument(metavar="JSONL", help="File that SHADOW_FILE names; - is stdin.", show_default=False),
]


@shadow.command("report")
def report_shadow(records: Records, json: Json = False) -> None:
    """Print agreement, differences, drift, times and memory.

    Exit code 1: the records give no figure.
    """
    from mlship.console import emit
    from mlship.report.shadow import figures_json, nothing_known, show_figures

    found = _figures(records)
    if json:
        emit(figures_json(found))
    else:
        show_figures(found)
    if nothing_known(found):
        raise typer.Exit(1)


@shadow.command("promote")
def promote_shadow(
    records: Records,
    condition: Annotated[
        str,
        typer.Option("--if", metavar="CONDITION", help='Such as "agreement >= 0.995 and psi < 0.1 and hours >= 24".'),
    ],
    json: Json = False,
) -> None:
    """Exit with 0 only if the condition holds; print the evidence.

    An unknown figure is never a pass. `mlship shadow report` lists the figures.
    """
    from mlship.console import emit
    from mlship.report.shadow import promotion_json, show_promotion, verdict_of
    from mlship.shadow.condition import parse_condition
    from mlship.shadow.figures import MEANINGS

    parsed = parse_condition(condition, [*MEANINGS])
    found = _figures(records)
    if json:
        emit(promotion_json(parsed, found))
    else:
        show_promotion(parsed, found)
    if verdict_of(parsed, found) is not True:
        raise typer.Exit(1)


def _figures(records: Path) -> "Mapping[str, Figure]":
    import sys

    from mlship.errors import UsageError
    from mlship.shadow.figures import shadow_figures
    from mlship.shadow.records import read_records

    if str(records) == "-":
        return shadow_figures(read_records(sys.stdin.buffer))
    if not records.is_file():
        raise UsageError(
            f"no file `{records}`",
            hint="copy the file that SHADOW_FILE names from the server, or pass - and pipe it in",
        )
    with records.open("rb") as lines:
        return shadow_figures(read_records(lines))
