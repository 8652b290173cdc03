"""`mlship size`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import Html, Json, save_page, show_result
from mlship.console import say
from mlship.errors import UsageError

if TYPE_CHECKING:
    from mlship.engine.base import Engine
    from mlship.size.report import SizeReport

_LARGEST_REPORT = 64 << 20  # bytes; a large image has a report of about 100 kB
_QUIET = 100_000_000  # minimum bytes between two progress lines


def size_command(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Name or ID of a local image.")],
    against: Annotated[
        str | None, typer.Option(metavar="IMAGE_OR_JSON", help="Compare with an image or saved JSON report.")
    ] = None,
    html: Html = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="List small items too.")] = False,
    json: Json = False,
) -> None:
    """Show where an image's bytes are.

    By purpose, Python package and layer, with what may not be needed.

    Works for any local image. The image does not run; mlship reads the engine's copy once.
    """
    from mlship.engine import connect
    from mlship.files import check_new
    from mlship.report.size.page import size_page
    from mlship.report.size.text import show_size
    from mlship.size.compare import compare

    if html is not None:
        check_new(html)
    engine = connect()
    other = _other(engine, against) if against is not None else None
    report = _measured(engine, image)
    if other is not None:
        report = replace(report, against=compare(report, other))
    show_result(report, lambda one: show_size(one, verbose=verbose), json=json)
    save_page(html, lambda: size_page(report))


def _other(engine: "Engine", against: str) -> "SizeReport":
    """Measure the image to compare with, or read its report if `against` is a file or ends in .json."""
    from mlship.size.report import SizeReport

    path = Path(against)
    if not path.is_file():
        if against.endswith(".json"):
            raise UsageError(f"no file `{against}`", hint=f"run `mlship size IMAGE --json > {against}`")
        return _measured(engine, against)
    with path.open("rb") as file:
        data = file.read(_LARGEST_REPORT + 1)
    if len(data) > _LARGEST_REPORT:
        raise UsageError(f"`{against}` is too large to be a report", hint="pass a file from `mlship size --json`")
    return SizeReport.from_json(data, against)


def _measured(engine: "Engine", image: str) -> "SizeReport":
    from mlship.size.account import account
    from mlship.size.layout import read_layout
    from mlship.smoke.run import find_image

    info = find_image(engine, image)
    with reading_progress(image, info.size) as watch:
        saved = read_layout(engine.save(image), image, info.platform, watch)
    return account(saved, image, info.id)


@contextmanager
def reading_progress(image: str, expected: int) -> Iterator[Callable[[int], None]]:
    """Report progress on stderr: a bar on a terminal, occasional lines elsewhere.

    Args:
        expected: approximate bytes; engines measure image size in different ways.
    """
    from mlship.cli.reporter import transfer

    said = 0

    def line(count: int, total: int | None) -> None:
        nonlocal said
        if count - said >= max(_QUIET, expected // 10):
            said = count
            say(f"• {image}: read {count / 1e6:.0f} of about {(total or count) / 1e6:.0f} MB")

    with transfer(f"reading {image}", line) as progress:
        yield lambda count: progress(count, max(count, expected))
