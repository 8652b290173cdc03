"""A diagnosis as text of 80 columns: the verdict first, then cause, fix, evidence, and what works."""

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from itertools import chain

from mlship.console import out_lines
from mlship.doctor.conditions import in_general
from mlship.doctor.diagnose import Diagnosis, Probed, RootCause, Unexplained
from mlship.doctor.finding import LAYERS, Decider, Finding
from mlship.doctor.rule_texts import rule_texts, with_address
from mlship.doctor.rules.base import Rule
from mlship.report.doctor.words import (
    AS_ROOT,
    LADDER,
    SIGNS,
    cause_head,
    command_lines,
    coverage,
    follows,
    held,
    not_read,
    numbered,
    placeholders,
    root_would_add,
    rung_words,
    stands_for,
    verdict_line,
    verdict_notes,
)

WIDTH = 80
_COMMAND = " " * 8  # a command has its own line, so that it can be copied
_STYLES = {"PROBLEM": "bold red", "HEALTHY": "bold green", "NO NVIDIA GPU": "bold", "CANNOT TELL": "bold yellow"}


def show_diagnosis(diagnosis: Diagnosis, *, verbose: bool) -> None:
    """Print it on stdout. Colours only repeat what the words say."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for terminals without ✓
    coloured = sys.stdout.isatty() or "FORCE_COLOR" in os.environ
    out_lines(diagnosis_text(diagnosis, verbose=verbose).splitlines(), _STYLES if coloured else None)


def diagnosis_text(diagnosis: Diagnosis, *, verbose: bool = False) -> str:
    """The whole report, without control characters."""
    lines = _lines(diagnosis, verbose=verbose)
    return "".join("".join(filter(str.isprintable, line)) + "\n" for line in lines)


def story_text(rule: Rule) -> str:
    """The explanation of one diagnosis, with its sources."""
    below = [f"  {name}" for name in rule.text.excludes]
    above = [f"  {name}" for name, text in rule_texts().items() if rule.id in text.excludes]
    blocks = [
        [f"{rule.id}: {rule.text.title}", f"layer: {rule.text.layer}"],
        textwrap.wrap(rule.text.story, WIDTH),
        ["Required facts", *(f"  {path.replace('place.', 'host. or container.')}" for path in rule.text.needs)],
        ["Takes precedence over", *below] if below else [],
        ["Gives way to", *above] if above else [],
        ["Fix, in general", *_fix_in_general(rule)],
        ["Sources", *(f"  {with_address(source)}" for source in rule.text.source)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _fix_in_general(rule: Rule) -> Iterator[str]:
    """The steps of the texts, of any host."""
    yield "  A report has only the steps that fit its host, with values for CAPITALS."
    for step in rule.text.fix:
        yield from textwrap.wrap(in_general(step.say), WIDTH, initial_indent="  ", subsequent_indent="    ")
        yield from (f"      {line}" for line in map(in_general, step.run) if line.strip())


def stories_text(rules: Iterable[Rule]) -> str:
    """Every diagnosis by layer, the lowest first."""
    by_layer = {
        layer: sorted((rule for rule in rules if rule.text.layer == layer), key=lambda rule: rule.id)
        for layer in LAYERS
    }
    lines = [line for layer, found in by_layer.items() if found for line in ("", layer, *_titles(found))]
    return "\n".join(["Diagnoses by layer. `mlship doctor explain ID` explains one.", *lines]) + "\n"


def _titles(rules: list[Rule]) -> Iterator[str]:
    for rule in rules:
        yield f"  {rule.id}"
        yield from _wrapped("      ", rule.text.title)


def _lines(diagnosis: Diagnosis, *, verbose: bool) -> Iterator[str]:
    yield from _hanging("", verdict_line(diagnosis))
    for note in verdict_notes(diagnosis):
        yield from _wrapped("", note)
    if diagnosis.verdict != "no-gpu":
        yield ""
        yield from _ladder(diagnosis)
    for number, cause in enumerate(diagnosis.causes):
        yield ""
        yield from _hanging("", cause_head(diagnosis, number))
        yield from _cause(cause)
    for unexplained in diagnosis.unexplained:
        yield ""
        yield from _unexplained(diagnosis, unexplained)
    yield from _block("Could not be read", _items("  ", not_read(diagnosis)))
    if root_would_add(diagnosis):
        yield "  Root can read some of it; on that machine, run:"
        yield f"{_COMMAND}{AS_ROOT}"
    yield from _block("Bugs in mlship; please report them", _items("  ", diagnosis.bugs))
    yield ""
    yield coverage(diagnosis)
    if verbose:
        yield from _everything(diagnosis)


def _ladder(diagnosis: Diagnosis) -> Iterator[str]:
    """The chain; links that do not apply share the last line."""
    skipped = [rung for rung in diagnosis.chain if rung.state == "not applicable"]
    width = max(len(rung.title) for rung in diagnosis.chain)
    for rung in diagnosis.chain:
        if rung.state != "not applicable":
            yield from _wrapped(f"  {LADDER[rung.state]} {rung.title:{width}}  ", rung_words(rung))
    if skipped:
        yield from _wrapped(f"  {LADDER['not applicable']} not applicable: ", ", ".join(rung.title for rung in skipped))


def _cause(cause: RootCause) -> Iterator[str]:
    finding = cause.finding
    yield from _wrapped("  ", finding.cause)
    yield from _block("  Fix", _fix(finding))
    yield from _block("  Evidence", _items("    ", (f"{item.fact}: {item.value}" for item in finding.evidence)))
    yield from _block("  Consequences", _items("    ", follows(cause)))
    yield from _block("  What would confirm it", _deciders(finding.decides))
    yield from _block("  More", (f"{_COMMAND}mlship doctor explain {finding.id}",))


def _fix(finding: Finding) -> Iterator[str]:
    for number, step in numbered(finding.fix):
        yield from _hanging("    ", f"{number}{step.say}")
        yield from (f"{_COMMAND}{command}" for command in command_lines(step))
    if meaning := stands_for(finding):
        yield from _wrapped("    ", f"({meaning})")


def _deciders(deciders: tuple[Decider, ...]) -> Iterator[str]:
    for item in deciders:
        yield from _hanging("    ", item.fact)
        yield f"{_COMMAND}{item.command}"


def _unexplained(diagnosis: Diagnosis, broken: Unexplained) -> Iterator[str]:
    yield from _hanging("", f"Broken, cause unknown: {broken.link.title} [{broken.link.id}]")
    yield from _hanging("  ", f"Holds up to here: {held(diagnosis, broken)}")
    yield from _hanging("  ", f"Expected: {broken.link.expects}")
    for symptom in broken.symptoms:
        yield from _hanging("  ", f"Seen: {symptom.where}: {symptom.seen} [{symptom.id}]")
    listed = (_hanging(f"    {number}. ", cause) for number, cause in enumerate(broken.causes, 1))
    yield from _block("  Likely causes, in order", chain.from_iterable(listed))
    if broken.decides:
        yield from _block("  What decides between them", _deciders(broken.decides))
        if meaning := placeholders("\n".join(item.command for item in broken.decides)):
            yield from _wrapped("    ", f"({meaning})")
    else:
        yield ""
        yield from _wrapped(
            "  ", "No further fact that mlship reads proves a cause. If it is none of these, please report the facts:"
        )
        yield f"{_COMMAND}mlship doctor --record facts.json"
    followed = (f"{symptom.where}: {symptom.seen}" for symptom in broken.follows)
    yield from _block("  Consequences", _items("    ", followed))


def _everything(diagnosis: Diagnosis) -> Iterator[str]:
    yield ""
    yield f"Every check: {SIGNS['found']} found, {SIGNS['fine']} not found, {SIGNS['not looked']} a fact is missing"
    for examined in diagnosis.examined:
        lacking = f" (missing: {examined.why})" if examined.outcome == "not looked" else ""
        yield from _hanging(f"  {SIGNS[examined.outcome]} ", f"{examined.id}{lacking}")
    yield from _block("Every probe", _items("  ", map(_probed, diagnosis.probes)))


def _probed(probe: Probed) -> str:
    took = None if probe.seconds is None else f"{probe.seconds:.3f} s"
    return f"{probe.name}: {', '.join(filter(None, (took, probe.problem))) or 'no answer'}"


def _block(head: str, lines: Iterable[str]) -> Iterator[str]:
    """An empty line, the head, and the lines; nothing if there are none."""
    listed = tuple(lines)
    yield from ("", head, *listed) if listed else ()


def _items(start: str, texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from _hanging(start, text)


def _hanging(start: str, text: str) -> Iterator[str]:
    """Wrap the text and indent the lines after the first, so that items stay apart."""
    return _fill(start, " " * (len(start) + 2), text)


def _wrapped(start: str, text: str) -> Iterator[str]:
    return _fill(start, " " * len(start), text)


def _fill(first: str, rest: str, text: str) -> Iterator[str]:
    yield from textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
