"""`mlship rebuild`."""

from pathlib import Path
from typing import Annotated

import typer

from mlship.cli.options import HERE, Builder, ImageName, Json, NoSmoke, Smoke, Verbose, only_one, show_result
from mlship.console import warn
from mlship.errors import CheckFailed

Repository = Annotated[
    Path,
    typer.Option(
        "--directory",
        "-C",
        help="Git repository with the commit, and with the weights that git does not have.",
        show_default="this folder",
        exists=True,
        file_okay=False,
    ),
]


def rebuild_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File written by `mlship build --reproducible --metadata`.")
    ],
    directory: Repository = HERE,
    tag: ImageName = None,
    smoke: Smoke = None,
    no_smoke: NoSmoke = False,
    builder: Builder = None,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Rebuild a recorded image and compare the digests.

    Checks out the commit into a temporary folder; your files stay untouched. Weights outside git come from the current
    repository if their sha256 matches the recorded one.
    Exit code 0: same digest, and the smoke test passed (or --no-smoke); 1: different digest, or the test failed.
    """
    from mlship.build.preflight import check_tag
    from mlship.build.rebuild import RebuildOptions, check_rebuildable, version_warning
    from mlship.build.rebuild import rebuild as run
    from mlship.build.record import read_metadata
    from mlship.cli.reporter import ConsoleReporter
    from mlship.cli.smoke import conclude
    from mlship.engine import connect
    from mlship.report.rebuild import show_rebuild

    only_one({f"--smoke {smoke}": smoke, "--no-smoke": no_smoke})
    name = check_tag(tag) if tag is not None else None
    metadata = read_metadata(file)
    check_rebuildable(metadata, str(file))
    if warning := version_warning(metadata):
        warn(warning)
    options = RebuildOptions(name, smoke, proves=not no_smoke, builder=builder)
    reporter = ConsoleReporter(verbose=verbose)
    report = run(metadata, directory, connect(), options, reporter, warn)
    show_result(report, show_rebuild, json=json)
    if report.build.smoke is not None:
        conclude(report.build.smoke)
    if not report.same:
        raise CheckFailed(
            f"{report.build.tag} is not the recorded image {report.recorded}", hint=f"likely cause: {report.reasons[0]}"
        )
