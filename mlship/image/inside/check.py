"""Checks all groups together: every pin is installed once, in its version, and nothing else is.

    check.py PINS METADATA ...

PINS is JSON: a list of {"name", "version", "marker"}. METADATA are folders of `*.dist-info`, one a group.
Needs the base image's pip, as it knows versions and markers; it is not shipped.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlship.image.inside.install import canonical
else:  # beside this one, in the build; -I leaves its folder out
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from install import canonical


def main(arguments: list[str]) -> int:
    pins = [pin for pin in json.loads(Path(arguments[0]).read_text()) if is_meant(pin["marker"])]
    found: dict[str, list[str]] = {}
    for package in distributions(path=arguments[1:]):
        found.setdefault(canonical(package.metadata["Name"]), []).append(package.version)
    wrong = list(differences({pin["name"]: pin["version"] for pin in pins}, found))
    sys.stderr.writelines(f"mlship: {line}\n" for line in wrong)
    return 1 if wrong else 0


def is_meant(marker: str | None) -> bool:
    """The pin is for this Python and platform."""
    if not marker:
        return True
    from pip._vendor.packaging.markers import Marker

    return bool(Marker(marker).evaluate())


def differences(pins: dict[str, str], found: dict[str, list[str]]) -> Iterator[str]:
    """Where what is installed is not what is locked, as lines for people."""
    for name in sorted({*pins, *found}):
        versions = found.get(name, [])
        if name not in pins:
            yield f"{name} {', '.join(versions)} is installed, and the lock does not have it"
        elif not versions:
            yield f"{name} {pins[name]} is locked, and it is not installed"
        elif len(versions) > 1 or not same(versions[0], pins[name]):
            yield f"{name} {pins[name]} is locked, and installed is {', '.join(versions)}"


def same(one: str, other: str) -> bool:
    """1.0 is 1.0.0."""
    if one == other:
        return True
    from pip._vendor.packaging.version import InvalidVersion, Version

    try:
        return bool(Version(one) == Version(other))
    except InvalidVersion:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
