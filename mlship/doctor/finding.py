"""What a rule reports: the cause, the evidence, and the fix."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

StackLayer: TypeAlias = Literal[
    "hardware", "kernel module", "driver user space", "toolkit", "engine", "image", "framework", "kubernetes"
]
LAYERS: tuple[StackLayer, ...] = get_args(StackLayer)
Where: TypeAlias = Literal["host", "container"]
Certainty: TypeAlias = Literal["certain", "likely"]


@dataclass(frozen=True)
class Evidence:
    """A fact and its value, as a line of the report: "host.nvml.init", "18 (driver/library version mismatch)"."""

    fact: str
    value: str


@dataclass(frozen=True)
class Step:
    """One step of a fix: a sentence, and the commands to copy. Steps are done in order.

    Attributes:
        instead: an alternative to the steps before it.
    """

    say: str
    commands: tuple[str, ...] = ()
    instead: bool = False


@dataclass(frozen=True)
class Decider:
    """An unknown fact that would confirm the cause or rule it out, and the command that shows it."""

    fact: str
    command: str


@dataclass(frozen=True)
class Finding:
    """One cause.

    Attributes:
        where: "host" applies to all containers too; "container" only to the container in question.
        decides: for a likely cause, what would confirm it or rule it out.
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
