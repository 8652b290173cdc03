"""What a test cannot go without: skipped where it is missing, a failure where MLSHIP_REQUIRE says it must be there."""

import os
from typing import NoReturn

import pytest


def is_required(*layers: str) -> bool:
    """MLSHIP_REQUIRE, a comma-separated list, names one of these layers."""
    return not set(layers).isdisjoint(os.environ.get("MLSHIP_REQUIRE", "").split(","))


def unavailable(reason: str, *layers: str) -> NoReturn:
    """End the test here: it cannot run, for this reason.

    Args:
        layers: the names in MLSHIP_REQUIRE with which that is a failure.
    """
    if is_required(*layers):
        pytest.fail(f"MLSHIP_REQUIRE={os.environ['MLSHIP_REQUIRE']}, but {reason}", pytrace=False)
    pytest.skip(reason)
