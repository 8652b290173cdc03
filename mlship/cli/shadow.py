"""`mlship shadow report` and `mlship shadow promote`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import Json, show_result
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.shadow.figures import Figure

shadow = typer.Typer(no_args_is_help=True, help="Judge a candidate by the records of a shadow.")
Records = Annotated[
    Path | None, typer.Argument(metavar="JSONL", help="File that SHADOW_FILE names; - is stdin.", show_default=False)
]
Prometheus = Annotated[str, typer.Option(metavar="URL", help="Ask this Prometheus server instead.", show_default=False)]
_MOST_HOURS = 24 * 366
_LONGEST = 16 << 20  # bytes of a line: a longer one is no record, and is not kept in memory
Hours = Annotated[
    float,
    typer.Option(metavar="N", help="Hours to look back: at most since the candidate started.", show_default=False),
]
Match = Annotated[
    str, typer.Option(metavar="LABELS", help="Labels of the servers, such as 'namespace=\"wine\"'.", show_default=False)
]


@shadow.command("report")
def report_shadow(
    records: Records = None, prometheus: Prometheus = "", hours: Hours = 0, match: Match = "", json: Json = False
) -> None:
    """Print agreement, differences, drift, times and memory.

    Exit code 1: the records give no figure.
    """
    from mlship.report.shadow import figures_document, nothing_known, show_figures

    found = _figures(records, prometheus, hours, match)
    show_result(figures_document(found), lambda _: show_figures(found), json=json)
    if nothing_known(found):
        raise typer.Exit(1)


@shadow.command("promote")
def promote_shadow(
    condition: Annotated[
        str,
        typer.Option("--if", metavar="CONDITION", help='Such as "agreement >= 0.995 and psi < 0.1 and hours >= 24".'),
    ],
    records: Records = None,
    prometheus: Prometheus = "",
    hours: Hours = 0,
    match: Match = "",
    json: Json = False,
) -> None:
    """Exit with 0 only if the condition holds; print the evidence.

    An unknown figure is never a pass. `mlship shadow report` lists the figures.
    """
    from mlship.report.shadow import promotion_document, show_promotion, verdict_of
    from mlship.shadow.condition import parse_condition
    from mlship.shadow.figures import MEANINGS

    parsed = parse_condition(condition, [*MEANINGS])
    found = _figures(records, prometheus, hours, match)
    show_result(promotion_document(parsed, found), lambda _: show_promotion(parsed, found), json=json)
    if verdict_of(parsed, found) is not True:
        raise typer.Exit(1)


def _figures(records: Path | None, prometheus: str, hours: float, match: str) -> Mapping[str, "Figure"]:
    if (records is None) == (not prometheus):
        raise UsageError(
            "name either a file of records or a Prometheus server",
            hint="pass the file that SHADOW_FILE names, or `--prometheus http://prometheus:9090 --hours 25`",
        )
    if records is not None:
        if hours or match:
            raise UsageError("`--hours` and `--match` are for `--prometheus`", hint="remove them")
        return _of_file(records)
    from mlship.shadow.prometheus import scraped
    from mlship.shadow.scraped import METRICS, scraped_figures

    if not 0 < hours <= _MOST_HOURS:
        raise UsageError(
            f"`--prometheus` needs the hours to look back, at most {_MOST_HOURS}",
            hint="add `--hours N`, for a time with one candidate",
        )
    return scraped_figures(scraped(prometheus, METRICS, match, hours))


def _of_file(records: Path) -> Mapping[str, "Figure"]:
    from mlship.files import check_readable
    from mlship.shadow.figures import shadow_figures
    from mlship.shadow.records import read_records

    if str(records) != "-":
        check_readable(records, "copy the file that SHADOW_FILE names from the server, or pass - and pipe it in")
    with sys.stdin.buffer if str(records) == "-" else records.open("rb") as file:
        return shadow_figures(read_records(iter(lambda: file.readline(_LONGEST), b"")))
