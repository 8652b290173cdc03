"""`mlship scan`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import Json, show_result
from mlship.console import say
from mlship.errors import UsageError
from mlship.units import count_of

if TYPE_CHECKING:
    from mlship.scan.report import ScanReport

_SILENT_S = 5.0  # before it says how far it is


def scan_command(
    target: Annotated[str, typer.Argument(metavar="PATH_OR_IMAGE", help="File, folder, or name of a local image.")],
    json: Json = False,
) -> None:
    """Find files that run code when they are loaded.

    Lists what pickles import and checks the structure of model files. Nothing is loaded or run.

    Exit code 1: a file runs code, or what it is is unknown.
    """
    from mlship.report.scan import show_scan
    from mlship.scan.files import scan_path

    path = Path(target)
    said = time.monotonic()

    def watch(done: int, number: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SILENT_S:
            said = time.monotonic()
            say(f"• {target}: {done} of {count_of(number, 'file')} scanned")

    report = scan_path(path, watch) if path.exists() else _scan_image(target)
    show_result(report, show_scan, json=json)
    if not report.is_clean:
        raise typer.Exit(1)


def _scan_image(image: str) -> "ScanReport":
    from mlship.cli.size import reading_progress
    from mlship.engine import connect
    from mlship.scan.files import is_model_name
    from mlship.scan.image import scan_image
    from mlship.smoke.run import find_image

    if image.startswith((".", "/", "~")) or is_model_name(image):
        raise UsageError(f"no file or folder `{image}`", hint="check the path, or pass the name of a local image")
    engine = connect()
    info = find_image(engine, image)
    with reading_progress(image, info.size) as watch:
        return scan_image(engine.save(image), image, watch)
