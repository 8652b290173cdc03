"""Each recorded host gets its diagnosis, and no rule fires on another host (test_doctor_unknown.py: with fewer facts).

Adding a host is adding a file in tests/doctor/hosts and its entry in tests/doctor/expected.toml.
"""

import itertools
from dataclasses import fields
from functools import cache
from graphlib import TopologicalSorter

import pytest

from mlship.doctor.chain.link import links
from mlship.doctor.diagnose import Diagnosis, diagnose
from mlship.doctor.facts.fact import UNKNOWN, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS
from mlship.doctor.queries import fact_at
from mlship.doctor.rule_texts import rule_texts
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.report.doctor.text import story_text
from tests.helpers.doctor_hosts import expected, family_of, found, hosts, rule_of
from tests.helpers.sampling import first_of_each

LONGEST_STORY = 500
BY_ID = {rule.id: rule for rule in RULES}


def causes(diagnosis: Diagnosis) -> tuple[str, ...]:
    return tuple(cause.finding.id for cause in diagnosis.causes)


def test_every_host_has_an_expectation_and_every_rule_a_host() -> None:
    assert set(hosts()) == set(expected())
    shown = {name for entry in expected().values() for name in (*entry.causes, *entry.follows)}
    assert shown == set(BY_ID)


@pytest.mark.bank(kind=rule_of)
@pytest.mark.parametrize("name", hosts())
def test_diagnosis(name: str) -> None:
    diagnosis, want = diagnose(hosts()[name]), expected()[name]
    assert causes(diagnosis) == want.causes
    assert {finding.id for cause in diagnosis.causes for finding in cause.findings} == set(want.follows)
    assert tuple(symptom.id for item in diagnosis.unexplained for symptom in item.symptoms) == want.unexplained
    assert (diagnosis.verdict, diagnosis.bugs) == ("problem", ())
    for cause in diagnosis.causes:
        assert cause.finding.fix
        assert cause.finding.evidence
        assert (cause.finding.certainty == "likely") is want.likely
        assert bool(cause.finding.decides) is want.likely


@pytest.mark.bank(kind=family_of)
@pytest.mark.parametrize("name", hosts("healthy"))
def test_no_false_alarm(name: str) -> None:
    diagnosis = diagnose(hosts("healthy")[name])
    assert (causes(diagnosis), diagnosis.unexplained, diagnosis.bugs) == ((), (), ())
    assert diagnosis.verdict == ("no-gpu" if "without-nvidia-gpu" in name else "healthy")
    assert any(rung.state == "holds" for rung in diagnosis.chain) or diagnosis.verdict == "no-gpu"


def test_a_real_host_is_in_the_bank() -> None:
    """Recorded by `mlship doctor --record` on a virtual machine with an H200, without host-specific names."""
    facts = hosts("healthy")["h200-vm-without-engine"]
    assert facts.simulated == UNKNOWN
    assert (facts.host.nvml.init, facts.host.cuda.init, facts.kernel.nvidia.flavour) == (0, 0, "open")
    assert {run.name for run in known(facts.probes) or ()} >= {"nvml", "cuda", "kernel", "loader"}


@cache
def found_everywhere() -> dict[str, set[str]]:
    """Ids of the rules that fire, by the name of the host."""
    kinds = {"hosts": rule_of, "healthy": family_of}
    chosen = [(name, kind) for kind, kind_of in kinds.items() for name in first_of_each(hosts(kind), kind_of)]
    return {name: {finding.id for finding in found(name, kind)} for name, kind in chosen}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_fires_on_no_other_host(rule: Rule) -> None:
    """Except where expected.toml lists it."""
    everywhere = found_everywhere()
    wanted = {name for name, entry in expected().items() if rule.id in (*entry.causes, *entry.follows)}
    assert {name for name, ids in everywhere.items() if rule.id in ids} == wanted & set(everywhere)


def test_no_facts_give_no_findings() -> None:
    diagnosis = diagnose(Facts())
    assert (diagnosis.verdict, diagnosis.causes, diagnosis.unexplained) == ("unknown", (), ())
    assert {examined.outcome for examined in diagnosis.examined} == {"not looked"}


def test_rules_are_documented_and_name_existing_facts() -> None:
    for rule in RULES:
        assert rule.text.layer in LAYERS
        assert rule.text.link in {link.id for link in links()}
        assert all((rule.text.title, rule.text.story, rule.text.needs, *rule.text.source))
        assert rule.text.source
        assert len(rule.text.story) <= LONGEST_STORY
        assert all(line in story_text(rule) for line in (rule.text.title, *rule.text.source))
        for path in itertools.chain(*(needed.split(" | ") for needed in rule.text.needs)):
            group, _, leaf = path.replace("place.", "host.", 1).rpartition(".")
            inside = fact_at(Facts(), group) if group else Facts()
            assert leaf in {field.name for field in fields(inside)}, path  # type: ignore[arg-type]  # a group


def test_every_rule_has_texts_and_every_text_a_rule() -> None:
    assert len(BY_ID) == len(RULES)
    assert set(rule_texts()) == set(BY_ID)


def test_precedence_names_existing_rules_and_has_no_cycle() -> None:
    for rule_id, text in rule_texts().items():
        assert set(text.excludes) <= set(BY_ID), rule_id
        assert {name for name in text.explains if "-" in name and "." not in name} <= set(BY_ID), rule_id
    TopologicalSorter({rule_id: text.excludes for rule_id, text in rule_texts().items()}).prepare()
