"""Doctor with missing facts, one by one, and on combined hosts: no errors and no false causes.

Thousands of diagnoses, so it is not among the fast tests.
"""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings

from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.facts import Facts
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.report.doctor.text import diagnosis_text
from mlship.versioned import to_json
from tests.helpers.doctor_hosts import expected, hosts, leaves, mixed, without
from tests.helpers.sampling import examples

BY_ID = {rule.id: rule for rule in RULES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_silent_without_each_fact_that_it_needs(rule: Rule) -> None:
    fired = [name for name, entry in expected().items() if rule.id in (*entry.causes, *entry.follows)]
    for name, path in itertools.product(fired, rule.text.needs):
        facts = hosts()[name]
        for one, where in itertools.product(path.split(" | "), ("host", "container")):
            facts = without(facts, one.replace("place.", f"{where}.", 1))
        assert rule.look(facts) is None, f"{rule.id} fires on {name} without {path}"


@pytest.mark.parametrize("name", hosts())
def test_unknown_facts_cause_no_error_and_no_new_cause(name: str) -> None:
    """With fewer facts, doctor finds the same causes, fewer, or less certain ones, but no other certain cause."""
    want = {*expected()[name].causes, *expected()[name].follows, *expected()[name].less}
    for path in leaves(hosts()[name]):
        diagnosis = diagnose(without(hosts()[name], path))
        assert not diagnosis.bugs, path
        new = {c.finding.id for c in diagnosis.causes if c.finding.certainty == "certain"} - want
        assert not new, f"without {path}: {new}"


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mixed())
def test_no_host_causes_an_error_or_two_contradictory_causes(facts: Facts) -> None:
    diagnosis = diagnose(facts)
    assert not diagnosis.bugs
    found = {finding.id for cause in diagnosis.causes for finding in (cause.finding, *cause.findings)}
    for name in found:
        assert not found & set(BY_ID[name].text.excludes), f"{name} beside a rule that it excludes"
    assert (diagnosis.verdict == "problem") is bool(diagnosis.causes or diagnosis.unexplained)
    assert diagnosis_text(diagnosis, verbose=True)
    assert to_json(diagnosis)
