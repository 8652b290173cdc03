"""A diagnosis for people: the verdict first, then cause, fix, evidence, and what was well. 80 columns."""

import textwrap
from collections.abc import Iterator

from mlship.doctor.diagnose import Cause, Diagnosis, Examined, Unexplained
from mlship.doctor.finding import Finding, Step
from mlship.doctor.rules.base import Rule

WIDTH = 80
_STYLES = {"PROBLEM": "bold red", "HEALTHY": "bold green", "NO NVIDIA GPU": "bold", "CANNOT TELL": "bold yellow"}
_SIGNS = {"found": "✗", "fine": "✓", "not looked": "–"}  # noqa: RUF001  an en dash is meant


def show_diagnosis(diagnosis: Diagnosis, *, verbose: bool) -> None:
    """Print it on stdout. Where there are colours, they only repeat what the words say."""
    from mlship.console import out

    for line in diagnosis_text(diagnosis, verbose=verbose).splitlines():
        out(line, style=next((style for start, style in _STYLES.items() if line.startswith(start)), None))


def diagnosis_text(diagnosis: Diagnosis, *, verbose: bool = False) -> str:
    """The whole report."""
    return "\n".join(_lines(diagnosis, verbose=verbose)) + "\n"


def verdict_line(diagnosis: Diagnosis) -> str:
    """One line that says it all."""
    if diagnosis.verdict == "healthy":
        return "HEALTHY: nothing that doctor knows of keeps containers from the GPU here"
    if diagnosis.verdict == "no-gpu":
        return "NO NVIDIA GPU here"
    if diagnosis.verdict == "unknown":
        return "CANNOT TELL: nothing wrong was found, but nothing that would show a working GPU was seen either"
    return f"PROBLEM: {_problem(diagnosis)}"


def story_text(rule: Rule) -> str:
    """The long story of one diagnosis, with its source."""
    lines = [f"{rule.id}: {rule.title}", "", *textwrap.wrap(rule.story, WIDTH), "", f"layer: {rule.layer}"]
    lines += [f"looks at: {', '.join(rule.needs)}"]
    lines += [f"told apart from: {', '.join(rule.rivals)}"] if rule.rivals else []
    return "\n".join([*lines, "", "Sources", *(f"  {source}" for source in rule.source)]) + "\n"


def _problem(diagnosis: Diagnosis) -> str:
    if not diagnosis.causes:
        seen = diagnosis.unexplained[0].symptom.seen
        return f"{seen}, and the facts do not say why"
    first = diagnosis.causes[0].finding
    others = len(diagnosis.causes) - 1
    more = f" (and {others} more {'cause' if others == 1 else 'causes'})" if others else ""
    return f"{'probably: ' if first.certainty == 'likely' else ''}{first.title}{more}"


def _lines(diagnosis: Diagnosis, *, verbose: bool) -> Iterator[str]:
    yield verdict_line(diagnosis)
    if diagnosis.simulated:
        yield "Simulated: the libraries that answered are a simulation, not a GPU's driver."
    for number, cause in enumerate(diagnosis.causes, 1):
        yield ""
        yield from _cause(cause, number if len(diagnosis.causes) > 1 else None)
    for unexplained in diagnosis.unexplained:
        yield ""
        yield from _unexplained(unexplained)
    if diagnosis.healthy:
        yield ""
        yield "What is well"
        yield from (line for check in diagnosis.healthy for line in _wrapped(f"  {_SIGNS['fine']} ", check.seen))
    yield from _not_read(diagnosis)
    yield from (f"! {bug}" for bug in diagnosis.bugs)
    if verbose:
        yield ""
        yield "Every check"
        yield from (line for examined in diagnosis.examined for line in _examined(examined))


def _cause(cause: Cause, number: int | None) -> Iterator[str]:
    finding = cause.finding
    yield f"Cause{f' {number}' if number else ''}: {finding.title} [{finding.id}]"
    yield from _wrapped("  ", finding.cause)
    yield ""
    yield "  Fix"
    for step in finding.fix:
        yield from _step(step)
    yield ""
    yield "  Evidence"
    yield from (line for item in finding.evidence for line in _wrapped("    ", f"{item.fact}: {item.value}"))
    follows = [*(f"{below.title} [{below.id}]" for below in cause.findings), *_seen(cause)]
    if follows:
        yield "  What follows from it"
        yield from (line for text in follows for line in _wrapped("    ", text))
    yield from _decides(finding)


def _seen(cause: Cause) -> Iterator[str]:
    yield from (f"{symptom.where}: {symptom.seen}" for symptom in cause.symptoms)


def _decides(finding: Finding) -> Iterator[str]:
    if finding.decides:
        yield "  What would make it certain"
        yield from (f"    {item.fact}: {item.command}" for item in finding.decides)


def _step(step: Step) -> Iterator[str]:
    yield from _wrapped("    ", step.say)
    yield from (f"      {' '.join(command.splitlines())}" for command in step.commands)


def _unexplained(unexplained: Unexplained) -> Iterator[str]:
    symptom = unexplained.symptom
    yield f"Not explained: {symptom.where}: {symptom.seen} [{symptom.id}]"
    yield "  What would tell its causes apart"
    yield from (f"    {item.fact}: {item.command}" for item in unexplained.decides)


def _not_read(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.limits:
        yield ""
        yield "What could not be read"
        for limit in diagnosis.limits:
            root = "; root could: run it with sudo" if limit.root else ""
            yield from _wrapped("  ", f"{limit.fact}: {limit.why}{root}")


def _examined(examined: Examined) -> Iterator[str]:
    lacking = f" (not known: {examined.why})" if examined.outcome == "not looked" else ""
    yield from _wrapped(f"  {_SIGNS[examined.outcome]} ", f"{examined.id}{lacking}")


def _wrapped(start: str, text: str) -> Iterator[str]:
    """Paths stay whole, however long they are."""
    yield from textwrap.wrap(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
