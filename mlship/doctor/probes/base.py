"""The interface of a probe: it reads one source, fills its part of the facts and leaves the rest unknown."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlship.doctor.facts.facts import Facts


@dataclass(frozen=True)
class Look:
    """The system to examine.

    Attributes:
        root: the folder that stands for /; /proc, /sys, /etc and /dev are read below it.
        image: reference of the image to examine.
        container: name or ID of the running container to examine.
    """

    root: Path = Path("/")
    image: str | None = None
    container: str | None = None


class Probe(Protocol):
    """One source. An exception from `read` becomes the probe's `problem` and never ends a run."""

    @property
    def name(self) -> str:
        """The source, such as "nvml" or "docker"."""

    @property
    def seconds(self) -> float:
        """Time limit in seconds."""

    def read(self, look: Look) -> Facts:
        """Read the facts; those that cannot be read are Unreadable, with the reason."""
