"""Reports what a shadow saw, and whether a candidate may be promoted."""

from collections.abc import Iterator, Mapping

from mlship.console import out, out_lines
from mlship.shadow.condition import FigureCondition
from mlship.shadow.figures import MEANINGS, Figure

_SIGNS = {True: "✓", False: "✗", None: "?"}
_VERDICTS = {
    True: "PROMOTE: the condition holds",
    False: "DO NOT PROMOTE: the condition does not hold",
    None: "DO NOT PROMOTE: the records do not say whether the condition holds",
}


def show_figures(found: Mapping[str, Figure]) -> None:
    """Print every figure with what it is based on, or the one reason why none is known."""
    reasons = {figure.basis for figure in found.values() if figure.value is None}
    if nothing_known(found) and len(reasons) == 1:
        out(f"every figure is unknown: {reasons.pop()}")
        return
    for name, figure in found.items():
        out(f"{name:13} {_number(figure):>10}  {MEANINGS[name].text}: {figure.basis}")


def nothing_known(found: Mapping[str, Figure]) -> bool:
    """Whether the records give no figure at all."""
    return all(figure.value is None for figure in found.values())


def show_promotion(condition: FigureCondition, found: Mapping[str, Figure]) -> None:
    """Print the verdict, then every comparison with its evidence."""
    verdict = verdict_of(condition, found)
    out(_VERDICTS[verdict], style="bold green" if verdict else "bold red")
    out_lines(_evidence(condition, found))


def verdict_of(condition: FigureCondition, found: Mapping[str, Figure]) -> bool | None:
    """Whether the condition holds; None if that is unknown."""
    return condition.holds({name: figure.value for name, figure in found.items()})


def _evidence(condition: FigureCondition, found: Mapping[str, Figure]) -> Iterator[str]:
    for part in condition.comparisons:
        yield f"  {_SIGNS[verdict_of(part, found)]} {part.text}"
        for name in part.figures:
            yield f"      {name} {_number(found[name])}: {found[name].basis}"


def figures_document(found: Mapping[str, Figure]) -> dict[str, object]:
    """The figures; null is unknown."""
    return {"schema": 1, "figures": {**found}}


def promotion_document(condition: FigureCondition, found: Mapping[str, Figure]) -> dict[str, object]:
    """The verdict, the comparisons and all figures; null is unknown."""
    parts = [{"comparison": part.text, "holds": verdict_of(part, found)} for part in condition.comparisons]
    verdict = verdict_of(condition, found)
    return {
        "schema": 1,
        "condition": condition.text,
        "holds": verdict,
        "promote": verdict is True,
        "comparisons": parts,
        "figures": {**found},
    }


def _number(figure: Figure) -> str:
    return "unknown" if figure.value is None else f"{figure.value:.6g}"
