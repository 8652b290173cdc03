"""`mlship build`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlship.cli.fetch import fetch_missing
from mlship.cli.options import (
    HERE,
    Builder,
    Capabilities,
    Directory,
    Driver,
    Json,
    NoSmoke,
    Platforms,
    Progress,
    Smoke,
    Tags,
    Verbose,
    fleet_finder,
    only_one,
    platforms_of,
    show_result,
)
from mlship.console import say, warn

if TYPE_CHECKING:
    from concurrent.futures import Future

    from mlship.build.prepare import Prepared
    from mlship.build.report import BuildReport
    from mlship.build.run import BuildOptions
    from mlship.cli.reporter import ConsoleReporter
    from mlship.engine.base import Disk, Engine


Caches = Annotated[
    list[str] | None, typer.Option(metavar="REF", help="Build cache, as a registry reference; repeatable.")
]


Push = Annotated[bool, typer.Option("--push", help="Push the image if the smoke test passes.")]
PushUnproven = Annotated[
    bool, typer.Option("--push-unproven", help="Push the image in any case; its label says if nothing proves it.")
]
Compressed = Annotated[Literal["zstd", "gzip"], typer.Option(help="Layer compression; gzip for old runtimes.")]
Reproducible = Annotated[
    bool, typer.Option("--reproducible", help="Build the same digest on any machine, from a commit.")
]
MetadataFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the inputs and digest for `mlship rebuild`.")
]


Strict = Annotated[
    bool, typer.Option("--strict", help="Fail if the lock is not known to run on every host (exit code 4).")
]


def build_command(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    directory: Directory = HERE,
    tag: Tags = None,
    push: Push = False,
    push_unproven: PushUnproven = False,
    platform: Platforms = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    strict: Strict = False,
    smoke: Smoke = None,
    no_smoke: NoSmoke = False,
    reproducible: Reproducible = False,
    metadata: MetadataFile = None,
    builder: Builder = None,
    cache_from: Caches = None,
    cache_to: Caches = None,
    compression: Compressed = "zstd",
    verbose: Verbose = False,
    progress: Progress = "auto",
    json: Json = False,
) -> None:
    """Build the image, then prove that it works.

    For GPUs, CUDA is matched to the hosts first, and the image is proven on a GPU; --smoke cpu proves what a CPU can,
    and the image's label says so. A cache REF can also be BuildKit's type=...,key=value. Several platforms become one
    image index, which needs --push; each has a lock of its own.
    """
    asked = _engine_and_disk()
    from mlship.build import preflight, run
    from mlship.build.prepare import prepare
    from mlship.cli.reporter import ConsoleReporter

    reporter = ConsoleReporter(verbose=verbose, shown=progress)
    reporter.step("checking mlship.yaml and the lock")
    only_one({f"--smoke {smoke}": smoke, "--no-smoke": no_smoke})
    preflight.check_push(push=push, unproven=push_unproven, smoke=not no_smoke)
    names = preflight.check_tags(tag or ())
    fleet = fleet_finder(directory, driver, compute_capability)
    each = tuple(prepare(directory, target, fleet, fetch=fetch_missing) for target in platforms_of(platform))
    options = run.BuildOptions(
        tags=names,
        push=push,
        push_unproven=push_unproven,
        smoke=None if no_smoke else preflight.smoke_device(each[0], smoke),
        builder=builder,
        cache_from=tuple(cache_from or ()),
        cache_to=tuple(cache_to or ()),
        compression=compression,
        reproducible=reproducible,
    )
    _build(preflight.known_to_run(each) if strict else each, options, metadata, reporter, asked, json=json)


def _build(
    each: "tuple[Prepared, ...]",
    options: "BuildOptions",
    metadata: Path | None,
    reporter: "ConsoleReporter",
    asked: "tuple[Engine, Future[Disk | None]]",
    *,
    json: bool,
) -> None:
    from mlship.build import preflight, run

    if metadata is not None:
        preflight.check_metadata(metadata, images=len(each))
    engine, disk = asked
    for prepared in each:
        _warn(prepared, options)
    if len(each) == 1:
        report = run.build(each[0], engine, options, reporter, disk)
        from mlship.report.build import show_build  # imported here, so that the build starts sooner

        _write_metadata(metadata, each[0], report, options, engine)
        show_result(report, show_build, json=json)
        built: tuple[BuildReport, ...] = (report,)
    else:
        from mlship.build.platforms import build_index
        from mlship.report.build import show_index

        index = build_index(each, engine, options, reporter)
        show_result(index, show_index, json=json)
        built = index.images
    for one in built:
        if one.smoke is not None:
            from mlship.cli.smoke import conclude

            conclude(one.smoke)


def _engine_and_disk() -> "tuple[Engine, Future[Disk | None]]":
    """The engine, which is asked for its disk while the build is prepared."""
    from mlship.background import in_background
    from mlship.engine import connect

    engine = connect()
    return engine, in_background(engine.disk)


def _warn(prepared: "Prepared", options: "BuildOptions") -> None:
    warnings = prepared.warnings
    if options.reproducible:
        from mlship.build.reproduce import check_reproducible

        warnings = (*warnings, *check_reproducible(prepared))
    for warning in warnings:
        warn(warning)


def _write_metadata(
    file: Path | None, prepared: "Prepared", report: "BuildReport", options: "BuildOptions", engine: "Engine"
) -> None:
    """Write the metadata, if requested, unless the image failed its smoke test."""
    if file is not None and (report.smoke is None or report.smoke.passed):
        from mlship.build.reproduce import build_metadata
        from mlship.files import write_atomic

        write_atomic(file, build_metadata(prepared, report, options, engine.info()).to_json())
        say(f"wrote {file}")
