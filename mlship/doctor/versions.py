"""Driver and toolkit versions, compared as numbers: "560.35.5" and "560.35.05" are the same."""

import re

_VERSION = re.compile(r"\d+(?:\.\d+)*")


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version; empty where it has none."""
    found = _VERSION.search(version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def same(one: str, other: str) -> bool:
    """They agree as far as both go: NVML says "570.124" of 570.124.06. What is no version agrees with nothing else."""
    if not (version_numbers(one) and version_numbers(other)):
        return one == other
    return all(a == b for a, b in zip(version_numbers(one), version_numbers(other), strict=False))


def newer(one: str, other: str) -> bool:
    return not same(one, other) and version_numbers(one) > version_numbers(other)


def branch(version: str) -> str:
    """The driver branch: "550" of "550.54.15"."""
    return str(next(iter(version_numbers(version)), ""))
