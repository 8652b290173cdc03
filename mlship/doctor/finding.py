"""What a rule says: the cause, what shows it, and what mends it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

StackLayer: TypeAlias = Literal[
    "hardware", "kernel module", "driver user space", "toolkit", "engine", "image", "framework", "kubernetes"
]
LAYERS: tuple[StackLayer, ...] = (
    *("hardware", "kernel module", "driver user space", "toolkit"),
    *("engine", "image", "framework", "kubernetes"),
)
Where: TypeAlias = Literal["host", "container"]
Certainty: TypeAlias = Literal["certain", "likely"]


@dataclass(frozen=True)
class Evidence:
    """A fact and its value, as a line of the report: "host.nvml.init", "18 (driver/library version mismatch)"."""

    fact: str
    value: str


@dataclass(frozen=True)
class Step:
    """Something to do: a sentence, and the commands to copy. Several steps are done in order.

    Attributes:
        instead: it is another way, in place of the steps before it.
    """

    say: str
    commands: tuple[str, ...] = ()
    instead: bool = False


@dataclass(frozen=True)
class Decider:
    """A fact that is not known and would decide, and the command that gets it."""

    fact: str
    command: str


@dataclass(frozen=True)
class Finding:
    """One cause.

    Attributes:
        where: "host": it holds for all containers too; "container": for the container in question.
        decides: for a likely cause, what would make it certain or rule it out.
    """

    id: str
    layer: StackLayer
    title: str
    where: Where
    cause: str
    fix: tuple[Step, ...]
    evidence: tuple[Evidence, ...]
    certainty: Certainty = "certain"
    decides: tuple[Decider, ...] = ()
