"""What a rule is: one known failure, recognized from facts alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, TypeAlias, TypedDict, Unpack

from mlship.doctor.commands import at_place
from mlship.doctor.conditions import Values, all_atoms_hold, evidence_of, fact_in_words, value_at
from mlship.doctor.facts.fact import known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Evidence, Finding, Step, Where
from mlship.doctor.queries import has_fact
from mlship.doctor.rule_texts import RuleText, fill, rule_texts, ways_to_see


class Computed(TypedDict, total=False):
    """Parts of a finding that a rule computes."""

    cause: str
    fix: tuple[Step, ...]
    decides: tuple[Decider, ...]


class Rule(ABC):
    """One failure. A rule is pure: it reads facts, and never fires on what is unknown.

    Attributes:
        id: of the diagnosis; stable, and the key of its texts.
    """

    id: str
    registered: ClassVar[list[type["Rule"]]] = []

    def __init_subclass__(cls, *, id: str = "") -> None:  # noqa: A002  a rule's id is what users call it
        super().__init_subclass__()
        if id:
            cls.id = id
            Rule.registered.append(cls)

    @property
    def text(self) -> RuleText:
        return rule_texts()[self.id]

    @abstractmethod
    def look(self, facts: Facts) -> Finding | None:
        """The finding; None if this failure is absent, or the facts do not show it."""

    def found(
        self,
        facts: Facts,
        values: Values = MappingProxyType({}),
        *,
        evidence: tuple[Evidence | None, ...] = (),
        where: Where = "host",
        certain: bool = True,
        **computed: Unpack[Computed],
    ) -> Finding:
        """A finding of this rule, with the texts of mlship/data/rules.

        Args:
            values: for these texts, with `where` and `on_host` besides.
            evidence: the facts that show it, besides those of the texts; None for a fact that is unknown here.
            certain: the facts prove the cause; otherwise it is likely, as it is without a fact of `certain_with`.
            computed: what the rule computes instead of taking it from the texts.
        """
        values = {"where": where, "on_host": where == "host", **values}
        text, shown = self.text, tuple(item for item in evidence if item is not None)
        items = tuple(item.replace("place.", f"{where}.") for item in text.evidence)
        shown = (*evidence_of(facts, items, values, fill), *shown)
        cause = computed.get("cause") or fill(text.cause, facts, values)
        fix = at_place(facts, computed.get("fix") or text.steps(facts, values))
        finding = Finding(self.id, text.layer, text.title, where, cause, fix, shown)
        lacking = tuple(path for path in text.certain_with if not has_fact(facts, path))
        if certain and not lacking:
            return finding
        decides = computed.get("decides") or text.deciders(facts, values)
        decides = (*decides, *ways_to_see(lacking, decides))
        unseen = tuple(decider for decider in decides if not has_fact(facts, decider.fact))
        return replace(finding, certainty="likely", decides=unseen or decides)


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


class DeclaredRule(Rule):
    """A rule whose condition is in mlship/data/rules, with the values that `computes` adds."""

    def __init__(self, rule_id: str) -> None:
        self.id = rule_id
        self.compute: Compute = COMPUTED.get(rule_id, lambda _: {})

    def look(self, facts: Facts) -> Finding | None:
        computed = self.compute(facts)
        candidates = computed if isinstance(computed, Iterator) else (computed,) if computed is not None else ()
        looks = (self._look(facts, where, values) for values in candidates for where in self._places(values))
        return next((found for found in looks if found), None)

    def _places(self, computed: Values) -> tuple[Where, ...]:
        found_at = computed.get("where")
        place = self.text.place if found_at is None else "container" if found_at == "container" else "host"
        return ("host", "container") if place == "any" else (place,)

    def _look(self, facts: Facts, where: Where, computed: Values) -> Finding | None:
        text, values = self.text, dict(computed)

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
        return self.found(
            facts,
            values,
            where=where,
            certain=bool(values.get("certain", True)) and all_hold(text.certain),
            fix=tuple(step for step in steps if isinstance(step, Step)) if isinstance(steps, tuple) else (),
        )
