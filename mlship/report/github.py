"""Writes the smoke report to the step summary of GitHub Actions."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlship.console import clean
from mlship.report.smoke import SIGNS, evidence, finding, measured, verdict, where
from mlship.smoke.result import Check, SmokeReport

VARIABLE = "GITHUB_STEP_SUMMARY"


def add_step_summary(report: SmokeReport, environment: Mapping[str, str] = os.environ) -> None:
    """Append the report to the file named by `GITHUB_STEP_SUMMARY`, if it is set.

    Raises:
        OSError: the file cannot be written.
    """
    name = environment.get(VARIABLE)
    if name:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(markdown(report))


def markdown(report: SmokeReport) -> str:
    """The whole report, with foreign text escaped."""
    return clean("\n".join(_lines(report)) + "\n")


def _lines(report: SmokeReport) -> Iterator[str]:
    yield f"### {SIGNS['pass' if report.passed else 'fail']} {_text(verdict(report))}"
    yield ""
    yield f"Image {_text(report.image)}, tested on {_text(where(report))}."
    yield ""
    yield "| | check | seen |"
    yield "| --- | --- | --- |"
    for check in report.checks:
        yield f"| {SIGNS[check.status]} {check.status} | {_text(check.title)} | {_text(finding(check))} |"
    figures = list(measured(report.figures))
    if figures:
        yield ""
        yield "| measured | |"
        yield "| --- | --- |"
        yield from (f"| {name} | {value} |" for name, value in figures)
    for check in report.checks:
        if check.remedy:
            yield from _details(check)
    yield ""


def _details(check: Check) -> Iterator[str]:
    yield ""
    yield f"**{check.id}**: {_text(check.remedy)}"
    lines = evidence(check)
    if lines:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", "\n".join(lines))), default=0))
        yield from ("", f"{fence}text", *lines, fence)


def _text(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|#~!@])", r"\\\1", " ".join(text.split()))
