"""The interface of a probe: it reads one source, fills its part of the facts and leaves the rest unknown."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from mlship.doctor.facts.facts import Facts

INSIDE_SECONDS = 30.0  # enough for a machine under load to start a container, load torch there and remove it


@dataclass(frozen=True)
class Look:
    """The system to examine.

    Attributes:
        root: the folder that stands for /; /proc, /sys, /etc and /dev are read below it.
        image: reference of the image to examine.
        container: name or ID of the running container to examine.
        seconds: time limit of what is asked inside the image or the container.
    """

    root: Path = Path("/")
    image: str | None = None
    container: str | None = None
    seconds: float = INSIDE_SECONDS


class Probe(ABC):
    """One source. An exception from `read` becomes the probe's `problem` and never ends a run.

    Attributes:
        name: the source, such as "nvml" or "docker".
        seconds: time limit.
        host_only: not read inside a container, whose files say nothing about the host.
        inside: looks into a container, within the time limit of `Look`.
    """

    name: str
    seconds: float
    host_only = False
    inside = False

    @abstractmethod
    def read(self, look: Look) -> Facts:
        """Read the facts; those that cannot be read are Unreadable, with the reason."""

    def clean_up(self) -> None:  # noqa: B027  most probes leave nothing
        """Remove what `read` started, even if it did not end in time."""
