"""From facts to a diagnosis: run every rule, list what follows from each cause, name what is unexplained. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, TypeAlias

from mlship.doctor.chain.link import Symptom, matches_any
from mlship.doctor.facts.fact import Unreadable, each, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS, Decider, Finding, StackLayer, Where
from mlship.doctor.queries import gpu_is_known_absent, gpus, has_fact, kernel_driver, passed_on, places
from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.doctor.symptoms import deciders, symptoms

HostHealth: TypeAlias = Literal["healthy", "no-gpu", "problem", "unknown"]
RuleOutcome: TypeAlias = Literal["found", "fine", "not looked"]


@dataclass(frozen=True)
class RootCause:
    """A root cause, and what follows from it: findings, then symptoms."""

    finding: Finding
    findings: tuple[Finding, ...]
    symptoms: tuple[Symptom, ...]


@dataclass(frozen=True)
class Unexplained:
    """A symptom without a known cause, and the facts that would tell its causes apart."""

    symptom: Symptom
    decides: tuple[Decider, ...]


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
class WorkingPart:
    """Something that was checked and works."""

    layer: StackLayer
    seen: str


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
        causes: root causes, lowest layer first; several are independent of each other.
        healthy: what was checked and works.
        limits: what could not be read.
        probes: how they went on the machine that the facts describe.
        bugs: rules that crashed, which is a bug in mlship but does not end the diagnosis.
        simulated: the facts come from simulated libraries.
    """

    verdict: HostHealth
    causes: tuple[RootCause, ...]
    unexplained: tuple[Unexplained, ...]
    healthy: tuple[WorkingPart, ...]
    examined: tuple[Examined, ...]
    limits: tuple[Limit, ...]
    probes: tuple[Probed, ...]
    bugs: tuple[str, ...]
    simulated: bool


def diagnose(facts: Facts, rules: tuple[Rule, ...] = RULES) -> Diagnosis:
    """Why this host, this container, or this image on this host cannot use the GPU."""
    by_layer = sorted(rules, key=lambda rule: LAYERS.index(rule.text.layer))
    found, bugs = findings(facts, rules)
    seen = symptoms(facts)
    causes = _causes(found, seen)
    explained = {symptom for cause in causes for symptom in cause.symptoms}
    unexplained = tuple(Unexplained(symptom, deciders(symptom.id)) for symptom in seen if symptom not in explained)
    healthy = working_parts(facts)
    return Diagnosis(
        verdict=_verdict(facts, problem=bool(causes or unexplained), looked=bool(healthy)),
        causes=causes,
        unexplained=unexplained,
        healthy=healthy,
        examined=tuple(_examined(rule, facts, found) for rule in by_layer),
        limits=limits(facts),
        probes=tuple(Probed(run.name, known(run.seconds), known(run.problem)) for run in each(facts.probes)),
        bugs=bugs,
        simulated=facts.simulated is True,
    )


def findings(facts: Facts, rules: tuple[Rule, ...] = RULES) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """The findings, lowest layer first, without those that another finding excludes; and the rules that crashed."""
    found: list[Finding] = []
    bugs: list[str] = []
    for rule in rules:
        try:
            finding = rule.look(facts)
        except Exception as error:  # noqa: BLE001  one rule's bug must not hide the other rules' findings
            bugs.append(f"a bug in mlship's rule {rule.id}: {type(error).__name__}: {error}")
        else:
            found += [finding] if finding else []
    excluded = {name for finding in found for name in rule_texts()[finding.id].excludes}
    kept = (finding for finding in found if finding.id not in excluded)
    return tuple(sorted(kept, key=lambda item: (LAYERS.index(item.layer), item.id))), tuple(bugs)


def _causes(found: tuple[Finding, ...], seen: tuple[Symptom, ...]) -> tuple[RootCause, ...]:
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
    return tuple(_cause(root, found, seen) for root in roots)


