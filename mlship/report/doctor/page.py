"""A diagnosis as one self-contained page: no script, font or external address."""

from dataclasses import dataclass

from mlship.doctor.diagnose import Diagnosis
from mlship.doctor.finding import Finding, Step
from mlship.render import render
from mlship.report.doctor import words


@dataclass(frozen=True)
class _Step:
    number: str
    step: Step
    commands: tuple[str, ...]


@dataclass(frozen=True)
class _Cause:
    head: str
    finding: Finding
    steps: tuple[_Step, ...]
    stands_for: str | None
    follows: tuple[str, ...]


def diagnosis_page(diagnosis: Diagnosis) -> str:
    """The page, in the order of the text report. Facts appear as text, never as markup."""
    page = render(
        "doctor.html.j2",
        diagnosis=diagnosis,
        verdict=words.verdict_line(diagnosis),
        notes=words.verdict_notes(diagnosis),
        layers=words.layer_states(diagnosis),
        causes=tuple(_cause(diagnosis, number) for number in range(len(diagnosis.causes))),
        not_read=words.not_read(diagnosis),
        as_root=words.AS_ROOT if words.root_would_add(diagnosis) else None,
        coverage=words.coverage(diagnosis),
        signs=words.SIGNS,
        outcomes=words.OUTCOMES,
    )
    return "".join(character for character in page if character == "\n" or character.isprintable())


def _cause(diagnosis: Diagnosis, number: int) -> _Cause:
    cause = diagnosis.causes[number]
    steps = words.numbered(cause.finding.fix)
    return _Cause(
        head=words.cause_head(diagnosis, number),
        finding=cause.finding,
        steps=tuple(_Step(item.number, item.step, words.command_lines(item.step)) for item in steps),
        stands_for=words.stands_for(cause.finding),
        follows=words.follows(cause),
    )
