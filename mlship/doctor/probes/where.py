"""Whether mlship runs on a host or inside a container, and so where its facts belong."""

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

# Every engine mounts these three files into containers; nothing else mounts two of them.
_MOUNTED = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")


def here(root: Path) -> Here:
    """Inside a container or on a host, from the traces of engines.

    /.dockerenv alone proves nothing: a virtual machine made from an image has it too.
    """
    mounts = text_of(below(root, "/proc/self/mountinfo")) or ""
    targets = {line.split()[4] for line in mounts.splitlines() if len(line.split()) > 4}
    if sum(path in targets for path in _MOUNTED) >= 2:
        return "container"
    return "container" if lxc(root) or below(root, "/run/.containerenv").exists() else "host"


def lxc(root: Path) -> bool:
    """An LXC system container: its first process has `container` set."""
    content = f"{text_of(below(root, '/run/systemd/container'))}\0{text_of(below(root, '/proc/1/environ'))}"
    return re.search(r"(?:^|\0)(?:container=)?lxc(?:-libvirt)?\s*(?:\0|$)", content) is not None


def placed(root: Path, place: Place) -> Facts:
    """Facts with `place` as the host, or as this container."""
    known = {field.name: getattr(place, field.name) for field in fields(Place)}
    if here(root) == "host":
        return Facts(host=replace(Host(), **known))
    return Facts(container=replace(Container(), **known))


def live(root: Path) -> bool:
    """Whether the folder is this machine's root, so that programs may be run and libraries called."""
    return os.path.realpath(root) == "/"
