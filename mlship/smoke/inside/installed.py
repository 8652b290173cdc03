"""Prints what is installed in an image as one line of JSON. Standard library only, valid for Python 3.8."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import Message
    from importlib.metadata import PackageMetadata

_STATUS = "/var/lib/dpkg/status"  # https://man7.org/linux/man-pages/man1/dpkg.1.html, FILES
_RELEASE = "/etc/os-release"
_COPYRIGHT = (
    "/usr/share/doc/{}/copyright"  # https://www.debian.org/doc/debian-policy/ch-docs.html#copyright-information
)
_LONGEST_NAME = 100  # characters; a longer one is the text of a license
_NO_NAMES = {"UNKNOWN", "NONE"}


def python_packages() -> list[tuple[str, str]]:
    """Name and version of each distribution that Python finds."""
    named = ((each.metadata["Name"], each.version) for each in distributions())
    return sorted({(name, version) for name, version in named if name and version})


def python_licenses(metadata: Message | PackageMetadata) -> tuple[str, list[str]]:
    """A distribution's SPDX expression, else what it calls its licenses.

    Metadata before PEP 639 has a name or a whole text in `License`, and classifiers.
    https://packaging.python.org/en/latest/specifications/core-metadata/#license-expression
    """
    expression, text = (str((metadata.get_all(key) or ("",))[0]).strip() for key in ("License-Expression", "License"))
    if expression:
        return expression, []
    if text and "\n" not in text and len(text) <= _LONGEST_NAME and text.upper() not in _NO_NAMES:
        return "", [text]
    rows = (row.split(" :: ") for row in metadata.get_all("Classifier") or ())
    return "", sorted({row[-1] for row in rows if row[0] == "License" and len(row) > 1 and row[-1] != "OSI Approved"})


def debian_licenses(text: str) -> list[str]:
    """The short names in a copyright file that programs can read; empty for another.

    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    if not text.startswith("Format:") or "copyright-format/1.0" not in text.partition("\n")[0]:
        return []
    found = set()
    for paragraph in text.split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line.startswith(("Files:", "License:"))]
        if lines and lines[0].startswith("Files:"):
            found |= {line.partition(":")[2].strip() for line in lines if line.startswith("License:")}
    return sorted(name for name in found if name and len(name) <= _LONGEST_NAME)


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
    licenses = {each.metadata["Name"]: python_licenses(each.metadata) for each in distributions()}
    debs = debian_packages(_text(_STATUS))
    found = {
        "python": platform.python_version(),
        "system": release.get("ID", ""),
        "release": release.get("VERSION_ID", ""),
        "wheels": python_packages(),
        "debs": debs,
        "expressions": {name: found for name, (found, _) in licenses.items() if name and found},
        "licenses": {name: found for name, (_, found) in licenses.items() if name and found},
        "copyrights": {name: found for name, *_ in debs if (found := debian_licenses(_text(_COPYRIGHT.format(name))))},
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
