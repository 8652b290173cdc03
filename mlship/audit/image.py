"""What an audit needs of an image: its configuration, and files of its layers by name and mode. Nothing runs."""

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlship.audit.history import HistoryStep, history_steps
from mlship.audit.rules import audit_table, may_hold_credentials
from mlship.dockerfile.shell import SHELLS
from mlship.project.contents import is_binary
from mlship.project.credentials import find_credentials
from mlship.size.configuration import ImageConfig
from mlship.size.layers import LayerTree, stacked_files
from mlship.size.stream import Readable, TarEntry
from mlship.size.waste import is_cache

LOADER = "etc/ld.so.conf"  # the loader's configuration, and the folder of its parts
_LARGEST_SCRIPT = 100_000  # bytes, also of a binary file in which credentials are searched for
_LARGEST_TEXT = 4 << 20  # bytes of a text that are searched; larger ones are vocabularies and data
_PROBED = 8192
_SPECIAL = 0o6000  # setuid and setgid
# The sample keys and certificates of packages and of the system are public. Only folders that package managers own: a
# user's files can be anywhere else, also in /usr/app or /var/lib/app.
_PUBLISHED = re.compile(
    r"(?:^|/)(?:(?:site|dist)-packages|node_modules|lib/python[\d.]+|[\w.-]*(?:conda|mamba|miniforge)[\w.-]*/pkgs)/"
    r"|^(?:usr/(?:share|lib\w*|include)|lib\w*|var/(?:lib|cache)/(?:apk|apt|debconf|dnf|dpkg|pacman|rpm|ucf|yum))/"
)


@dataclass(frozen=True, slots=True)
class AuditFile:
    """What a rule asks of a file or link in a layer.

    Attributes:
        kinds: "setuid", for setgid too, and the names of groups of `kinds` in data/audit.toml.
        text: of the loader's configuration, and of a shell script that can be started.
        package: it is the metadata of a Python package.
        cache: its bytes if it is in the cache of a package manager.
        credential: what it holds; files of packages and of the system are not read.
        private: its name says that it may hold credentials.
        cut: only the first 4 MiB were searched.
    """

    kinds: frozenset[str] = frozenset()
    text: str | None = None
    package: bool = False
    cache: int = 0
    credential: str | None = None
    private: bool = False
    cut: bool = False


@dataclass(frozen=True)
class AuditedImage:
    """What the rules judge: a configuration, and layers, lowest first."""

    config: ImageConfig
    layers: Sequence[LayerTree[AuditFile]]

    @cached_property
    def steps(self) -> tuple[HistoryStep, ...]:
        """The steps of the history, lowest layer first."""
        return history_steps((step.created_by or "", step.empty_layer) for step in self.config.history or ())

    @cached_property
    def seen(self) -> dict[str, tuple[int, AuditFile]]:
        """The files that a container sees, each with the number of its layer, from 0."""
        return stacked_files(self.layers)

    @cached_property
    def every(self) -> tuple[tuple[str, AuditFile], ...]:
        """The files of all layers, also those that a later layer removes."""
        return tuple(row for layer in self.layers for row in layer.files.items())

    def of(self, kind: str) -> set[str]:
        """The files of a kind that a container sees."""
        return {path for path, (_, file) in self.seen.items() if kind in file.kinds}


def read_audited(path: str, member: TarEntry, opened: Callable[[], Readable]) -> AuditFile:
    """Read what the rules ask of a file of a layer."""
    is_published = _PUBLISHED.search(path) is not None
    is_small_program = member.size <= _LARGEST_SCRIPT and bool(member.mode & 0o111)
    is_read = member.isreg() and member.size > 0 and (is_small_program or not is_published)
    data = _searched(opened(), member.size) if is_read else b""
    is_own = is_read and not is_published
    credential = next(find_credentials(data), None) if is_own else None
    private = is_own and not credential and may_hold_credentials(posixpath.basename(path))
    is_text = is_read and (path.startswith(LOADER) or (member.mode & 0o111 and _interpreter(data) in SHELLS))
    return AuditFile(
        kinds=frozenset(_kinds(path, member)),
        text=data.decode(errors="replace") if is_text else None,
        package=path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO")),
        cache=member.size if member.isreg() and is_cache(path) else 0,
        credential=credential.what if credential else None,
        private=private,
        cut=is_own and not credential and not private and 0 < len(data) < member.size,
    )


def _searched(stream: Readable, length: int) -> bytes:
    """What is searched of a file: the start of a text, all of a small binary file, and nothing of a larger one."""
    head = stream.read(_PROBED)
    is_skipped = length > _LARGEST_SCRIPT and is_binary(head)
    return b"" if is_skipped else head + stream.read(_LARGEST_TEXT - len(head))


def _interpreter(data: bytes) -> str:
    """The program that a script's first line names, also after `env`; empty without one."""
    words = data[2:].partition(b"\n")[0].decode(errors="replace").split() if data.startswith(b"#!") else []
    names = [posixpath.basename(word) for word in words if not word.startswith("-")]
    return next((name for name in names if name != "env"), "")


def _kinds(path: str, member: TarEntry) -> Iterator[str]:
    if member.mode & _SPECIAL and (member.isreg() or member.islnk()):
        yield "setuid"
    if found := re.match(audit_table().kinds, path):
        yield str(found.lastgroup)
