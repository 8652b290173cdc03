"""A probe reads one source, fills its part of the facts and leaves the rest unknown; and where those facts belong."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlship.doctor.facts.container import Container
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.place import Place
from mlship.doctor.probes.files import below, text_of
from mlship.doctor.probes.inside.loader import mount_targets

# Every engine mounts these three files into containers; nothing else mounts two of them.
_MOUNTED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
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


def here(root: Path) -> Literal["host", "container"]:
    """Inside a container or on a host, from the traces of engines.

    /.dockerenv alone proves nothing: a virtual machine made from an image has it too.
    """
    if len({*_MOUNTED} & (mount_targets(str(root)) or set())) >= 2:
        return "container"
    return "container" if lxc(root) or below(root, "/run/.containerenv").exists() else "host"


def lxc(root: Path) -> bool:
    """An LXC system container: its first process has `container` set."""
    content = f"{text_of(below(root, '/run/systemd/container'))}\0{text_of(below(root, '/proc/1/environ'))}"
    return re.search(r"(?:^|\0)(?:container=)?lxc(?:-libvirt)?\s*(?:\0|$)", content) is not None


def placed(root: Path, place: Place) -> Facts:
    """Facts with `place` as the host, or as this container."""
    if here(root) == "host":
        return Facts(host=place.as_kind(Host))
    return Facts(container=place.as_kind(Container))
