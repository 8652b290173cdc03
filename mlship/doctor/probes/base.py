"""What a probe is: it reads one source, knows its part of the facts, and leaves the rest unknown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlship.doctor.facts.facts import Facts


@dataclass(frozen=True)
class Look:
    """What is to be looked at.

    Attributes:
        root: the folder that stands for /; every path below /proc, /sys, /etc and /dev is read below it.
        image: reference of the image in question.
        container: name or ID of the running container in question.
    """

    root: Path = Path("/")
    image: str | None = None
    container: str | None = None


class Probe(Protocol):
    """One source. `read` may raise whatever it likes: that becomes the probe's `problem`, never the end of a run."""

    @property
    def name(self) -> str:
        """What it reads, such as "nvml" or "docker"."""

    @property
    def seconds(self) -> float:
        """How long it may take."""

    def read(self, look: Look) -> Facts:
        """The facts that it knows; what it could not read is Unreadable with the reason."""
