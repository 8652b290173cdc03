"""`mlship build`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import (
    HERE,
    Builder,
    Capabilities,
    Directory,
    Driver,
    Json,
    NoSmoke,
    Platform,
    Smoke,
    Tag,
    Verbose,
)

if TYPE_CHECKING:
    from mlship.build.prepare import Prepared
    from mlship.build.run import BuildOptions, BuildReport
    from mlship.engine.base import Engine


class Packed(StrEnum):
    """How layers are compressed."""

    ZSTD = "zstd"
    GZIP = "gzip"


Caches = Annotated[
    list[str] | None,
    typer.Option(metavar="REF", help="Registry reference, or BuildKit's own type=...,key=value. Repeatable."),
]


Compressed = Annotated[
    Packed,
    typer.Option(
        "--compression",
        help="Of the layers: gzip where a registry or a host's runtime knows no zstd. "
        "Docker's older image store passes this over and pushes gzip.",
    ),
]
Reproducible = Annotated[
    bool,
    typer.Option(
        "--reproducible",
        help="The same digest for the same commit, lock, base and weights on any machine. "
        "Refuses what is in no commit; needs room for the image in the temporary folder.",
    ),
]
MetadataFile = Annotated[
    Path | None,
    typer.Option(
        "--metadata",
        metavar="FILE",
        help="Write what was built, from what and with what digest, as JSON. `mlship rebuild FILE` builds it again.",
    ),
]


def build(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    directory: Directory = HERE,
    tag: Tag = None,
    push: Annotated[bool, typer.Option("--push", help="Push the image once the smoke test has passed.")] = False,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    smoke: Smoke = None,
    no_smoke: NoSmoke = False,
    reproducible: Reproducible = False,
    metadata: MetadataFile = None,
    builder: Builder = None,
    cache_from: Caches = None,
    cache_to: Caches = None,
    compression: Compressed = Packed.ZSTD,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Build the image from the lock, then prove in it that the model loads, warms and serves.

    A model on GPUs is matched to its hosts first, and proven on a GPU; where the build machine has none, --smoke cpu
    proves what can be proven, and the image's label says so.
    """
    from mlship.build import preflight, run
    from mlship.build.prepare import prepare
    from mlship.cli.options import check_smoke, fleet_finder
    from mlship.cli.reporter import ConsoleReporter
    from mlship.engine import connect

    reporter = ConsoleReporter(verbose=verbose)
    reporter.step("checking mlship.yaml and the lock")
    check_smoke(smoke, no_smoke=no_smoke)
    name = preflight.check_tag(tag) if tag is not None else None
    prepared = prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    options = run.BuildOptions(
        tag=name,
        push=push,
        smoke=None if no_smoke else preflight.smoke_device(prepared, smoke.value if smoke else None),
        builder=builder,
        cache_from=tuple(cache_from or ()),
        cache_to=tuple(cache_to or ()),
        compression=compression.value,
        reproducible=reproducible,
    )
    _check(prepared, options, metadata)
    engine = connect()
    report = run.build(prepared, engine, options, reporter)
    if metadata is not None:
        _note(metadata, prepared, report, options, engine)
    _show(report, json=json)


def _check(prepared: "Prepared", options: "BuildOptions", metadata: Path | None) -> None:
    """What can be refused or warned of before the build."""
    from mlship.console import warn

    warnings = prepared.warnings
    if options.reproducible or metadata is not None:
        from mlship.build.preflight import check_metadata_path
        from mlship.build.reproduce import check_reproducible

        if metadata is not None:
            check_metadata_path(metadata)
        if options.reproducible:
            warnings = (*warnings, *check_reproducible(prepared))
    for warning in warnings:
        warn(warning)


def _note(file: Path, prepared: "Prepared", report: "BuildReport", options: "BuildOptions", engine: "Engine") -> None:
    """Only of an image that did not fail its test."""
    from mlship.build.reproduce import describe
    from mlship.console import say
    from mlship.files import write_atomic

    if report.smoke is None or report.smoke.passed:
        write_atomic(file, describe(prepared, report, options, engine.info()).to_json())
        say(f"wrote {file}")


def _show(report: "BuildReport", *, json: bool) -> None:
    from mlship.cli.smoke import conclude
    from mlship.console import emit
    from mlship.report.build import show_build
    from mlship.report.json import to_json

    if json:
        emit(to_json(report))
    else:
        show_build(report)
    if report.smoke is not None:
        conclude(report.smoke)
