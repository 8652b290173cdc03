"""Driver versions as NVIDIA writes them. Pure."""

import re

EXPECTED = "a driver version such as 550.54.15, as `nvidia-smi` prints it"
_VERSION = re.compile(r"(?P<version>[1-9]\d{2,3}\.\d{1,3}(?:\.\d{1,3})?)(?P<suffix>[-+~_ (].*)?")


def split_driver(text: str) -> tuple[str, str]:
    """The plain version, and what a packager or a vGPU driver added to it: ("550.54.15", "-grid").

    Raises:
        ValueError: it is no driver version.
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text[:60]!r} is not {EXPECTED}")
    return found["version"], found["suffix"] or ""


def branch(version: str) -> int:
    """The driver branch of a plain version: 550 of 550.54.15."""
    return int(version.partition(".")[0])
