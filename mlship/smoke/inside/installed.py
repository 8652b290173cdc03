"""Prints what is installed in an image as one line of JSON. Standard library only, valid for Python 3.8."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path

_STATUS = "/var/lib/dpkg/status"  # https://man7.org/linux/man-pages/man1/dpkg.1.html, FILES
_RELEASE = "/etc/os-release"


def python_packages() -> list[tuple[str, str]]:
    """Name and version of each distribution that Python finds."""
    named = ((each.metadata["Name"], each.version) for each in distributions())
    return sorted({(name, version) for name, version in named if name and version})


def debian_packages(text: str) -> list[tuple[str, str, str]]:
    """Name, version and architecture of each installed package in dpkg's status file."""
    found = []
    for paragraph in text.split("\n\n"):
        pairs = (line.partition(":") for line in paragraph.splitlines() if line[:1] not in {" ", "\t"})
        fields = {key: value.strip() for key, _, value in pairs}
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version", "Architecture"} <= fields.keys():
            found.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(found)


def os_release(text: str) -> dict[str, str]:
    """Names and values: https://www.freedesktop.org/software/systemd/man/latest/os-release.html."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def main() -> None:
    release = os_release(_text(_RELEASE))
    found = {
        "python": platform.python_version(),
        "system": release.get("ID", ""),
        "release": release.get("VERSION_ID", ""),
        "wheels": python_packages(),
        "debs": debian_packages(_text(_STATUS)),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
