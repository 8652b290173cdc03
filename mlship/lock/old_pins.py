"""Pins that are older than the image's Python: all at once, because pip stops at the first that it cannot build."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from mlship.lock.hashes import supported_tags
from mlship.lock.index import IndexFile, project_files
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.project.config import Config


@dataclass(frozen=True)
class OldPin:
    """A pin without a wheel for the image, and the next version that has one."""

    requirement: Requirement
    path: str
    line: int
    newer: Version

    def __str__(self) -> str:
        name, place = self.requirement.name, f"{self.path}, line {self.line}"
        return f"`{name}=={self.newer}` instead of `{self.requirement}` ({place})"


def find_old_pins(files: Sequence[InputFile], config: Config, settings: PipSettings) -> tuple[OldPin, ...]:
    """Pins of versions that have wheels for other Pythons only."""
    pins = list(_pins(files))
    pages = project_files(settings, [requirement.name for requirement, *_ in pins])
    return tuple(found for pin in pins if (found := _old(*pin, pages[canonicalize_name(pin[0].name)], config)))


def _pins(files: Sequence[InputFile]) -> Iterator[tuple[Requirement, str, int]]:
    for file in files:
        for number, line in file.lines():
            try:
                requirement = Requirement(re.split(r"\s--hash|\s*\\$", line, maxsplit=1)[0])
            except (InvalidRequirement, RecursionError):
                continue
            if [one.operator for one in requirement.specifier] == ["=="]:
                yield requirement, file.path, number


def _wheels(files: Sequence[IndexFile]) -> dict[Version, set[Tag]]:
    """The tags of each version's wheels; indexes have invalid names of old ones."""
    found: dict[Version, set[Tag]] = {}
    for file in files:
        if file.filename.endswith(".whl"):
            with suppress(InvalidWheelFilename):
                _, version, _, tags = parse_wheel_filename(file.filename)
                found.setdefault(version, set()).update(tags)
    return found


def _old(requirement: Requirement, path: str, line: int, files: Sequence[IndexFile], config: Config) -> OldPin | None:
    tags = frozenset(supported_tags(config))
    wheels = _wheels(files)
    fitting = {version for version, found in wheels.items() if not tags.isdisjoint(found)}
    try:
        pinned = Version(next(iter(requirement.specifier)).version)
    except InvalidVersion:
        return None
    newer = [version for version in fitting if version > pinned and not version.is_prerelease]
    old = pinned in wheels.keys() - fitting
    return OldPin(requirement, path, line, min(newer)) if old and newer else None
