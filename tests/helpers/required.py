"""Requirements of tests: without them a test skips, or fails if MLSHIP_REQUIRE names the layer."""

import os
from typing import NoReturn

import pytest


def is_required(*layers: str) -> bool:
    """Whether MLSHIP_REQUIRE, a comma-separated list, names one of these layers."""
    return not set(layers).isdisjoint(os.environ.get("MLSHIP_REQUIRE", "").split(","))


def unavailable(reason: str, *layers: str) -> NoReturn:
    """End a test that cannot run, with the reason.

    Args:
        layers: the names in MLSHIP_REQUIRE with which that is a failure.
    """
    if is_required(*layers):
        pytest.fail(f"MLSHIP_REQUIRE={os.environ['MLSHIP_REQUIRE']}, but {reason}", pytrace=False)
    pytest.skip(reason)
