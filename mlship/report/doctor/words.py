"""The words of a diagnosis, for the screen and the page: verdict, steps, what follows, what could not be read."""

import re

from mlship.doctor.chain.link import ChainState, lower_links
from mlship.doctor.diagnose import Diagnosis, RootCause, RuleOutcome, Rung, Unexplained
from mlship.doctor.finding import Finding, Step

SIGNS: dict[RuleOutcome, str] = {"found": "✗", "fine": "✓", "not looked": "–"}  # noqa: RUF001  an en dash is meant
OUTCOMES: dict[RuleOutcome, str] = {"found": "found", "fine": "not found", "not looked": "facts missing"}
LADDER: dict[ChainState, str] = {"holds": "✓", "broken": "✗", "unknown": "–", "not applicable": "·"}  # noqa: RUF001
AS_ROOT = 'sudo "$(command -v mlship)" doctor'
_MORE_THAN_MESSAGES = 40  # characters: a longer value is a message, which is not repeated
_STANDS_FOR = {
    "IMAGE": "your image",
    "CONTAINER": "your container's name",
    "POD": "your pod's name",
    "NODE": "the node's name",
    "PROGRAM": "your program",
    "MODEL": "your model",
    "N": "the GPU's number",
}
_WORD = re.compile(rf"(?<![\w$-])({'|'.join(_STANDS_FOR)})(?![\w=])")


def verdict_line(diagnosis: Diagnosis) -> str:
    if diagnosis.verdict == "healthy":
        return "HEALTHY: no known problem stops containers from using the GPU"
    if diagnosis.verdict == "no-gpu":
        return "NO NVIDIA GPU to use here"
    if diagnosis.verdict == "unknown":
        first = next((rung for rung in diagnosis.chain if rung.link in diagnosis.open), diagnosis.chain[0])
        return f"CANNOT TELL: not known whether this holds: {first.title}"
    if not diagnosis.causes:
        return f"PROBLEM at {diagnosis.unexplained[0].link.title}: {diagnosis.unexplained[0].symptoms[0].seen}"
    cause = diagnosis.causes[0].finding
    others = len(diagnosis.causes) + len(diagnosis.unexplained) - 1
    more = f" (and {others} more)" if others else ""
    return f"PROBLEM{', probably' if cause.certainty == 'likely' else ''}: {cause.title}{more}"


def rung_words(rung: Rung) -> str:
    """What the ladder says about a link."""
    missing = rung.state == "unknown" and "." in rung.say and " " not in rung.say
    return f"unknown: {rung.say}" if missing else rung.say


def held(diagnosis: Diagnosis, broken: Unexplained) -> str:
    """The links below a broken one that hold."""
    lower = lower_links(broken.link.id)
    titles = [rung.title for rung in diagnosis.chain if rung.state == "holds" and rung.link in lower]
    apply = any(rung.state != "not applicable" and rung.link in lower for rung in diagnosis.chain)
    return ", ".join(titles) or ("nothing below it is known to hold" if apply else "nothing below it applies here")


def verdict_notes(diagnosis: Diagnosis) -> tuple[str, ...]:
    notes = {
        "no-gpu": f"Nothing is wrong: {diagnosis.chain[0].say}.",
        "unknown": "No problem was found, but a fact that decides is missing. Run `mlship doctor` on the GPU host "
        "itself, as root.",
    }
    simulated = "Simulated: the answers come from simulated libraries, not from a GPU's driver."
    note = notes.get(diagnosis.verdict)
    return ((note,) if note else ()) + ((simulated,) if diagnosis.simulated else ())


def cause_head(diagnosis: Diagnosis, number: int) -> str:
    """The heading of a cause, counted from 0; without its title if it is the only one, as the verdict has it."""
    finding = diagnosis.causes[number].finding
    total = len(diagnosis.causes)
    likely = ", probably" if finding.certainty == "likely" else ""
    if total == 1:
        return f"Cause{likely} [{finding.id}]"
    return f"Cause {number + 1} of {total}{likely}: {finding.title} [{finding.id}]"


def numbered(steps: tuple[Step, ...]) -> tuple[tuple[str, Step], ...]:
    """Number the steps that are done in order; a single one, and alternatives to those before them, get no number."""
    in_order = [step for step in steps if not (step.instead or step.say.startswith("Or "))]
    numbers = {id(step): f"{count}. " for count, step in enumerate(in_order, 1)} if len(in_order) > 1 else {}
    return tuple((numbers.get(id(step), ""), step) for step in steps)


def command_lines(step: Step) -> tuple[str, ...]:
    """Each command as one line, whatever the facts contain."""
    return tuple(" ".join(command.splitlines()) for command in step.commands)


def stands_for(finding: Finding) -> str | None:
    """What to put in place of the words in capitals in the commands of a fix."""
    return placeholders("\n".join(line for step in finding.fix for line in command_lines(step)))


def placeholders(text: str) -> str | None:
    """What the words in capitals in commands stand for."""
    words = dict.fromkeys(_WORD.findall(text))
    texts = [f"{word} stands for {_STANDS_FOR[word]}" for word in words]
    return f"{', '.join(texts)}." if texts else None


def follows(cause: RootCause) -> tuple[str, ...]:
    """What follows from a cause: diagnoses, then symptoms. Long messages in the evidence are not repeated."""
    below = tuple(f"{finding.title} [{finding.id}]" for finding in cause.findings)
    return below + tuple(_seen(cause, f"{symptom.where}: {symptom.seen}") for symptom in cause.symptoms)


def _seen(cause: RootCause, text: str) -> str:
    for item in cause.finding.evidence:
        if len(item.value) > _MORE_THAN_MESSAGES and item.value in text and "reported: " in text:
            return text.replace(item.value, "the message above")
    return text


def not_read(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What could not be read, one line per reason, and the probes that failed."""
    reasons: dict[tuple[str, bool], list[str]] = {}
    for limit in diagnosis.limits:
        reasons.setdefault((limit.why, limit.root), []).append(limit.fact)
    facts = [
        f"{', '.join(names)}: {why}{' (root can read it)' if root else ''}" for (why, root), names in reasons.items()
    ]
    return (*facts, *(f"probe {probe.name}: {probe.problem}" for probe in diagnosis.probes if probe.problem))


def root_would_add(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The facts that root could read."""
    return tuple(limit.fact for limit in diagnosis.limits if limit.root)


def coverage(diagnosis: Diagnosis) -> str:
    """Whether every known cause could be checked; without numbers, so that a new rule changes no report."""
    if any(examined.outcome == "not looked" for examined in diagnosis.examined):
        return "Some known causes could not be checked: facts are missing (see --verbose)."
    return "Every known cause was checked."
