"""Requirements without a file for the image: all at once, because pip stops at the first that it cannot install."""

import re
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
from mlship.requirement_line import marker_may_hold

_FOR_LINUX = re.compile(r"linux[^-]*\.whl$|[-.]any\.whl$|\.(?:zip|gz|bz2|tgz)$")


@dataclass(frozen=True)
class OldPin:
    """A pin without a wheel for the image, and the next version that has one; None where no newer one has."""

    requirement: Requirement
    path: str
    line: int
    newer: Version | None
    elsewhere: bool = False  # every file is for Windows or macOS, also if it is no pin

    def __str__(self) -> str:
        newer = "" if self.elsewhere else f"`{self.requirement.name}=={self.newer}` instead of "
        return f"{newer}`{self.requirement}` ({self.path}, line {self.line})"


@dataclass(frozen=True)
class OldPins:
    """All such pins, and the newest Python for which none is left; None where there is none."""

    pins: tuple[OldPin, ...]
    python: str | None


def find_old_pins(files: Sequence[InputFile], config: Config, settings: PipSettings) -> OldPins | None:
    """What no index has for the image's Python or system; None where nothing can be changed about it."""
    listed = [(one, file.path, line) for file in files for line, one in file.requirements()]
    asked = [one for one in listed if marker_may_hold(one[0].marker or "", config.platform, config.python)]
    pages = project_files(settings, [requirement.name for requirement, *_ in asked])

    def old(config: Config) -> tuple[OldPin, ...]:
        return tuple(found for one in asked if (found := _old(*one, pages[canonicalize_name(one[0].name)], config)))

    found = old(config)
    others = () if all(pin.elsewhere for pin in found) else PYTHONS[::-1]
    images = (config.model_copy(update={"python": python}) for python in others if python != config.python)
    python = next((image.python for image in images if all(pin.elsewhere for pin in old(image))), None)
    changeable = tuple(pin for pin in found if pin.newer or python or pin.elsewhere)
    return OldPins(changeable, python) if changeable else None


def _old(requirement: Requirement, path: str, line: int, files: Sequence[IndexFile], config: Config) -> OldPin | None:
    clauses = list(requirement.specifier)
    try:
        pinned = Version(clauses[0].version) if [clause.operator for clause in clauses] == ["=="] else None
    except InvalidVersion:  # a pattern
        return None
    fitting = [file for file in files if pinned is None or file.is_of(pinned)]
    wheels = wheel_versions(files, config) if pinned else {}
    least = Version(pinned.public) if pinned else Version("0")  # of +cu118, which only another index may have
    newer = [one for one, fits in wheels.items() if fits and one >= least and one != pinned and not one.is_prerelease]
    if fitting and not newer and not any(_FOR_LINUX.search(file.filename) for file in fitting):
        return OldPin(requirement, path, line, None, elsewhere=True)
    if pinned is None:
        return None
    old = (bool(files) and not fitting) or wheels.get(pinned) is False
    return OldPin(requirement, path, line, min(newer, default=None)) if old else None
