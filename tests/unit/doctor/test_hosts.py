"""Each recorded host is named right, and no rule fires on another's host (test_doctor_unknown.py: where less is known).

Adding a host is adding a file in tests/doctor/hosts and its entry in tests/doctor/expected.toml.
"""

import itertools
from dataclasses import fields

import pytest

from mlship.doctor.diagnose import Diagnosis, diagnose
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.doctor.views import fact_at
from mlship.report.doctor.text import story_text
from tests.helpers.doctor_hosts import expected, hosts

BY_ID = {rule.id: rule for rule in RULES}


def causes(diagnosis: Diagnosis) -> tuple[str, ...]:
    return tuple(cause.finding.id for cause in diagnosis.causes)


def test_every_host_has_an_expectation_and_every_rule_a_host() -> None:
    assert set(hosts()) == set(expected())
    shown = {name for entry in expected().values() for name in (*entry.causes, *entry.follows)}
    assert shown == set(BY_ID)


@pytest.mark.parametrize("name", hosts())
def test_named_right(name: str) -> None:
    diagnosis, want = diagnose(hosts()[name]), expected()[name]
    assert causes(diagnosis) == want.causes
    assert {finding.id for cause in diagnosis.causes for finding in cause.findings} == set(want.follows)
    assert tuple(item.symptom.id for item in diagnosis.unexplained) == want.unexplained
    assert (diagnosis.verdict, diagnosis.bugs) == ("problem", ())
    for cause in diagnosis.causes:
        assert cause.finding.fix
        assert cause.finding.evidence
        assert (cause.finding.certainty == "likely") is want.likely
        assert bool(cause.finding.decides) is want.likely


@pytest.mark.parametrize("name", hosts("healthy"))
def test_no_false_alarm(name: str) -> None:
    diagnosis = diagnose(hosts("healthy")[name])
    assert (causes(diagnosis), diagnosis.unexplained, diagnosis.bugs) == ((), (), ())
    assert diagnosis.verdict == ("no-gpu" if "without-nvidia-gpu" in name else "healthy")
    assert diagnosis.healthy


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_fires_on_no_other_host(rule: Rule) -> None:
    """But where expected.toml lists it."""
    wanted = {name for name, entry in expected().items() if rule.id in (*entry.causes, *entry.follows)}
    everywhere = {**hosts(), **hosts("healthy")}
    assert {name for name, facts in everywhere.items() if rule.look(facts)} == wanted


def test_of_nothing_nothing_follows() -> None:
    diagnosis = diagnose(Facts())
    assert (diagnosis.verdict, diagnosis.causes, diagnosis.unexplained) == ("unknown", (), ())
    assert {examined.outcome for examined in diagnosis.examined} == {"not looked"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rules_are_documented_and_name_what_there_is(rule: Rule) -> None:
    assert rule.layer in LAYERS
    assert rule.source
    assert all(line in story_text(rule) for line in (rule.title, *rule.source))
    for path in itertools.chain(*(needed.split(" | ") for needed in rule.needs)):
        group, _, leaf = path.replace("place.", "host.", 1).rpartition(".")
        inside = fact_at(Facts(), group) if group else Facts()
        assert leaf in {field.name for field in fields(inside)}, path  # type: ignore[arg-type]  # a group


def test_ids_are_unique_and_rivals_are_mutual() -> None:
    assert len(BY_ID) == len(RULES)
    for rule in RULES:
        for rival in rule.rivals:
            assert rule.id in BY_ID[rival].rivals, f"{rival} does not know its rival {rule.id}"
