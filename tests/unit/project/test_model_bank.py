"""Every hostile file is refused and every good one accepted, each in bounded time and memory."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.project.config import Model
from mlship.project.weights import check_weights
from tests.helpers.hostile_files import hostile_files, write_giants
from tests.helpers.model_files import good_files
from tests.helpers.patience import limit

SECONDS = 1.0
MEMORY = 200 << 20


def is_accepted(path: Path) -> bool:
    try:
        check_weights(path.parent, Model.model_construct(weights=(path.name,), allow_pickle=()))
    except UsageError:
        return False
    return True


def problems(folder: Path) -> Iterator[str]:
    """Check the whole bank, and say which file broke a promise."""
    files = {name: content for name, (_, content) in good_files().items()}
    hostile = dict(hostile_files())
    assert len(files) >= 25
    assert len(hostile) >= 90
    for good, bank in ((True, files), (False, hostile)):
        for name, content in bank.items():
            path = folder / ("saved_model.pb" if name == "saved_model.pb" else f"{'good' if good else 'bad'}-{name}")
            path.write_bytes(content)
            yield from _problem(path, good=good)
            path.unlink()
    for path, good in write_giants(folder):
        yield from _problem(path, good=good)
        path.unlink()


def _problem(path: Path, *, good: bool) -> Iterator[str]:
    start = time.process_time()
    if is_accepted(path) is not good:
        yield f"{path.name} is {'refused' if good else 'accepted'}"
    seconds = time.process_time() - start
    if seconds > limit(SECONDS):
        yield f"{path.name} takes {seconds:.1f} s"


@pytest.mark.slow
def test_the_bank(tmp_path: Path) -> None:
    """In a process of its own, whose memory is that of the checks."""
    run = subprocess.run(
        [sys.executable, "-m", __spec__.name, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=limit(300),
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


if __name__ == "__main__":
    list(good_files())
    hostile_bytes = sum(len(content) for _, content in hostile_files())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = list(problems(Path(sys.argv[1])))
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if more > MEMORY:
        found.append(f"the checks take {more >> 20} MiB")
    print("\n".join(found), end="")  # noqa: T201  the result of this process
    sys.exit(bool(found))
