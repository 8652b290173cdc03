"""hadolint finds no faults in the Dockerfiles of the examples."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.patience import limit

GOLDEN = Path(__file__).parents[1] / "golden"
# Debian packages are not pinned: the base's digest pins the release, and security updates are welcome.
IGNORED = ("DL3008",)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*/Dockerfile")), ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ignored = [part for rule in IGNORED for part in ("--ignore", rule)]
    done = subprocess.run(
        [hadolint, "--no-color", *ignored, path], capture_output=True, text=True, timeout=limit(60), check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