def _cause(root: Finding, found: tuple[Finding, ...], seen: tuple[Symptom, ...]) -> RootCause:
    below = [root]
    for finding in below:  # grows during the loop, to include indirect consequences
        below += [other for other in found if other not in below and _explains(finding, other)]
    explained = tuple(
        symptom
        for symptom in seen
        if any(
            _covers(cause.where, symptom.where) and matches_any(rule_texts()[cause.id].explains, symptom.id)
            for cause in below
        )
    )
    return RootCause(root, tuple(below[1:]), explained)


def _explains(cause: Finding, other: Finding) -> bool:
    return _covers(cause.where, other.where) and matches_any(rule_texts()[cause.id].explains, other.id)


def _covers(cause: Where, other: Where) -> bool:
    """A cause on the host affects its containers, never the other way round."""
    return cause in {"host", other}


def _verdict(facts: Facts, *, problem: bool, looked: bool) -> HostHealth:
    if gpu_is_known_absent(facts) and not problem:
        return "no-gpu"
    if problem:
        return "problem"
    return "healthy" if looked else "unknown"


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


def working_parts(facts: Facts) -> tuple[WorkingPart, ...]:
    """Everything that works, lowest layer first."""
    return tuple(check for look in _WORKING for check in look(facts))


def _hardware(facts: Facts) -> Iterator[WorkingPart]:
    answering = [gpu for gpu in gpus(facts) if known(gpu.revision) != "ff"]
    if answering:
        names = sorted({known(gpu.name) or "NVIDIA GPU" for gpu in answering})
        yield WorkingPart("hardware", f"{_many(len(answering), 'NVIDIA GPU')} on the PCI bus: {', '.join(names)}")
    for gpu in passed_on(facts):
        name, driver = known(gpu.name) or "an NVIDIA GPU", known(gpu.driver)
        yield WorkingPart("hardware", f"{name} is bound to {driver}: reserved for virtual machines, not for this host")


def _module(facts: Facts) -> Iterator[WorkingPart]:
    version, flavour = kernel_driver(facts), known(facts.kernel.nvidia.flavour)
    if version:
        yield WorkingPart("kernel module", f"nvidia {version} is loaded{f' ({flavour} module)' if flavour else ''}")


def _user_space(facts: Facts) -> Iterator[WorkingPart]:
    for where, place in places(facts):
        nvml, cuda = place.nvml, place.cuda
        if known(nvml.init) == 0 and known(nvml.device_count) != 0:
            count = known(nvml.device_count)
            sees = "" if count is None else f" and sees {_many(count, 'GPU')}"
            yield WorkingPart("driver user space", f"{where}: NVML answers{sees}")
        if known(cuda.init) == 0 and known(cuda.device_count) != 0:
            count = known(cuda.device_count)
            sees = "" if count is None else f" and sees {_many(count, 'device')}"
            yield WorkingPart("driver user space", f"{where}: CUDA starts{sees}")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _toolkit(facts: Facts) -> Iterator[WorkingPart]:
    if version := known(facts.host.toolkit.version):
        yield WorkingPart("toolkit", f"NVIDIA Container Toolkit {version} is installed")
    whole = [spec for spec in each(facts.host.cdi.specs) if spec.missing == () and known(spec.error) is None]
    if whole:
        yield WorkingPart("toolkit", f"every file listed in {', '.join(spec.path for spec in whole)} exists")


def _engine(facts: Facts) -> Iterator[WorkingPart]:
    if version := known(facts.host.docker.version):
        runtimes = known(facts.host.docker.runtimes) or ()
        has = "with" if "nvidia" in runtimes else "without"
        yield WorkingPart("engine", f"Docker Engine {version} answers, {has} the nvidia runtime")


def _framework(facts: Facts) -> Iterator[WorkingPart]:
    for where, place in places(facts):
        for environment in each(place.pythons):
            torch = known(environment.torch)
            if torch and known(torch.is_available):
                yield WorkingPart("framework", f"{where}: torch {known(torch.version) or ''} sees the GPU")


_WORKING: tuple[Callable[[Facts], Iterator[WorkingPart]], ...] = (
    *(_hardware, _module, _user_space, _toolkit, _engine, _framework),
)
