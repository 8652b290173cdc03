"""The report of `mlship audit`: for people, and as SARIF for code scanning."""

import json
import os
from collections.abc import Iterator
from urllib.parse import quote

from mlship import __version__
from mlship.audit.rules import AuditReport, AuditSeen, AuditVerdict, Judgement
from mlship.console import out_lines
from mlship.units import first_rows

_SIGNS: dict[AuditVerdict, str] = {"pass": "✓", "fail": "✗", "unknown": "?", "not applicable": "-"}
_LEVELS: dict[AuditVerdict, str] = {"fail": "error", "unknown": "note"}
_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_SHOWN = 5


def show_audit(report: AuditReport) -> None:
    """Print each rule with its verdict, what decided it, and for a failure why it matters and what to do."""
    rules = (line for one in report.judgements for line in _rule(one))
    counts = [f"{report.count('pass')} passed", f"{report.count('fail')} failed", f"{report.count('unknown')} unknown"]
    counts += [f"{skipped} not applicable"] if (skipped := report.count("not applicable")) else []
    out_lines((f"{report.target}: {report.kind}", "", *rules, "", ", ".join(counts)))


def _rule(one: Judgement) -> Iterator[str]:
    yield f"  {_SIGNS[one.verdict]} {one.rule.id:<15} {one.rule.title}"
    if one.verdict in ("pass", "not applicable"):
        return
    texts = (f"line {seen.line}: {seen.text}" if seen.line else seen.text for seen in one.seen)
    yield from (f"      {text}" for text in first_rows(texts, _SHOWN))
    if one.verdict == "fail":
        yield f"      why: {one.rule.why}"
        yield f"      fix: {one.rule.fix}"


def sarif(report: AuditReport) -> str:
    """The failures, and what is unknown, as SARIF 2.1.0; the same report gives the same bytes.

    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    rules = [
        {
            "id": one.rule.id,
            "shortDescription": {"text": one.rule.title},
            "fullDescription": {"text": one.rule.why},
            "help": {"text": f"{one.rule.fix}. Source: {one.rule.source}"},
        }
        for one in report.judgements
    ]
    results = [
        {
            "ruleId": one.rule.id,
            "ruleIndex": number,
            "level": _LEVELS[one.verdict],
            "message": {"text": f"{one.rule.title}: {seen.text}"},
            "locations": [_location(report, seen)],
        }
        for number, one in enumerate(report.judgements)
        if one.verdict in _LEVELS
        for seen in one.seen
    ]
    driver = {"name": "mlship", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    document = {"$schema": _SARIF, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _location(report: AuditReport, seen: AuditSeen) -> dict[str, object]:
    """A line of the Dockerfile; an image has only its name, which is no file."""
    if report.kind == "image":
        return {"logicalLocations": [{"fullyQualifiedName": report.target, "kind": "resource"}]}
    place = {"artifactLocation": {"uri": quote(os.fsencode(report.target))}, "region": {"startLine": max(seen.line, 1)}}
    return {"physicalLocation": place}
