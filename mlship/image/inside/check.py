"""Checks that every pin is installed once, in its version, and nothing else is.

    check.py PINS METADATA ...

PINS is JSON: a list of {"name", "version", "marker"}. METADATA are folders of `*.dist-info`, one per group.
Uses the base image's pip, which does not ship, to compare versions and evaluate markers.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # the base image has no bytecode of the standard library: keep what these imports compile
    sys.pycache_prefix = "/root/.cache/mlship/" + "".join(filter(str.isalnum, sys.version))

import json
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlship.image.inside.install import canonical
else:  # in the build, install.py lies beside this file, and -I leaves this folder out of the path
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from install import canonical


def main(arguments: list[str]) -> int:
    pins, *metadata = arguments
    wrong = list(package_problems(pins, metadata))
    sys.stderr.writelines(f"mlship: {line}\n" for line in wrong)
    return 1 if wrong else 0


def package_problems(file: str, metadata: list[str]) -> Iterator[str]:
    pins = [pin for pin in json.loads(Path(file).read_text()) if applies(pin["marker"])]
    found: dict[str, list[str]] = {}
    for package in distributions(path=metadata):
        found.setdefault(canonical(package.metadata["Name"]), []).append(package.version)
    yield from differences({pin["name"]: pin["version"] for pin in pins}, found)


def applies(marker: str | None) -> bool:
    """Whether a pin applies to this Python and platform."""
    if not marker:
        return True
    from pip._vendor.packaging.markers import Marker

    return bool(Marker(marker).evaluate())


def differences(pins: dict[str, str], found: dict[str, list[str]]) -> Iterator[str]:
    """Differences between locked and installed packages, one line each."""
    for name in sorted({*pins, *found}):
        versions = found.get(name, [])
        if name not in pins:
            yield f"{name} {', '.join(versions)} is installed but not locked"
        elif not versions:
            yield f"{name} {pins[name]} is locked but not installed"
        elif len(versions) > 1 or not same(versions[0], pins[name]):
            yield f"{name} {pins[name]} is locked, but {', '.join(versions)} is installed"


def same(one: str, other: str) -> bool:
    """Whether two versions are equal, as 1.0 and 1.0.0 are."""
    if one == other:
        return True
    from pip._vendor.packaging.version import InvalidVersion, Version

    try:
        return bool(Version(one) == Version(other))
    except InvalidVersion:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
