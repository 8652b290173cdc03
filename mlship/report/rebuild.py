"""Reports a rebuild: the result first, then each layer, then the image as `mlship build` reports it."""

from collections.abc import Iterator

from mlship.build.rebuild import ComparedLayer, RebuildReport
from mlship.console import out, out_lines
from mlship.report.build import show_build
from mlship.units import cut

_WIDTH = 40


def show_rebuild(report: RebuildReport) -> None:
    first, *rest = _lines(report)
    out(first, style="bold green" if report.same else "bold red")
    out_lines((*rest, ""))
    show_build(report.build)


def _lines(report: RebuildReport) -> Iterator[str]:
    if report.same:
        yield f"SAME IMAGE: {report.build.tag}"
        yield f"  digest    {report.rebuilt}"
        if report.tagged is not None:
            yield f"  tagged    {_tagged(report.tagged, report.build.manifest)}"
        return
    yield f"DIFFERENT IMAGE: {report.build.tag} is not the recorded image"
    yield f"  recorded  {report.recorded}"
    yield f"  rebuilt   {report.rebuilt}"
    yield ""
    yield "Layers, from the base up"
    yield from map(_row, report.layers)
    yield ""
    yield "Likely reasons"
    yield from (f"  - {reason}" for reason in report.reasons)


def _tagged(recorded: str, rebuilt: str | None) -> str:
    """A GPU image has a label for the device it was proven on; with another proof, its digest differs."""
    if recorded == rebuilt:
        return f"{recorded}, with the same proof label"
    return f"{rebuilt or 'unknown'}; recorded {recorded}, with another proof label"


def _row(layer: ComparedLayer) -> str:
    start = f"  {'=' if layer.same else '≠'} {cut(layer.what, _WIDTH):<{_WIDTH}}"
    if layer.same:
        return f"{start} {_short(layer.recorded)}"
    return f"{start} {_short(layer.recorded)} recorded, {_short(layer.rebuilt)} rebuilt"


def _short(digest: str | None) -> str:
    return digest[:19] if digest else "none"
