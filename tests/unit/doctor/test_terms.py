"""Every term of a rule's condition decides about some host: without the term, that host's diagnosis changes.

tests/doctor/near.json has hosts that are almost recorded ones: of, the recorded host; put, other values of some facts;
forget, facts that become unknown; and what is found there then: verdict, causes, and unexplained symptoms.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest

from mlship.doctor.diagnose import diagnose
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.rule_texts import RuleText, rule_texts
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from tests.helpers.doctor_hosts import FOLDER, hosts

# Terms that no host needs yet: most keep a rule from what other terms already exclude on every recorded host.
NOT_NEEDED = 54


@dataclass(frozen=True)
class Near:
    """A row of near.json."""

    of: str
    put: dict[str, object]
    forget: list[str]
    verdict: str
    causes: list[str]
    unexplained: list[str]

    def facts(self) -> Facts:
        plain = json.loads((FOLDER / "hosts" / f"{self.of}.json").read_text(encoding="utf-8"))
        for path in (*self.forget, *self.put):
            group, (*names, last) = plain, path.split(".")
            for name in names:
                group[name] = group.get(name) or {}  # a group that was absent
                group = group[name]
            group[last] = self.put.get(path)
            if path in self.forget:
                del group[last]
        return parse_facts(json.dumps(plain), self.of)


ROWS = [Near(**row) for row in json.loads((FOLDER / "near.json").read_text(encoding="utf-8"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.of} {' '.join((*row.put, *row.forget))}")
def test_a_host_that_is_almost_a_recorded_one(row: Near) -> None:
    diagnosis = diagnose(row.facts())
    assert [cause.finding.id for cause in diagnosis.causes] == row.causes
    assert [symptom.id for item in diagnosis.unexplained for symptom in item.symptoms] == row.unexplained
    assert (diagnosis.verdict, diagnosis.bugs) == (row.verdict, ())


@cache
def everything() -> tuple[tuple[str, Facts], ...]:
    near = ((row.of, row.facts()) for row in ROWS)
    return (*hosts().items(), *near, *hosts("healthy").items())


def own_hosts_first(rule: Rule) -> list[Facts]:
    """All hosts; most terms decide about one that was recorded for their rule."""
    return [facts for _, facts in sorted(everything(), key=lambda named: not named[0].startswith(rule.id))]


def without_a_term(text: RuleText) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The conditions that lack one atom, or one of its alternatives."""
    for at, item in enumerate(text.when):
        before, after = text.when[:at], text.when[at + 1 :]
        yield item, (*before, *after)
        for atom in item.split(" & "):
            alternatives = atom.split(" | ")
            for one in alternatives if len(alternatives) > 1 else ():
                rest = " | ".join(other for other in alternatives if other != one)
                yield f"{item}: {one}", (*before, item.replace(atom, rest), *after)


def certainty(rule: Rule, facts: Facts) -> str | None:
    """How certain the rule is, if it fires."""
    try:
        found = rule.look(facts)
    except (AttributeError, KeyError, TypeError) as error:  # the term kept the rule from a value that is not there
        return type(error).__name__
    return found.certainty if found else None


@pytest.mark.slow
def test_every_term_decides_about_some_host(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, idle = rule_texts(), []
    for rule in RULES:
        text, known_hosts = rule.text, own_hosts_first(rule)
        with_all = [certainty(rule, facts) for facts in known_hosts]
        for name, when in without_a_term(text):
            monkeypatch.setitem(texts, rule.id, replace(text, when=when))
            if all(certainty(rule, facts) == before for facts, before in zip(known_hosts, with_all, strict=True)):
                idle.append(f"{rule.id}: {name}")
        monkeypatch.setitem(texts, rule.id, text)
    assert len(idle) <= NOT_NEEDED, "\n".join(idle)
