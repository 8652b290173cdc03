"""What a diagnosis says, for the screen and for the page alike: verdict, steps, what follows, what was not read."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlship.doctor.diagnose import Diagnosis, RootCause, RuleOutcome
from mlship.doctor.finding import LAYERS, Finding, StackLayer, Step

LinkState: TypeAlias = Literal["broken", "suffers", "well", "not seen"]
SIGNS: dict[RuleOutcome, str] = {"found": "✗", "fine": "✓", "not looked": "–"}  # noqa: RUF001  an en dash is meant
LAYER_SIGNS: dict[LinkState, str] = {"broken": "✗", "suffers": "!", "well": "✓", "not seen": "–"}  # noqa: RUF001
_LAYER_WORDS: dict[LinkState, str] = {
    "broken": "BROKEN here",
    "suffers": "suffers from it",
    "well": "well",
    "not seen": "not seen",
}
AS_ROOT = 'sudo "$(command -v mlship)" doctor'
_MORE_THAN_MESSAGES = 40  # characters: a value as long as this is a message, which nobody wants to read twice
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


@dataclass(frozen=True)
class Numbered:
    """A step with what stands in front of it: a number where several are done in order, else nothing."""

    number: str
    step: Step


@dataclass(frozen=True)
class LayerState:
    """One layer of the stack; `why` names the diagnoses in it."""

    layer: StackLayer
    state: LinkState
    why: str = ""

    @property
    def sign(self) -> str:
        return LAYER_SIGNS[self.state]

    @property
    def word(self) -> str:
        return _LAYER_WORDS[self.state]


def verdict_line(diagnosis: Diagnosis) -> str:
    """One line that says it all."""
    if diagnosis.verdict == "healthy":
        return "HEALTHY: nothing that doctor knows of keeps containers from the GPU here"
    if diagnosis.verdict == "no-gpu":
        return "NO NVIDIA GPU here"
    if diagnosis.verdict == "unknown":
        return "CANNOT TELL: nothing wrong was found, and no working GPU was seen"
    return _problem(diagnosis)


def _problem(diagnosis: Diagnosis) -> str:
    if not diagnosis.causes:
        return f"PROBLEM, cause not known: {diagnosis.unexplained[0].symptom.seen}"
    first = diagnosis.causes[0].finding
    others = len(diagnosis.causes) - 1
    more = f" (and {others} more {'cause' if others == 1 else 'causes'})" if others else ""
    return f"PROBLEM{', probably' if first.certainty == 'likely' else ''}: {first.title}{more}"


def verdict_notes(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What has to be said before anything else."""
    notes = {
        "no-gpu": "Nothing is wrong: no NVIDIA GPU is there to be used. If there should be one, it is not plugged in, "
        "has no power, or was not given to this virtual machine.",
        "unknown": "Too little could be seen. Run doctor on the GPU host itself, as root.",
    }
    simulated = "Simulated: the libraries that answered are a simulation, not a GPU's driver."
    said = notes.get(diagnosis.verdict)
    return ((said,) if said else ()) + ((simulated,) if diagnosis.simulated else ())


def cause_head(diagnosis: Diagnosis, number: int) -> str:
    """The heading of a cause, counted from 0; the title of the only one stands in the verdict already."""
    finding = diagnosis.causes[number].finding
    total = len(diagnosis.causes)
    likely = ", probably" if finding.certainty == "likely" else ""
    if total == 1:
        return f"Cause{likely} [{finding.id}]"
    return f"Cause {number + 1} of {total}{likely}: {finding.title} [{finding.id}]"


def numbered(steps: tuple[Step, ...]) -> tuple[Numbered, ...]:
    """Steps in order get numbers; another way in place of them gets none."""
    in_order = [step for step in steps if not is_other_way(step)]
    numbers = {id(step): f"{count}. " for count, step in enumerate(in_order, 1)} if len(in_order) > 1 else {}
    return tuple(Numbered(numbers.get(id(step), ""), step) for step in steps)


def is_other_way(step: Step) -> bool:
    """The step takes the place of those before it."""
    return step.instead or step.say.startswith("Or ")


def command_lines(step: Step) -> tuple[str, ...]:
    """Each command as one line, whatever the facts put into it."""
    return tuple(" ".join(command.splitlines()) for command in step.commands)


def stands_for(finding: Finding) -> str | None:
    """What the words in capitals stand for that are to be replaced in the commands."""
    text = "\n".join(line for step in finding.fix for line in command_lines(step))
    words = dict.fromkeys(_WORD.findall(text))
    said = [f"{word} stands for {_STANDS_FOR[word]}" for word in words]
    return f"{', '.join(said)}." if said else None


def follows(cause: RootCause) -> tuple[str, ...]:
    """What follows from a cause: diagnoses, then what was seen. Long messages of the evidence are not repeated."""
    below = tuple(f"{finding.title} [{finding.id}]" for finding in cause.findings)
    return below + tuple(_seen(cause, f"{symptom.where}: {symptom.seen}") for symptom in cause.symptoms)


def _seen(cause: RootCause, text: str) -> str:
    for item in cause.finding.evidence:
        if len(item.value) > _MORE_THAN_MESSAGES and item.value in text and "somebody saw" in text:
            return text.replace(item.value, "the message above")
    return text


def not_read(diagnosis: Diagnosis) -> tuple[str, ...]:
    """What could not be read, one line a reason; probes that gave no answer are among it."""
    reasons: dict[tuple[str, bool], list[str]] = {}
    for limit in diagnosis.limits:
        reasons.setdefault((limit.why, limit.root), []).append(limit.fact)
    facts = [f"{', '.join(names)}: {why}{' (root could)' if root else ''}" for (why, root), names in reasons.items()]
    return (*facts, *(f"probe {probe.name}: {probe.problem}" for probe in diagnosis.probes if probe.problem))


def root_would_add(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The facts that root could read."""
    return tuple(limit.fact for limit in diagnosis.limits if limit.root)


def coverage(diagnosis: Diagnosis) -> str:
    """Whether every known cause could be checked. Without numbers: a new rule must not change every report."""
    if any(examined.outcome == "not looked" for examined in diagnosis.examined):
        return "Some known causes could not be checked: facts are missing (see --verbose)."
    return "Every known cause was checked."


def layer_states(diagnosis: Diagnosis) -> tuple[LayerState, ...]:
    """Every layer, the lowest first: where it is broken, what suffers from it, what is well."""
    return tuple(_state(diagnosis, layer) for layer in LAYERS)


def _state(diagnosis: Diagnosis, layer: StackLayer) -> LayerState:
    broken = [cause.finding.id for cause in diagnosis.causes if cause.finding.layer == layer]
    below = [item.id for cause in diagnosis.causes for item in cause.findings if item.layer == layer]
    if broken:
        return LayerState(layer, "broken", ", ".join(broken))
    if below:
        return LayerState(layer, "suffers", ", ".join(below))
    well = any(check.layer == layer for check in diagnosis.healthy)
    return LayerState(layer, "well" if well else "not seen")
