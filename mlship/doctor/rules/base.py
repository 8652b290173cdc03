"""What a rule is: one known failure, recognized from facts alone."""

import tomllib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import LAYERS, Decider, Evidence, Finding, StackLayer, Step, Where
from mlship.resources import read_package_file


@dataclass(frozen=True)
class RuleText:
    """What mlship/data/rules/LAYER.toml says about a rule.

    Attributes:
        title: the failure in one line.
        story: how it comes about and how it shows; a few sentences, for `mlship doctor explain`.
        source: where it was reported or documented.
        needs: paths of the facts that the rule requires, such as "kernel.pci". "place.nvml.init" is known if the host
            or the container has it; in "kernel.pci | kernel.log" either one is enough.
        explains: what follows from this failure and is listed under it: ids of rules, and of symptoms such as
            "nvml.init=18" (see mlship/doctor/symptoms.py). "cuda.*" matches every id that starts with "cuda.".
        excludes: ids of rules that are dropped if this one fires, because it is the better answer.
    """

    layer: StackLayer
    title: str
    story: str
    source: tuple[str, ...]
    needs: tuple[str, ...]
    explains: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()


@cache
def rule_texts() -> dict[str, RuleText]:
    """The texts of every rule, by its id."""
    return {rule_id: _text(layer, row) for layer in LAYERS for rule_id, row in _rows(layer).items()}


def _rows(layer: StackLayer) -> dict[str, dict[str, str | list[str]]]:
    return tomllib.loads(read_package_file(f"data/rules/{layer.replace(' ', '-')}.toml"))


def _text(layer: StackLayer, row: dict[str, str | list[str]]) -> RuleText:
    lists = {key: tuple(value) for key, value in row.items() if isinstance(value, list)}
    return RuleText(layer, str(row["title"]), str(row["story"]), **lists)


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
        *,
        cause: str,
        fix: tuple[Step, ...],
        evidence: tuple[Evidence | None, ...],
        where: Where = "host",
        certain: bool = True,
        decides: tuple[Decider, ...] = (),
    ) -> Finding:
        """A finding of this rule.

        Args:
            cause: what is wrong, in one sentence with the values of this host.
            evidence: the facts that show it; None for a fact that is unknown here.
            certain: the facts prove the cause; otherwise it is likely.
            decides: what would confirm a likely cause; dropped if it is certain.
        """
        shown = tuple(item for item in evidence if item is not None)
        finding = Finding(self.id, self.text.layer, self.text.title, where, cause, fix, shown)
        return finding if certain else replace(finding, certainty="likely", decides=decides)
