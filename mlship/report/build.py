"""Reports a build: the proof first, then the image."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlship.build.report import BuildReport
from mlship.console import out
from mlship.units import duration, size

if TYPE_CHECKING:
    from mlship.build.platforms import IndexReport


def show_build(report: BuildReport) -> None:
    from mlship.report.smoke import show_smoke

    if report.smoke is not None:
        show_smoke(report.smoke)
    else:
        out(f"NOT PROVEN: {report.tag} was built but not tested", style="bold yellow")
    if not report.proven and report.tags == report.requested:
        out("Pushed unproven, as requested (--push-unproven)", style="bold yellow")
    out()
    out("Image")
    for name, value in _facts(report):
        out(f"  {name:<18}{value}")


def show_index(report: "IndexReport") -> None:
    """Print the report of each image, then the index."""
    for image in report.images:
        show_build(image)
        out()
    out("Index" if report.digests else "No index: an image failed its smoke test")
    for name, digest in report.digests.items():
        out(f"  {name:<18}{digest}")
    if report.unproven and report.digests:
        out(f"  {'not proven':<18}{', '.join(report.unproven)}", style="bold yellow")


def _facts(report: BuildReport) -> Iterator[tuple[str, str]]:
    for tag in report.tags:
        yield "name", tag
    if report.tags != report.requested:
        yield "not tagged", f"{', '.join(report.requested)}: only a proven image gets this name"
    yield "id", report.image_id
    yield "platform", report.platform
    yield "base", report.base
    yield "size", f"{size(report.size)} as the engine counts it, including the base image"
    if report.largest is not None:
        largest = report.largest
        yield (
            "largest layer",
            f"{largest.what}: {size(largest.bytes)} unpacked, {largest.share:.0%} of the image beyond the base",
        )
    yield "built in", duration(report.build_s)
    if report.smoke_s is not None:
        yield "tested in", duration(report.smoke_s)
    if report.digest is not None:
        yield "pushed as", report.digest
    if report.attestation is not None:
        yield "proof", f"{report.attestation}; `mlship verify {report.tag}` reads it"
