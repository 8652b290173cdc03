"""Relevant lines of the kernel log: from /dev/kmsg, else dmesg, else the journal."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mlship.doctor.facts.fact import Fact, Unreadable
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import Kernel
from mlship.doctor.probes.base import Look
from mlship.doctor.probes.files import below, live
from mlship.doctor.probes.tables import probe_tables
from mlship.driver.child import run_child

_MOST = 300
_LONGEST = 500
_COMMANDS = (("dmesg",), ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat"))


def read_kernel_log(look: Look) -> Facts:
    """All three may be denied to non-root users."""
    if not live(look.root):
        return _facts(_from_folder(look.root))
    found = _records(Path("/dev/kmsg"))
    if isinstance(found, str):
        return _facts(matter(found.splitlines()))
    for command in _COMMANDS:
        ended = run_child(command, 1.8)
        if ended.ok and ended.lines:
            return _facts(matter(ended.lines))
    if isinstance(found, PermissionError):
        return _facts(Unreadable("permission denied", root=os.geteuid() != 0))
    return _facts(Unreadable("no /dev/kmsg"))


def _facts(log: Fact[tuple[str, ...]]) -> Facts:
    return Facts(kernel=Kernel(log=log))


def _from_folder(root: Path) -> Fact[tuple[str, ...]]:
    for name in ("/dev/kmsg", "/var/log/dmesg"):
        path = below(root, name)
        if path.is_file():
            return matter(path.read_text(encoding="utf-8", errors="replace").splitlines())
    return Unreadable("no /dev/kmsg or /var/log/dmesg")


def _records(path: Path) -> str | OSError:
    """The current content of /dev/kmsg; each read returns one record."""
    parts: list[bytes] = []
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:  # noqa: PTH123  a descriptor
            while True:
                with suppress(BrokenPipeError):  # overwritten in the meantime: continue with the next record
                    record: bytes | None = file.read(8192)
                    if not record:
                        return b"".join(parts).decode("utf-8", "replace")
                    parts.append(record)
    except OSError as error:
        return error


def matter(lines: Iterable[str]) -> tuple[str, ...]:
    """The last relevant messages, without time stamps and immediate repetitions, each as one line. Pure."""
    found: list[str] = []
    matters, noise = (re.compile(f"(?i){one}") for one in (probe_tables().kernel_log, probe_tables().kernel_noise))
    # /dev/kmsg escapes the line ends in a message of the driver, dmesg indents what follows.
    for line in re.sub(r"(?:\\x0a|\n\s+)NVRM: *", " ", "\n".join(lines)).splitlines():
        text = re.sub(r"^(?:\d+,\d+,\d+,[^;]*;|(?:<\d+>)?\[\s*\d+\.\d+\]\s*)", "", line).rstrip()
        if line[:1] != " " and matters.search(text) and not noise.search(text) and text[:_LONGEST] not in found[-1:]:
            found.append(text[:_LONGEST])
    return tuple(found[-_MOST:])
