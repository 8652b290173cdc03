"""The interface of a probe: it reads one source, fills its part of the facts and leaves the rest unknown."""

from collections.abc import Callable
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


@dataclass(frozen=True)
class Probe:
    """One source. An exception from `read` becomes the probe's `problem` and never ends a run.

    Attributes:
        name: the source, such as "nvml" or "docker".
        seconds: time limit.
        read: reads the facts; those that cannot be read are Unreadable, with the reason.
        host_only: not read inside a container, whose files say nothing about the host.
        inside: looks into a container, within the time limit of `Look`.
        clean_up: removes what `read` started, even if it did not end in time.
    """

    name: str
    seconds: float
    read: Callable[[Look], Facts]
    host_only: bool = False
    inside: bool = False
    clean_up: Callable[[], None] = lambda: None
