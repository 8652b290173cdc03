"""A line of a requirements file as a requirement, the versions in it, and whether its marker holds in an image."""

import re
from contextlib import suppress

from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_WHEEL = re.compile(r"(\w+://(?:[^\s;/]*/)+([^\s;/-]+)-[^\s;/]+\.whl(?:#[^\s;]*)?)(\s*;.*)?")
_OPTIONS = re.compile(r"\s+#|\s--hash|\s*;?\s*\\?\s*$")  # and a semicolon without a marker, which pip takes


def requirement_in(line: str) -> Requirement | None:
    """The requirement in a line that may have hashes and a comment; None for an option, a path and other lines.

    The address of a wheel has a name and a version, with which it is a requirement.
    """
    text = _OPTIONS.split(line, maxsplit=1)[0].strip()
    wheel = _WHEEL.fullmatch(text)
    return parse_requirement(f"{wheel[2]} @ {wheel[1]} {wheel[3] or ''}" if wheel else text)


def parse_requirement(text: str) -> Requirement | None:
    """The requirement in a text; `===` is taken for `==`, since no index has versions that only it compares."""
    try:
        return Requirement(text.replace("===", "=="))
    except (InvalidRequirement, RecursionError):
        return None


def package_version(text: str) -> Version | None:
    """The version that a text is, such as 2.8.0+cu126; None for another text."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def specifiers(text: str | None) -> SpecifierSet:
    """The specifiers in a text; none, which allow every version, if it has none that are valid."""
    with suppress(InvalidSpecifier):
        return SpecifierSet(text or "")
    return SpecifierSet()


def marker_may_hold(marker: Marker | str, platform: str, python: str, extra: str = "") -> bool:
    """Whether a marker may be true on a platform and Python; one that cannot be evaluated may be."""
    environment = {
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": MACHINES[platform],
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": extra,
    }
    try:
        return Marker(str(marker)).evaluate(environment)
    except (InvalidMarker, UndefinedEnvironmentName, RecursionError):
        return True
