"""What a rule is: one known failure, recognized from facts alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from mlship.doctor.commands import at_place
from mlship.doctor.conditions import Values, all_atoms_hold, evidence_of, fact_in_words, fill, value_at
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding, Step, Where
from mlship.doctor.queries import has_fact
from mlship.doctor.rule_texts import RuleText, rule_texts, ways_to_see

Compute: TypeAlias = Callable[[Facts], Values | Iterator[Values] | None]
COMPUTED: dict[str, Compute] = {}


def computes(rule_id: str) -> Callable[[Compute], Compute]:
    """Declare what a rule of mlship/data/rules computes: values for its condition and its texts; None if it is absent.

    A generator yields candidates; the first for which the condition holds counts. "where" among the values says where
    it was found, "certain" whether they prove it, and "fix" is used instead of the steps of the text.
    """

    def register(compute: Compute) -> Compute:
        COMPUTED[rule_id] = compute
        return compute

    return register


@dataclass(eq=False)
class Rule:
    """One failure. A rule is pure: it reads facts, and never fires on what is unknown.

    Attributes:
        id: of the diagnosis; stable, and the key of its condition and texts in mlship/data/rules.
        compute: the values that `computes` adds to these.
    """

    id: str
    compute: Compute

    @property
    def text(self) -> RuleText:
        return rule_texts()[self.id]

    def look(self, facts: Facts) -> Finding | None:
        """The finding; None if this failure is absent, or the facts do not show it."""
        computed = self.compute(facts)
        candidates = computed if isinstance(computed, Iterator) else (computed,) if computed is not None else ()
        looks = (self._look(facts, where, values) for values in candidates for where in self._places(values))
        return next((found for found in looks if found), None)

    def _places(self, computed: Values) -> tuple[Where, ...]:
        found_at = computed.get("where")
        place = self.text.place if found_at is None else "container" if found_at == "container" else "host"
        return ("host", "container") if place == "any" else (place,)

    def _look(self, facts: Facts, where: Where, computed: Values) -> Finding | None:
        text, values = self.text, {**computed, "where": where, "on_host": where == "host"}

        def all_hold(atoms: tuple[str, ...]) -> bool:
            return all(all_atoms_hold(facts, atom.replace("place.", f"{where}."), values) for atom in atoms)

        for name, term in text.values.items():
            here = term.replace("place.", f"{where}.")
            of = known(value_at(facts, here, values)) if not here.endswith(" ?") else all_hold((here[:-2],))
            as_it_is = of is None or isinstance(of, str | bool | tuple | Evidence)
            values[name] = of if as_it_is else fact_in_words(here, of)
        if not all_hold(text.when):
            return None
        steps = values.get("fix")
        fix = tuple(step for step in steps if isinstance(step, Step)) if isinstance(steps, tuple) else ()
        fix, cause = at_place(facts, fix or text.steps(facts, values)), fill(text.cause, facts, values)
        items = tuple(one.replace("place.", f"{where}.") for one in text.evidence)
        shown = tuple(evidence_of(facts, items, values))
        finding = Finding(self.id, text.layer, text.title, where, cause, fix, shown)
        lacking = tuple(path for path in text.certain_with if not has_fact(facts, path))
        if values.get("certain", True) and all_hold(text.certain) and not lacking:
            return finding
        decides = text.deciders(facts, values)
        decides = (*decides, *ways_to_see(lacking, decides))
        unseen = tuple(decider for decider in decides if not has_fact(facts, decider.fact))
        return replace(finding, certainty="likely", decides=unseen or decides)
