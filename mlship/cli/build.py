"""`mlship build`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mlship.cli.options import HERE, Capabilities, Directory, Driver, Json, On, Platform

if TYPE_CHECKING:
    from mlship.pipeline import BuildReport


class Packed(StrEnum):
    """How layers are compressed."""

    ZSTD = "zstd"
    GZIP = "gzip"


Caches = Annotated[
    list[str] | None,
    typer.Option(metavar="REF", help="Registry reference, or BuildKit's own type=...,key=value. Repeatable."),
]


def build(  # noqa: PLR0913, PLR0917  one argument an option is how Typer works
    directory: Directory = HERE,
    tag: Annotated[str | None, typer.Option("--tag", "-t", help="Name of the image, instead of name:version.")] = None,
    push: Annotated[bool, typer.Option("--push", help="Push the image once the smoke test has passed.")] = False,
    platform: Platform = None,
    driver: Driver = None,
    compute_capability: Capabilities = None,
    smoke: Annotated[
        On | None, typer.Option("--smoke", help="Test on the CPU or the GPU. Default: what the image is made for.")
    ] = None,
    no_smoke: Annotated[bool, typer.Option("--no-smoke", help="Test nothing; then nothing is proven.")] = False,
    builder: Annotated[str | None, typer.Option("--builder", help="A buildx builder other than the default.")] = None,
    cache_from: Caches = None,
    cache_to: Caches = None,
    compression: Annotated[
        Packed,
        typer.Option(
            "--compression",
            help="Of the layers: gzip where a registry or a host's runtime knows no zstd. "
            "Docker's older image store passes this over and pushes gzip.",
        ),
    ] = Packed.ZSTD,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what each build step prints.")] = False,
    json: Json = False,
) -> None:
    """Build the image from the lock, then prove in it that the model loads, warms and serves.

    A model on GPUs is matched to its hosts first, and proven on a GPU; where the build machine has none, --smoke cpu
    proves what can be proven, and the image's label says so.
    """
    from mlship import pipeline
    from mlship.cli.options import fleet_finder
    from mlship.cli.reporter import ConsoleReporter
    from mlship.console import warn
    from mlship.engine.docker import DockerEngine
    from mlship.errors import UsageError
    from mlship.image.reference import check_reference

    reporter = ConsoleReporter(verbose=verbose)
    reporter.step("checking mlship.yaml and the lock")
    if smoke and no_smoke:
        raise UsageError(f"--smoke {smoke.value} and --no-smoke exclude each other", hint="drop one of the two")
    name = check_reference(tag) if tag is not None else None
    prepared = pipeline.prepare(directory, platform, fleet_finder(directory, driver, compute_capability))
    for warning in prepared.warnings:
        warn(warning)
    options = pipeline.BuildOptions(
        tag=name,
        push=push,
        smoke=None if no_smoke else pipeline.smoke_device(prepared, smoke.value if smoke else None),
        builder=builder,
        cache_from=tuple(cache_from or ()),
        cache_to=tuple(cache_to or ()),
        compression=compression.value,
    )
    _show(pipeline.build(prepared, DockerEngine(), options, reporter), json=json)


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
