"""Pins without a wheel for the image's Python: all at once, because pip stops at the first that it cannot install."""

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mlship.lock.index import project_files
from mlship.lock.indexes import PipSettings
from mlship.lock.inputs import InputFile
from mlship.lock.installable import wheel_versions
from mlship.lock.pages import IndexFile
from mlship.project.config import PYTHONS, Config


@dataclass(frozen=True)
class OldPin:
    """A pin without a wheel for the image, and the next version that has one; None where no newer one has."""

    requirement: Requirement
    path: str
    line: int
    newer: Version | None

    def __str__(self) -> str:
        name, place = self.requirement.name, f"{self.path}, line {self.line}"
        return f"`{name}=={self.newer}` instead of `{self.requirement}` ({place})"


@dataclass(frozen=True)
class OldPins:
    """All such pins, and the newest Python for which none is left; None where there is none."""

    pins: tuple[OldPin, ...]
    python: str | None


def find_old_pins(files: Sequence[InputFile], config: Config, settings: PipSettings) -> OldPins | None:
    """Pins of versions that no index has, or for other Pythons only; None where nothing can be changed about them."""
    listed = [(one, file.path, line) for file in files for line, one in file.requirements()]
    pins = [pin for pin in listed if [clause.operator for clause in pin[0].specifier] == ["=="]]
    pages = project_files(settings, [requirement.name for requirement, *_ in pins])

    def old(config: Config) -> tuple[OldPin, ...]:
        return tuple(found for pin in pins if (found := _old(*pin, pages[canonicalize_name(pin[0].name)], config)))

    found = old(config)
    others = [python for python in PYTHONS if python != config.python] if found else []
    python = next((one for one in reversed(others) if not old(config.model_copy(update={"python": one}))), None)
    changeable = tuple(pin for pin in found if pin.newer or python)
    return OldPins(changeable, python) if changeable else None


def _old(requirement: Requirement, path: str, line: int, files: Sequence[IndexFile], config: Config) -> OldPin | None:
    wheels = wheel_versions(files, config)
    try:
        pinned = Version(next(iter(requirement.specifier)).version)
    except InvalidVersion:
        return None
    least = Version(pinned.public)  # of +cu118, which only another index may have
    newer = [one for one, fits in wheels.items() if fits and one >= least and one != pinned and not one.is_prerelease]
    absent = bool(files) and not any(file.is_of(pinned) for file in files)
    old = absent or wheels.get(pinned) is False
    return OldPin(requirement, path, line, min(newer, default=None)) if old else None
