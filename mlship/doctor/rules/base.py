"""What a rule is: one failure that is known, told from its look-alikes by facts alone."""

from abc import ABC, abstractmethod
from typing import ClassVar

from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Certainty, Decider, Evidence, Finding, StackLayer, Step, Where


class Rule(ABC):
    """One failure. A rule is pure: it reads facts, and never fires on what is not known.

    Attributes:
        id: of the diagnosis; stable.
        title: the failure in a line.
        source: where it was reported or documented, for `mlship doctor explain`.
        story: how it comes about and what shows it, for `mlship doctor explain`; a few sentences.
        needs: facts without which it has nothing to say, by path: "kernel.pci". Where it looks at the host and at the
            container alike, "place.nvml.init": known in one of them is enough.
            "kernel.pci | kernel.log": either is enough.
        explains: what follows from this failure and is listed under it: ids of rules, and of symptoms such as
            "nvml.init=18" (see mlship/doctor/symptoms.py); "cuda.*" fits all that begin so.
        rivals: ids of rules that cannot hold at the same time; a test sees to it that they never do.
    """

    id: ClassVar[str]
    layer: ClassVar[StackLayer]
    title: ClassVar[str]
    source: ClassVar[tuple[str, ...]]
    story: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    explains: ClassVar[tuple[str, ...]] = ()
    rivals: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def look(self, facts: Facts) -> Finding | None:
        """The finding; None where this is not what ails it, or the facts do not say."""

    def found(
        self,
        *,
        cause: str,
        fix: tuple[Step, ...],
        evidence: tuple[Evidence | None, ...],
        where: Where = "host",
        certainty: Certainty = "certain",
        decides: tuple[Decider, ...] = (),
    ) -> Finding:
        """A finding of this rule.

        Args:
            cause: what is wrong, in one sentence with the values of this host.
            evidence: the facts that show it; None for one that is not known here.
        """
        shown = tuple(item for item in evidence if item is not None)
        return Finding(self.id, self.layer, self.title, where, cause, fix, shown, certainty, decides)
