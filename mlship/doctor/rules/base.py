"""What a rule is: one known failure, recognized from facts alone."""

from abc import ABC, abstractmethod
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, TypedDict, Unpack

from mlship.doctor.commands import at_place
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Evidence, Finding, Step, Where
from mlship.doctor.queries import has_fact
from mlship.doctor.rule_texts import RuleText, Values, fill, rule_texts, ways_to_see


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

    id: ClassVar[str]
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
        evidence: tuple[Evidence | None, ...],
        where: Where = "host",
        certain: bool = True,
        **computed: Unpack[Computed],
    ) -> Finding:
        """A finding of this rule, with the texts of mlship/data/rules.

        Args:
            values: for these texts, with `where` and `on_host` besides.
            evidence: the facts that show it; None for a fact that is unknown here.
            certain: the facts prove the cause; otherwise it is likely, as it is without a fact of `certain_with`.
            computed: what the rule computes instead of taking it from the texts.
        """
        values = {"where": where, "on_host": where == "host", **values}
        text, shown = self.text, tuple(item for item in evidence if item is not None)
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
