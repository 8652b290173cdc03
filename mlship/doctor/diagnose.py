"""From facts to a diagnosis: run every rule, list what follows from each cause, name what is unexplained. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Literal, TypeAlias

from mlship.doctor.chain.likely import deciders, likely_causes
from mlship.doctor.chain.link import (
    Answer,
    ChainState,
    Link,
    Symptom,
    links,
    lower_links,
    matches_any,
    place_of,
    reaches,
    unknown,
)
from mlship.doctor.chain.walk import Looked, walk_chain
from mlship.doctor.facts.fact import Unreadable, each, known
from mlship.doctor.facts.facts import Facts, without_other_machine
from mlship.doctor.finding import LAYERS, Decider, Finding, Where
from mlship.doctor.queries import has_fact
from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule

HostHealth: TypeAlias = Literal["healthy", "no-gpu", "problem", "unknown"]
_ORDER = {link.id: number for number, link in enumerate(links())}
RuleOutcome: TypeAlias = Literal["found", "fine", "not looked"]


@dataclass(frozen=True)
class RootCause:
    """A root cause, and what follows from it: findings, then symptoms."""

    finding: Finding
    findings: tuple[Finding, ...]
    symptoms: tuple[Symptom, ...]


@dataclass(frozen=True)
class Unexplained:
    """A broken link that no rule explains.

    Attributes:
        symptoms: what was seen there.
        causes: the likely causes of these symptoms, in order.
        follows: symptoms of the links above it.
        decides: unknown facts that tell the likely causes apart.
    """

    link: Link
    symptoms: tuple[Symptom, ...]
    follows: tuple[Symptom, ...]
    causes: tuple[str, ...]
    decides: tuple[Decider, ...]


@dataclass(frozen=True)
class Rung:
    """One link of the ladder.

    Attributes:
        say: what holds, what was seen, which fact is missing, or why the link does not apply.
    """

    link: str
    title: str
    state: ChainState
    say: str


@dataclass(frozen=True)
class Examined:
    """The outcome of one rule; `why` names the missing facts."""

    id: str
    title: str
    outcome: RuleOutcome
    why: str = ""


@dataclass(frozen=True)
class Probed:
    """How a probe went; no `seconds` means that it did not answer in time."""

    name: str
    seconds: float | None
    problem: str | None


@dataclass(frozen=True)
class Limit:
    """A fact that could not be read; with `root`, root could read it."""

    fact: str
    why: str
    root: bool


@dataclass(frozen=True)
class Diagnosis:
    """The answer.

    Attributes:
        causes: root causes, lowest link first; several are independent of each other.
        chain: the ladder, the lowest link first.
        open: links that apply, are unknown, and that no link above shows to hold.
        limits: what could not be read.
        probes: how they went on the machine that the facts describe.
        bugs: rules and links that crashed, which is a bug in mlship but does not end the diagnosis.
        simulated: the facts come from simulated libraries.
    """

    verdict: HostHealth
    causes: tuple[RootCause, ...]
    unexplained: tuple[Unexplained, ...]
    chain: tuple[Rung, ...]
    open: tuple[str, ...]
    examined: tuple[Examined, ...]
    limits: tuple[Limit, ...]
    probes: tuple[Probed, ...]
    bugs: tuple[str, ...]
    simulated: bool


def diagnose(facts: Facts) -> Diagnosis:
    """Why this host, this container, or this image on this host cannot use the GPU."""
    facts = without_other_machine(facts)
    by_layer = sorted(RULES, key=lambda rule: LAYERS.index(rule.text.layer))
    found, bugs = findings(facts)
    looked = walk_chain(facts)
    causes = _causes(found, looked)
    unexplained = _unexplained(facts, looked, causes)
    chain = tuple(_rungs(looked, found, causes, unexplained))
    return Diagnosis(
        verdict=_verdict(chain),
        causes=causes,
        unexplained=unexplained,
        chain=chain,
        open=_open(chain),
        examined=tuple(_examined(rule, facts, found) for rule in by_layer),
        limits=limits(facts),
        probes=tuple(Probed(run.name, known(run.seconds), known(run.problem)) for run in each(facts.probes)),
        bugs=(*bugs, *(item.bug for item in looked if item.bug)),
        simulated=facts.simulated is True,
    )


def findings(facts: Facts) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings, lowest link first, without those that another finding excludes; and the rules that crashed."""
    found: list[Finding] = []
    bugs: list[str] = []
    for rule in RULES:
        try:
            finding = rule.look(facts)
        except Exception as error:  # noqa: BLE001  one rule's bug must not hide the other rules' findings
            bugs.append(f"a bug in mlship's rule {rule.id}: {type(error).__name__}: {error}")
        else:
            found += [finding] if finding else []
    excluded = {name for finding in found for name in rule_texts()[finding.id].excludes}
    kept = (finding for finding in found if finding.id not in excluded)
    return tuple(sorted(kept, key=lambda item: (_ORDER[link_of_finding(item)], item.id))), tuple(bugs)


