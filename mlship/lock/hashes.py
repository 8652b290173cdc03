"""Adds hashes to what pip-compile resolved, from what the indexes report. Pure, apart from hashing local files."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mlship.lock.indexes import local_path
from mlship.lock.inputs import InputFile
from mlship.lock.installable import allows_python, supported_tags
from mlship.lock.pages import IndexFile
from mlship.lock.pins import Pin
from mlship.project.config import Config

_PIN = re.compile(
    r"(?P<pin>(?P<name>[A-Za-z0-9][\w.-]*)(\[[^\]]*\])?==(?P<version>[^\s;]+)( ;[^#]*?)?)(\s+# (?P<why>.*))?"
)
_BLOCK = re.compile(r"^(?P<pin>[A-Za-z0-9]\S*)(?: .*)?(?:\n    .*)*", re.MULTILINE)  # a pin with its hashes
_SDISTS = 1_000_000  # rank of a source archive: after every wheel


@dataclass(frozen=True)
class HashedPin:
    """One pin with what the indexes report about its version.

    Attributes:
        lines: in pip-compile's format.
        hashes: empty if an index reports none for a file.
        installed: the file that the image installs; None if unknown.
    """

    name: str
    lines: str
    hashes: tuple[str, ...]
    installed: IndexFile | None


@dataclass(frozen=True)
class Hashed:
    """A lock in pip-compile's format.

    Attributes:
        missing: names of what has no hash.
        offered: what the indexes have, by canonical name.
    """

    text: str
    pins: tuple[HashedPin, ...]
    missing: tuple[str, ...]
    offered: Mapping[str, tuple[IndexFile, ...]]

    def completed(self, text: str) -> "Hashed":
        """The same pins, with the hashes that pip-compile itself found for those that have none here."""
        known = {pin.lines.split()[0]: pin.lines for pin in self.pins if pin.hashes}
        text = _BLOCK.sub(lambda block: known.get(block["pin"], block[0]), text)
        return replace(self, text=text, missing=())

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the file that each pin installs, by package; unknown sizes are absent."""
        return {pin.name: pin.installed.size for pin in self.pins if pin.installed and pin.installed.size}

    def needing_another(self, python: str) -> dict[str, str]:
        """What each pin needs that does not run on this full version of Python, by name."""
        needs = {pin.name: pin.installed.requires_python for pin in self.pins if pin.installed}
        return {name: need for name, need in needs.items() if not allows_python(need, python)}


def pinned_names(text: str) -> tuple[str, ...]:
    """Canonical names of the pins in pip-compile's output."""
    return tuple(canonicalize_name(match["name"]) for line in text.splitlines() if (match := _PIN.fullmatch(line)))


def with_hashes(
    text: str,
    files: Mapping[str, tuple[IndexFile, ...]],
    kept: Iterable[Pin],
    config: Config,
    hash_local: Callable[[Path], str],
) -> Hashed:
    """Add the hashes of all files of each pin's version.

    Args:
        text: output of pip-compile without hashes.
        files: what the indexes report, by canonical name.
        kept: the previous pins; one that did not move keeps its hashes, so that a wheel that is uploaded later changes
            no lock.
        hash_local: `sha256:<hex>` of a file.
    """
    before = {(pin.name, pin.version): pin.hashes for pin in kept}
    tags = {tag: rank for rank, tag in enumerate(supported_tags(config))}
    lines, pins, missing = list[str](), list[HashedPin](), list[str]()
    for line in text.splitlines():
        match = _PIN.fullmatch(line)
        if match is None:
            lines.append(line)
            missing += [] if not line.strip() or line.startswith("#") else [line.split()[0]]
            continue
        name, version = canonicalize_name(match["name"]), match["version"]
        found = [file for file in files.get(name, ()) if file.is_of(Version(version))]
        hashes = _hashes(found, before.get((name, version), ()), hash_local)
        why = f"\n    # {match['why']}" if match["why"] else ""
        block = " \\\n".join([match["pin"].rstrip(), *(f"    --hash={digest}" for digest in hashes)])
        pin = HashedPin(name, block + why, hashes, _installed(found, tags))
        pins.append(pin)
        lines.append(pin.lines)
        missing += [] if hashes else [name]
    return Hashed("\n".join(lines) + "\n", tuple(pins), tuple(missing), files)


def own_wheels(
    inputs: Iterable[InputFile], files: Mapping[str, tuple[IndexFile, ...]]
) -> dict[str, tuple[IndexFile, ...]]:
    """For wheels that the requirements name by path: only these, since an index may have a stranger's of that name."""
    names = {PurePosixPath(path).name for file in inputs for path in file.wheels.values()}
    only: dict[str, tuple[IndexFile, ...]] = {}
    for name in names:
        project = parse_wheel_filename(name)[0]
        found = (file for file in files.get(project, ()) if (path := local_path(file.url)) and path.name == name)
        only[project] = (*only.get(project, ()), *found)
    return only


def _hashes(found: list[IndexFile], before: tuple[str, ...], hash_local: Callable[[Path], str]) -> tuple[str, ...]:
    """All hashes of a version, or the previous ones if they are still right; empty if one is unknown."""
    local = [path for file in found if (path := local_path(file.url)) is not None]
    remote = [file.sha256 for file in found if local_path(file.url) is None]
    reported = {f"sha256:{digest}" for digest in remote if digest} | {hash_local(path) for path in local}
    if before and reported & set(before):
        return before
    return () if None in remote else tuple(sorted(reported))


def _installed(found: list[IndexFile], tags: Mapping[Tag, int]) -> IndexFile | None:
    """The file with the best tag, as pip and uv choose."""
    ranked = [(rank, file.filename, file) for file in found if (rank := _rank(file, tags)) is not None]
    return min(ranked, default=(0, "", None), key=lambda row: row[:2])[2]


def _rank(file: IndexFile, tags: Mapping[Tag, int]) -> int | None:
    if not file.filename.endswith(".whl"):
        return _SDISTS
    return min((tags[tag] for tag in parse_wheel_filename(file.filename)[3] if tag in tags), default=None)
