"""Where mlship runs: on a host, or inside a container; what is seen from here is put there."""

import os
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal, TypeAlias

from mlship.doctor.facts.container import Container
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host
from mlship.doctor.facts.place import Place
from mlship.doctor.probes.files import below, text_of

Here: TypeAlias = Literal["host", "container"]

# Every engine mounts these three into a container, and nothing else does that with two of them.
_MOUNTED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def here(root: Path) -> Here:
    """Inside a container or on a host, by what engines leave behind.

    A file /.dockerenv alone is no proof: a virtual machine that was made from an image has it too.
    """
    mounts = text_of(below(root, "/proc/self/mountinfo")) or ""
    targets = {line.split()[4] for line in mounts.splitlines() if len(line.split()) > 4}
    if sum(path in targets for path in _MOUNTED) >= 2:
        return "container"
    return "container" if lxc(root) or below(root, "/run/.containerenv").exists() else "host"


def lxc(root: Path) -> bool:
    """A system container of LXC: its first process is told so."""
    told = f"{text_of(below(root, '/run/systemd/container'))}\0{text_of(below(root, '/proc/1/environ'))}"
    return re.search(r"(?:^|\0)(?:container=)?lxc(?:-libvirt)?\s*(?:\0|$)", told) is not None


def placed(root: Path, place: Place) -> Facts:
    """Facts in which `place` is the host, or the container that this is."""
    known = {field.name: getattr(place, field.name) for field in fields(Place)}
    if here(root) == "host":
        return Facts(host=replace(Host(), **known))
    return Facts(container=replace(Container(), **known))


def live(root: Path) -> bool:
    """The folder is this very machine's root, so programs may be run and libraries called."""
    return os.path.realpath(root) == "/"