def _causes(found: tuple[Finding, ...], looked: tuple[Looked, ...]) -> tuple[RootCause, ...]:
    """The findings that no other finding explains, each with everything that follows from it."""
    roots = [
        finding
        for position, finding in enumerate(found)
        if not any(
            _explains(other, finding) and (not _explains(finding, other) or before < position)
            for before, other in enumerate(found)
            if other is not finding
        )
    ]
    return tuple(_cause(root, found, looked) for root in roots)


def _cause(root: Finding, found: tuple[Finding, ...], looked: tuple[Looked, ...]) -> RootCause:
    below = [root]
    for finding in below:  # grows during the loop, to include indirect consequences
        below += [other for other in found if other not in below and _explains(finding, other)]
    holding = _holding(looked)
    explained = tuple(
        symptom
        for item in looked
        for symptom in item.symptoms
        if any(_shows_in(cause, symptom, item.link, holding) for cause in below)
    )
    return RootCause(root, tuple(below[1:]), explained)


def _shows_in(cause: Finding, symptom: Symptom, link: Link, holding: frozenset[str]) -> bool:
    """The symptom is what the cause breaks: its own link, one above that depends on it, or one that the rule names."""
    named = matches_any(rule_texts()[cause.id].explains, symptom.id)
    return _covers(cause.where, symptom.where) and (named or reaches(link_of_finding(cause), link.id, holding))


def _holding(looked: tuple[Looked, ...]) -> frozenset[str]:
    return frozenset(item.link.id for item in looked if item.link.proves and item.answer.state == "holds")


def link_of_finding(finding: Finding) -> str:
    """The link that a finding breaks, in the place where it was found."""
    return place_of(rule_texts()[finding.id].link, finding.where)


def _explains(cause: Finding, other: Finding) -> bool:
    return _covers(cause.where, other.where) and matches_any(rule_texts()[cause.id].explains, other.id)


def _covers(cause: Where, other: Where) -> bool:
    """A cause on the host affects its containers, never the other way round."""
    return cause in {"host", other}


def _unexplained(facts: Facts, looked: tuple[Looked, ...], causes: tuple[RootCause, ...]) -> tuple[Unexplained, ...]:
    """The links with symptoms that no cause explains; those above another one follow from it."""
    explained = {symptom for cause in causes for symptom in cause.symptoms}
    broken: list[Unexplained] = []
    holding = _holding(looked)
    for item in looked:
        left = tuple(symptom for symptom in item.symptoms if symptom not in explained)
        lower = next((one for one in broken if left and reaches(one.link.id, item.link.id, holding)), None)
        if lower:
            broken[broken.index(lower)] = replace(lower, follows=(*lower.follows, *left))
        elif left:
            decides = deciders(facts, item.link, left[0].where)
            broken.append(Unexplained(item.link, left, (), likely_causes(facts, item.link, left), decides))
    return tuple(broken)


def _rungs(
    looked: tuple[Looked, ...],
    found: tuple[Finding, ...],
    causes: tuple[RootCause, ...],
    unexplained: tuple[Unexplained, ...],
) -> Iterator[Rung]:
    titles = {link_of_finding(cause.finding): cause.finding.title for cause in reversed(causes)}
    roots = {**titles, **{one.link.id: "" for one in unexplained}}
    affected = {link_of_finding(finding) for finding in found}
    for item in looked:
        link, answer = item.link, item.answer
        lower = next(
            (other.link.title for other in looked if other.link.id in roots and other.link.id in lower_links(link.id)),
            "",
        )
        if link.id in roots:
            answer = Answer("broken", item.symptoms[0].seen if item.symptoms else titles[link.id])
        elif item.symptoms or link.id in affected or (lower and answer.state == "unknown"):
            answer = unknown(f"follows from: {lower}" if lower else "affected")
        yield Rung(link.id, link.title, answer.state, answer.say)


def _verdict(chain: tuple[Rung, ...]) -> HostHealth:
    """Healthy only if the chain holds up to its last link that applies."""
    if any(rung.state == "broken" for rung in chain):
        return "problem"
    if all(rung.state == "not applicable" for rung in chain):
        return "no-gpu"
    return "unknown" if _open(chain) else "healthy"


def _open(chain: tuple[Rung, ...]) -> tuple[str, ...]:
    shown = {lower for rung in chain if rung.state == "holds" for lower in lower_links(rung.link)}
    return tuple(rung.link for rung in chain if rung.state == "unknown" and rung.link not in shown)


def _examined(rule: Rule, facts: Facts, found: tuple[Finding, ...]) -> Examined:
    if any(finding.id == rule.id for finding in found):
        return Examined(rule.id, rule.text.title, "found")
    lacking = [path for path in rule.text.needs if not has_fact(facts, path)]
    return Examined(rule.id, rule.text.title, "not looked" if lacking else "fine", ", ".join(lacking))


def limits(facts: Facts) -> tuple[Limit, ...]:
    """Every fact that could not be read, by its path."""
    return tuple(_walk(facts, ""))


def _walk(value: object, path: str) -> Iterator[Limit]:
    if isinstance(value, Unreadable):
        yield Limit(path, value.unreadable, value.root)
    elif is_dataclass(value):
        for field in fields(value):
            inside: object = getattr(value, field.name)
            yield from _walk(inside, f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _walk(item, f"{path}.{number}")
