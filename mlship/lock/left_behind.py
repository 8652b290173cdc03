"""Requirements whose locked version is far older than what they allow: pip goes back as far as other pins force it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from mlship.lock.hashes import supported_tags
from mlship.lock.index import IndexFile
from mlship.lock.inputs import InputFile
from mlship.lock.pins import Pin
from mlship.project.config import Config

_FAR = 50  # releases


def left_behind(
    files: Sequence[InputFile], pins: Iterable[Pin], config: Config, offered: Mapping[str, Sequence[IndexFile]]
) -> Iterator[str]:
    """A sentence for each requirement that is locked to a version far behind.

    Args:
        offered: what the indexes have, by canonical name.
    """
    allowed: dict[str, SpecifierSet] = {}
    for one in (one for file in files for one in _requirements(file)):
        own = canonicalize_name(one.name)
        allowed[own] = allowed.get(own, SpecifierSet()) & one.specifier
    exact = {name for name, of in allowed.items() if any(part.operator in ("==", "===") for part in of)}
    locked = {pin.name: Version(pin.version) for pin in pins if pin.name in allowed.keys() - exact}
    tags = frozenset(supported_tags(config))
    for name, version in sorted(locked.items()):
        fitting = [file for file in offered.get(name, ()) if allows_python(file.requires_python, config.python)]
        newer = [one for one in _wheels(fitting, tags) if one > version and one in allowed[name]]
        if len(newer) > _FAR:
            yield (
                f"{name} {version} is locked, although `{name}{allowed[name]}` allows {max(newer)}: another pin "
                "excludes it; run `mlship lock --upgrade`, or require the newer version to see which pin"
            )


def _requirements(file: InputFile) -> Iterator[Requirement]:
    """Requirements by name, of the file and of what it constrains."""
    for _, line in file.lines():
        with suppress(InvalidRequirement, RecursionError):
            requirement = Requirement(re.split(r"\s--hash|\s*\\$", line, maxsplit=1)[0])
            if requirement.url is None:
                yield requirement


@lru_cache(maxsize=1000)  # pages have thousands of files, and few different limits
def allows_python(requires: str, python: str) -> bool:
    """Whether a file with this limit installs on a Python such as 3.11."""
    try:
        return SpecifierSet(requires).contains(f"{python}.0")
    except InvalidSpecifier:
        return False


def _wheels(files: Iterable[IndexFile], tags: frozenset[Tag]) -> set[Version]:
    """Released versions with a wheel for the image."""
    found: set[Version] = set()
    for file in files:
        with suppress(InvalidWheelFilename):
            if file.filename.endswith(".whl"):
                _, version, _, own = parse_wheel_filename(file.filename)
                if not (version.is_prerelease or tags.isdisjoint(own)):
                    found.add(version)
    return found
