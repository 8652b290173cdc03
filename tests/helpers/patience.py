"""Time limits of tests, scaled by one factor: MLSHIP_TEST_PATIENCE=5 on a loaded machine. [default: 1]"""

import os

PATIENCE = float(os.environ.get("MLSHIP_TEST_PATIENCE") or 1)


def limit(seconds: float) -> float:
    """The seconds that a test waits before it fails."""
    return seconds * PATIENCE
